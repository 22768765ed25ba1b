"""What a revised prompt must be, whoever wrote it; enforced in code, because a language model's word is no
guarantee.

1. The user's subject is kept (controller/subject.py), and not introduced a second time ("a cat on a sofa, a
   cat with four legs" paints two).
2. It says what should be seen: it neither names a flaw nor denies one nor repeats a finding's description.
   A diffusion model paints what a prompt names.
3. It is new: no earlier prompt of the run, and nothing in it twice.
4. The painter can read it: inside the text encoder's limit, in words the model knows.
5. It is a prompt: one line of plain text that talks about the picture, not about the task.

What the user's own prompt says is allowed everywhere: a broken vase may stay broken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from contracts.records import Finding, RevisionRequest
from controller.subject import lost, phrases, words_of
from prompts.words import Words

COPIED_WORDS = 4
"""So many words in a row out of a finding's explanation are a copy of it."""
_INTRODUCING = {"a", "an", "another"}
_MARKUP = re.compile(r"[{}<>\[\]()|`\\]|https?:|\*\*|^\s*(?:#|-|\d+\.)\s")


def broken_rules(
    prompt: str,
    request: RevisionRequest,
    words: Words,
    fits: Callable[[str], bool],
    unknown_words: Callable[[str], Sequence[str]],
    shown: Collection[str] = (),
) -> list[str]:
    """What is wrong with a prompt that answers the request, as short sentences for whoever wrote it; empty if
    nothing is. `shown` are words of examples, which a weak model likes to carry over."""
    user = request.user_prompt
    own = set(words_of(user))
    found = [f'the subject must stay: "{phrase}" is gone' for phrase in lost(user, prompt, words)]
    found += [f'"{noun}" would be painted once more' for noun in _multiplied(prompt, user, words)]
    found += [f'"{word}" names a flaw or denies one' for word in _new(words.flaws, prompt, user)]
    found += [f'"{claim}" repeats the flaw' for claim in repeated_claims(prompt, request, words)]
    found += [f'"{word}" talks about the task' for word in _new(words.talk, prompt, user)]
    found += [
        f'"{w}" belongs to an example' for w in dict.fromkeys(words_of(prompt)) if w in set(shown) - own
    ]
    if _same(prompt) in {_same(p) for p in (user, request.current_prompt, *request.earlier_prompts)}:
        found.append("this prompt was tried before")
    if twice := _said_twice(prompt, user):
        found.append(f'"{twice}" is said twice')
    if "\n" in prompt.strip() or (_MARKUP.search(prompt) and not _MARKUP.search(user)):
        found.append("it is not one line of plain text")
    known_before = set(unknown_words(user))
    found += [f'the painter does not know "{w}"' for w in unknown_words(prompt) if w not in known_before]
    if not fits(prompt):
        found.append("it is longer than the painter can read")
    return found


def _multiplied(prompt: str, user: str, words: Words) -> list[str]:
    """Nouns of the user's prompt that are introduced more often than the user did."""
    heads = dict.fromkeys(phrase[-1] for phrase in phrases(user, words))
    return [h for h in heads if _introduced(prompt, h, words) > max(1, _introduced(user, h, words))]


def _introduced(prompt: str, noun: str, words: Words) -> int:
    """How often the noun follows "a", "another" or a number, with adjectives between them at most."""
    said, count, is_open = words_of(prompt), 0, False
    for word in said:
        if word in _INTRODUCING or word in words.numbers:
            is_open = True
        elif word in words.function or word in words.relations:
            is_open = False
        elif is_open and words.same(word) == words.same(noun):
            count, is_open = count + 1, False
    return count


def repeated_claims(prompt: str, request: RevisionRequest, words: Words) -> list[str]:
    """Descriptions of a finding that the prompt repeats and the user did not give: a count the finding
    complains about ("six fingers"), what it says something is ("the wheel is oval"), or four words of its
    explanation in a row."""
    said, users = words_of(prompt), words_of(request.user_prompt)
    claims = [claim for finding in request.findings for claim in _claims(finding, words)]
    repeated = [c for c in dict.fromkeys(claims) if _within(c, said, words) and not _within(c, users, words)]
    return [" ".join(claim) for claim in repeated]


def _claims(finding: Finding, words: Words) -> list[tuple[str, ...]]:
    described = words_of(words.contrast.split(finding.explanation.casefold())[0])
    counts = [pair for pair in zip(described, described[1:], strict=False) if _counts(pair, words)]
    runs = [
        tuple(described[i : i + COPIED_WORDS])
        for i in range(len(described) - COPIED_WORDS + 1)
        if not words.function.issuperset(described[i : i + COPIED_WORDS])
    ]
    return [*counts, *_predicates(described, words), *runs]


def _predicates(described: Sequence[str], words: Words) -> list[tuple[str, ...]]:
    """What something is said to be: "waxy" and "pale" in "the skin is waxy and pale". What it is doing is
    left out: "falling" comes in the right state too."""
    found: list[tuple[str, ...]] = []
    is_open = False
    for word in described:
        if word in words.copulas:
            is_open = True
        elif is_open and word not in words.function and word not in words.relations:
            found += [(word,)] if not word.endswith("ing") and word not in words.numbers else []
        elif word != "and":
            is_open = False
    return found


def _counts(pair: tuple[str, ...], words: Words) -> bool:
    number, noun = pair
    return (number in words.numbers or number.isdigit()) and noun not in words.function


def _within(claim: Sequence[str], said: Sequence[str], words: Words) -> bool:
    """Are the claim's words in the text in a row, in singular or plural?"""
    wanted = [_singular(words.same(word)) for word in claim]
    there = [_singular(words.same(word)) for word in said]
    return any(there[i : i + len(wanted)] == wanted for i in range(len(there) - len(wanted) + 1))


def _singular(word: str) -> str:
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural else word


def _new(pattern: re.Pattern[str], prompt: str, user: str) -> list[str]:
    """Words of the prompt that match and are not the user's own, each once."""
    own = set(words_of(user))
    return [w for w in dict.fromkeys(words_of(prompt)) if w not in own and pattern.fullmatch(w)]


def _said_twice(prompt: str, user: str) -> str | None:
    """A part between commas, or three words in a row, that comes twice and not so in the user's prompt."""
    for pieces in (_parts, _threes):
        listed, own = pieces(prompt), pieces(user)
        for piece in listed:
            if listed.count(piece) > max(1, own.count(piece)):
                return piece
    return None


def _parts(prompt: str) -> list[str]:
    return [_same(part) for part in re.split(r"[,.;:]", prompt) if _same(part)]


def _threes(prompt: str) -> list[str]:
    words = words_of(prompt)
    return [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]


def _same(prompt: str) -> str:
    """What two prompts have in common that differ only in case, space or marks."""
    return " ".join(words_of(prompt)) or prompt.strip()
