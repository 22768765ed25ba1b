"""From a diagnosis to the next picture, and whether that one is better.

- regeneration.py   the loop: paint, diagnose, score, judge, revise, over many runs in lockstep
- gate.py           is a round better than the best so far, and does the run go on?
- modifiers.py      findings -> a prompt that says what should be seen
- prompt_rules.py   which prompts a person may give, alone or in a file
- checkpoints.py    what weights a folder holds
- generators/       prompt -> picture, over diffusers
- scorers/          picture and prompt -> how much a person would like it
"""
