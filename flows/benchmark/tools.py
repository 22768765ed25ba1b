"""The models of a profile for all arms of a benchmark, each loaded when the first arm asks for it.

Pictures are painted once: two arms that ask for the same prompt with the same seed share the picture (each is
charged for it all the same). And they are painted in batches of one fixed size, filled up by repeating:
arithmetic depends on a batch's size and not on what is in it, so results are the same however the work is cut
up, among processes too. Pictures that a server sells are bought one by one, and none to fill up.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from contracts.errors import InvalidInput
from contracts.protocols import Defender, Generator, Inpainter, MemoryBank, PromptModifier, Scorer
from contracts.records import GenerationRequest, Image, InpaintRequest, Lesson, Repair, Run, Verdict
from controller.inpainting import InpaintingSettings
from controller.regeneration import RegenerationSettings
from controller.region_gate import MeasuredGate, RegionGate, RegionGateSettings
from controller.regions import RegionSettings
from controller.steps import Event, ignore
from flows.profiles.loading import Profile, ScorerProfile, load_profile

if TYPE_CHECKING:
    from tabletop.judge import JudgeNetwork

LOCK = threading.RLock()
"""Held while a model of this process works: pipelines keep state and serve one thread at a time."""
PAINTED_AT_ONCE = 8
"""On a CPU as fast as more; a smaller number leaves less to fill up."""
REMEMBERED = 1024
"""Pictures whose diagnosis is kept: all that the arms of one share have in common."""
CALLS = frozenset(("generate", "inpaint", "diagnose", "score", "revise"))


class Toolbox:
    """What arms work with. `profile_name` is a profile's name or path."""

    def __init__(self, profile_name: str, bank: MemoryBank, budget: int) -> None:
        """`budget` is how many generator calls an arm has for each prompt."""
        self.profile_name, self.budget = profile_name, budget
        self.profile: Profile = load_profile(profile_name)
        self.on_event: Callable[[Event], None] = ignore
        self.bank = cast(MemoryBank, Forgetful(bank))
        self.known = KnownPictures(bank)
        self.runs: dict[str, Run] = {}
        """Every run of the share in hand, by its id."""

    def for_share(self, bank: MemoryBank | None = None) -> Toolbox:
        """The same models with nothing remembered, as shares have no picture in common; on another memory
        bank if one is given."""
        box = copy.copy(self)
        box.bank = self.bank if bank is None else cast(MemoryBank, Forgetful(bank))
        box.known, box.runs = KnownPictures(box.bank), {}
        return box

    def done(self, runs: Sequence[Run]) -> Sequence[Run]:
        """Remember the pictures and the seconds of an arm's runs; the same runs."""
        self.runs |= {run.run_id: run for run in runs}
        self.known.learn(runs)
        return runs

    @property
    def suffix(self) -> str:
        """Quality words for every prompt."""
        return self.profile.benchmark.suffix

    @property
    def batch_size(self) -> int:
        """Pictures that a step of a loop hands to a model at once."""
        return self.profile.generator.batch_size

    @property
    def painted_at_once(self) -> int:
        """Pictures per call of the painter."""
        return min(PAINTED_AT_ONCE, self.batch_size)

    @property
    def generator(self) -> Generator:
        """Paints what no arm of the share has painted before."""
        return cast(Generator, Shared(self.painter, self.known))

    @cached_property
    def painter(self) -> Generator:
        """Paints whatever it is asked for."""
        from flows import assemble

        painter = assemble.generator(self.profile_name, exact=False)
        return cast(Generator, _locked(painter if self._buys else self._steady(painter)))

    @cached_property
    def inpainter(self) -> Inpainter:
        from flows import assemble

        painter = assemble.inpainter(self.profile_name, exact=False)
        buys = self._buys and not self.profile.inpainting.path
        return cast(Inpainter, _locked(painter if buys else self._steady(painter)))

    @property
    def _buys(self) -> bool:
        """Whether pictures come from a server, which is paid for each."""
        return self.profile.generator.kind == "openai-images"

    def _steady(self, painter: Generator | Inpainter) -> Steady:
        return Steady(painter, self.painted_at_once)

    @cached_property
    def defender(self) -> Defender:
        """Looks at a picture once."""
        return self._looking({})

    @cached_property
    def regeneration_defender(self) -> Defender:
        """The same network, as the regeneration loop looks."""
        changes = self.profile.looking
        return self._looking(changes) if changes else self.defender

    def _looking(self, changes: Mapping[str, object]) -> Defender:
        from flows import assemble

        looking = assemble.remembering(assemble.defender(self.profile_name, **changes), REMEMBERED)
        return cast(Defender, _locked(looking))

    @cached_property
    def selection_scorer(self) -> Scorer:
        """The scorer that chooses, and therefore never reports."""
        return self.scorer(self.profile.selection_scorer)

    def scorer(self, section: ScorerProfile) -> Scorer:
        """A scorer of the profile. Raises InvalidInput and CheckpointError."""
        from flows import assemble

        return cast(Scorer, _locked(assemble.profile_scorer(section, self.profile_name)))

    def area_scorer(self, name: str) -> Scorer:
        """1 minus the share of a picture in which the defender finds something."""
        from flows import assemble

        return assemble.area_scorer(name, self.defender)

    @cached_property
    def modifier(self) -> PromptModifier:
        from flows import assemble

        return cast(PromptModifier, _locked(assemble.modifier(self.profile_name, self.painter)))

    @cached_property
    def region_modifier(self) -> PromptModifier:
        """The modifier, for what the inpainter reads."""
        from flows import assemble

        return cast(PromptModifier, _locked(assemble.modifier(self.profile_name, self.inpainter)))

    @cached_property
    def judge(self) -> tuple[JudgeNetwork, str]:
        """The judge of the tabletop world, for reports and the oracle. Raises InvalidInput if the profile has
        none, CheckpointError."""
        from tabletop import judging

        if not self.profile.benchmark.judge:
            raise InvalidInput(
                f"the profile '{self.profile.name}' has no judge: only the tabletop world has one"
            )
        return judging.load(Path(self.profile.benchmark.judge))

    @cached_property
    def oracle(self) -> Defender:
        """The judge in the defender's place."""
        from tabletop.judging import JudgeDefender

        return cast(Defender, _locked(JudgeDefender(*self.judge)))

    @property
    def gate(self) -> RegionGate:
        limits = self.profile.inpainting.gate.model_dump()
        return MeasuredGate(RegionGateSettings(self.profile.selection_scorer.name, **limits))

    def regeneration(self, rounds: int) -> RegenerationSettings:
        """The profile's loop with so many rounds at most."""
        loop = self.profile.loop
        return RegenerationSettings(
            rounds=rounds,
            patience=loop.patience,
            score_tolerance=loop.score_tolerance,
            batch_size=self.batch_size,
        )

    def inpainting(self, calls: int) -> InpaintingSettings:
        """The profile's repairs with so many paintings at most: the most rewarding region, once a round."""
        return self._repairs(rounds=calls, tries=calls, top_k=1)

    @property
    def repairing(self) -> InpaintingSettings:
        """The profile's repairs, all regions of each round, each painted once."""
        section = self.profile.inpainting
        return self._repairs(section.rounds, section.tries, section.regions.top_k)

    def _repairs(self, rounds: int, tries: int, top_k: int) -> InpaintingSettings:
        section = self.profile.inpainting
        regions = {**section.regions.model_dump(), "top_k": top_k}
        return InpaintingSettings(
            rounds=rounds,
            candidates=1,
            tries=tries,
            strength=section.strength,
            quality=section.quality,
            match_colors=section.match_colors,
            regions=RegionSettings(**regions),
            batch_size=self.batch_size,
        )


class KnownPictures:
    """Which picture a prompt and a seed give, as far as some arm has painted it."""

    def __init__(self, bank: MemoryBank) -> None:
        self._bank = bank
        self._digests: dict[GenerationRequest, str] = {}

    def learn(self, runs: Iterable[Run]) -> None:
        """Remember what these runs have painted."""
        for run in runs:
            if run.kind == "regeneration":
                for item in run.rounds:
                    if item.image is not None:
                        self._digests[GenerationRequest(item.prompt, item.seed)] = item.image

    def get(self, request: GenerationRequest) -> Image | None:
        """The picture; None if nobody has painted it."""
        digest = self._digests.get(request)
        return None if digest is None else self._bank.image(digest)


class Shared:
    """A Generator that paints only what is not known."""

    def __init__(self, generator: Generator, known: KnownPictures) -> None:
        self._generator, self._known = generator, known
        self.name = generator.name

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        """As the generator's own."""
        found = {request: self._known.get(request) for request in dict.fromkeys(requests)}
        missing = [request for request, image in found.items() if image is None]
        painted = self._generator.generate(missing) if missing else []
        found |= dict(zip(missing, painted, strict=True))
        return [cast(Image, found[request]) for request in requests]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)


class Steady:
    """A Generator or Inpainter whose batches all have one size: the last one is filled up by repeating."""

    def __init__(self, tool: Any, size: int) -> None:
        self._tool, self._size = tool, size
        self.name = tool.name

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        """As the tool's own."""
        return self._by_kind(requests, lambda r: bool(r.negative_prompt), self._tool.generate)

    def inpaint(self, requests: Sequence[InpaintRequest]) -> list[Image]:
        """As the tool's own."""
        return self._by_kind(requests, _kind_of_repair, self._tool.inpaint)

    def _by_kind(
        self,
        requests: Sequence[Any],
        kind: Callable[[Any], Hashable],
        work: Callable[[Sequence[Any]], list[Image]],
    ) -> list[Image]:
        """Only requests of one kind go into one batch, as the tool itself would part them."""
        groups: dict[Hashable, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(kind(request), []).append(i)
        images: dict[int, Image] = {}
        for group in groups.values():
            painted = _in_full_batches([requests[i] for i in group], self._size, work)
            images |= dict(zip(group, painted, strict=True))
        return [images[i] for i in range(len(requests))]

    def describe(self) -> Mapping[str, object]:
        """As the tool's own, with the size, which the last digits of a result depend on."""
        return {**self._tool.describe(), "batch": self._size}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tool, name)


class Forgetful:
    """A memory bank from which no run learns what helped in another, and to which none teaches it: arms stay
    independent, results do not depend on the order in which prompts are worked on, and no oracle and no mask
    in a random place teaches a person's own runs."""

    def __init__(self, bank: MemoryBank) -> None:
        self._bank = bank

    def recall(self, *_: object, **__: object) -> tuple[Lesson, ...]:
        """Nothing."""
        return ()

    def commit_verdict(self, run_id: str, index: int, verdict: Verdict, trials: object = ()) -> None:
        """Without what it taught."""
        self._bank.commit_verdict(run_id, index, verdict)

    def commit_repair(
        self,
        run_id: str,
        index: int,
        region: int,
        repair: Repair,
        picture: Image | None,
        trials: object = (),
    ) -> str | None:
        """Without what it taught."""
        return self._bank.commit_repair(run_id, index, region, repair, picture)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bank, name)


class _Locked:
    """A tool that works for one thread at a time."""

    def __init__(self, tool: Any) -> None:
        self._tool = tool

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._tool, name)
        return _alone(value) if name in CALLS else value


def _locked(tool: Any) -> Any:
    return _Locked(tool)


def _alone(work: Callable[..., Any]) -> Callable[..., Any]:
    def locked(*values: Any) -> Any:
        with LOCK:
            return work(*values)

    return locked


def _kind_of_repair(request: InpaintRequest) -> Hashable:
    return request.image.shape, request.strength, bool(request.negative_prompt)


def _in_full_batches(
    requests: Sequence[Any], size: int, work: Callable[[Sequence[Any]], list[Image]]
) -> list[Image]:
    results: list[Image] = []
    for start in range(0, len(requests), size):
        batch = list(requests[start : start + size])
        filled = [batch[i % len(batch)] for i in range(size)]
        results += work(filled)[: len(batch)]
    return results
