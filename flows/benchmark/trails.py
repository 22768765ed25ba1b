"""What an arm did for one prompt: the picture it would hand over after each step, and what it took so far.

Read off the memory bank's record of the run, so it is the same for a run that was stopped and taken up again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

from contracts.records import Round, Run, Usage

Work: TypeAlias = Literal["paint", "inpaint", "diagnose", "look", "score", "revise"]
WORK: tuple[Work, ...] = get_args(Work)
"""Kinds of model calls, for one picture each: painting a picture; painting a region; looking for flaws;
looking at a repair and scoring it; scoring; writing a prompt."""
ORACLE = "judge"
"""The defender whose looks are not timed, as it is no competitor's: they are charged like the others'."""


@dataclass(frozen=True)
class Spent:
    """How often each kind of model was called for one prompt."""

    paint: int = 0
    inpaint: int = 0
    diagnose: int = 0
    look: int = 0
    score: int = 0
    revise: int = 0
    tokens: int = 0
    """Of the language model that writes prompts, in and out; 0 where rules write."""
    usd: float = 0.0
    """US dollars for these tokens; 0 where no price is known."""

    @property
    def calls(self) -> int:
        """Generator calls, which are what arms have an equal budget of. A region counts like a picture."""
        return self.paint + self.inpaint

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    def seconds(self, prices: Mapping[str, float]) -> float:
        """Model seconds at a price for each kind of call; a kind without a price was never measured, 0."""
        return sum(getattr(self, kind) * prices.get(kind, 0.0) for kind in WORK)


@dataclass(frozen=True)
class Stand:
    """Where an arm stood after a step."""

    picture: str
    """Digest of the picture that it would hand over."""
    spent: Spent
    """All that was done so far."""


@dataclass(frozen=True)
class Trail:
    """An arm's way for one prompt and seed."""

    stands: tuple[Stand, ...]
    """In order; the first is after the first picture."""

    def within(self, calls: int) -> Stand:
        """Where it stood when the next step would have taken more than `calls` generator calls."""
        return self._last(lambda stand: stand.spent.calls <= calls)

    def within_seconds(self, seconds: float, prices: Mapping[str, float]) -> Stand:
        """The same for model seconds; the first stand where even that took more."""
        return self._last(lambda stand: stand.spent.seconds(prices) <= seconds * (1 + 1e-9))

    @property
    def end(self) -> Stand:
        return self.stands[-1]

    def _last(self, allowed: Callable[[Stand], bool]) -> Stand:
        kept = [stand for stand in self.stands if allowed(stand)]
        return kept[-1] if kept else self.stands[0]


def of_rounds(run: Run) -> Trail:
    """A run of regeneration, or of drawing again: a stand after each round."""
    spent, best, stands = Spent(), "", []
    for item in run.rounds:
        if item.image is None:
            break
        spent += Spent(paint=1, diagnose=int(item.diagnosis is not None), score=int(item.scores is not None))
        if item.verdict is not None and item.verdict.accepted:
            best = item.image
        stands.append(Stand(best or item.image, spent))
        if item.revision is not None:  # it serves the next round
            spent += _written(item.revision.usage)
    return Trail(tuple(stands))


def of_repairs(run: Run, before: Spent) -> Trail:
    """A run of inpainting, `before` which something else painted the picture: a stand after each region."""
    first = run.rounds[0]
    assert first.image is not None
    spent, picture = before + Spent(diagnose=1, score=1), first.image
    stands = [Stand(picture, spent)]
    for item in run.rounds:
        for repair in item.repairs or ():
            tried = len(repair.candidates)
            spent += Spent(inpaint=tried, look=tried) + _written(repair.usage)
            picture = repair.picture or picture
            stands.append(Stand(picture, spent))
    return Trail(tuple(stands))


def _written(usage: Usage) -> Spent:
    """One prompt, and what a language model took for it."""
    return Spent(revise=1, tokens=usage.tokens, usd=usage.usd)


class Timing(NamedTuple):
    """Model seconds, and calls that were really made, of one kind."""

    seconds: float
    calls: int


def timing(runs: Iterable[Run]) -> dict[str, Timing]:
    """What the calls of these runs took, by kind.

    A picture that two arms share was painted once, and looked at once by each defender: all its records
    together hold the seconds of that one time. What the oracle is told takes it no time.
    """
    seconds = dict.fromkeys(WORK, 0.0)
    made: dict[str, set[object]] = {kind: set() for kind in WORK}
    for run in runs:
        for item in run.rounds:
            for kind, key, share in _calls(run, item):
                made[kind].add(key)
                seconds[kind] += share
    return {kind: Timing(seconds[kind], len(made[kind])) for kind in WORK if made[kind]}


def prices(parts: Iterable[Mapping[str, Timing]]) -> dict[str, float]:
    """Mean seconds of one call of each kind, over parts of the work that share no call."""
    total: dict[str, Timing] = {}
    for part in parts:
        for kind, (seconds, calls) in part.items():
            before = total.get(kind, Timing(0.0, 0))
            total[kind] = Timing(before.seconds + seconds, before.calls + calls)
    return {kind: timed.seconds / timed.calls for kind, timed in total.items()}


def _calls(run: Run, item: Round) -> Iterator[tuple[Work, object, float]]:
    """Each call that a round's record tells of: its kind, what makes it one of its own, its seconds."""
    took, defender = item.seconds, _defender(run)
    if run.kind == "inpainting":
        yield from _repair_calls(run, item)
    elif item.image is not None:
        yield "paint", (item.prompt, item.seed), took.get("image", 0.0)
    if item.diagnosis is not None and item.image is not None and _looked(run, item):
        if defender.get("name") != ORACLE:
            yield "diagnose", (str(defender), item.image), took.get("diagnosis", 0.0)
    if item.scores is not None and _looked(run, item):
        yield "score", (run.run_id, item.index), took.get("scores", 0.0)
    if item.revision is not None:
        yield "revise", (run.run_id, item.index), took.get("revision", 0.0)


def _defender(run: Run) -> Mapping[str, object]:
    """What the run's defender says of itself; nothing where none looked."""
    said = run.settings.get("defender")
    return said if isinstance(said, Mapping) else {}


def _looked(run: Run, item: Round) -> bool:
    """Later rounds of inpainting begin with a picture that was looked at before."""
    return run.kind != "inpainting" or item.index == 1


def _repair_calls(run: Run, item: Round) -> Iterator[tuple[Work, object, float]]:
    """A round's seconds are the sum over its regions, so they are shared out among them."""
    repairs: Sequence = item.repairs or ()
    tries = [(n, k) for n, repair in enumerate(repairs) for k, _ in enumerate(repair.candidates)]
    for number, _ in enumerate(repairs):
        share = item.seconds.get("prompt", 0.0) / len(repairs)
        yield "revise", (run.run_id, item.index, number), share
    for attempt in tries:
        key = (run.run_id, item.index, *attempt)
        yield "inpaint", key, item.seconds.get("paint", 0.0) / len(tries)
        yield "look", key, item.seconds.get("look", 0.0) / len(tries)
