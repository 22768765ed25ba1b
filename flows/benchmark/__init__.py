"""Does the loop beat equal compute? Arms side by side on the same prompts and seeds, with statistics.

prompts.py     which prompts are asked for: files, the HPDv2 layout, the tabletop set
arms.py        the registry: one function per way of getting a picture
trails.py      what an arm did for one prompt: the picture it had after each step, and what that took
tools.py       the models of a profile for all arms, pictures drawn once
measuring.py   what the final pictures are worth, by scorers that never selected
statistics.py  intervals, growth, wins, repair and break rates, Holm's correction; no model, no file
results.py     everything measured, as plain rows; written and read again
figures.py     rows into tables: means, comparisons, curves, costs
running.py     shares of the prompts, claimed by lease, worked on until all are done
flow.py        the Prefect flow around it, over threads, Dask or Ray
page.py        the HTML page; tables.py the Markdown; picture.py the answer as one SVG
"""
