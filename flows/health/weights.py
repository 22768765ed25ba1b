"""Are a profile's weights here, with every file that their loader reads? And which command gets them?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from contracts.hub import hub_name
from controller.checkpoints import how_to_get, lacks_of_pipeline, whole
from flows.profiles.loading import Profile, ScorerProfile

GET = {
    "models/legion": (
        "legion weights import khr0516/legion_LE models/legion --clip openai/clip-vit-large-patch14-336",
    ),
    "models/hpsv2": ("hf download xswu/HPSv2 HPS_v2.1_compressed.pt --local-dir models/hpsv2",),
    "models/imagereward": (
        "hf download THUDM/ImageReward ImageReward.pt med_config.json --local-dir models/imagereward",
        "hf download google-bert/bert-base-uncased vocab.txt --local-dir models/imagereward",
    ),
    "models/pickscore": (
        'hf download yuvalkirstain/PickScore_v1 --include "*.json" --include "*.txt" '
        '--include "*.safetensors" --local-dir models/pickscore',
    ),
    "tabletop/weights": ("make train-tabletop",),
}
"""How to get what the bundled profiles name by path; the keys are parts of those paths."""

LEGION = (("config.json",), ("model*.safetensors", "pytorch_model*.bin"), ("tokenizer.model",))
CLIP = (
    ("config.json",),
    ("preprocessor_config.json",),
    ("*.safetensors", "*.bin"),
    ("tokenizer.json", "vocab.json"),
)
"""Files that loaders read; of each group one is enough."""


class Part(NamedTuple):
    """Weights that a profile names."""

    name: str
    path: str
    kind: str
    """What loads them: "pipeline", "legion", "clip", "imagereward", or "file"."""
    variant: str = ""

    @property
    def commands(self) -> tuple[str, ...]:
        """What gets them, in order."""
        if hub_name(self.path):
            return (how_to_get(self.path, self.variant),)
        place = Path(self.path).as_posix()
        return next((how for part, how in GET.items() if part in place), (f"put the weights there: {place}",))

    def lacks(self) -> str:
        """What is missing of them here, empty if nothing. Opens no network and loads nothing."""
        path = Path(self.path)
        if hub_name(self.path):
            return "" if _on_this_machine(self.path, self.variant) else "it is not in the hub's cache whole"
        if not path.exists():
            return "there is nothing"
        match self.kind:
            case "pipeline":
                return lacks_of_pipeline(path, self.variant)
            case "legion":
                return _lacks(path, LEGION)
            case "clip":
                return _lacks(path, CLIP)
            case "imagereward":
                return _lacks(path.parent, ((path.name,), ("vocab.txt",)))
        return _lacks(path.parent, ((path.name,),))


def parts(profile: Profile) -> list[Part]:
    """All weights that a profile names."""
    scorers = (profile.selection_scorer, *profile.reporting_scorers)
    generator, inpainting, defender = profile.generator, profile.inpainting, profile.defender
    named = [
        Part("generator", generator.path, "pipeline", generator.variant),
        Part("inpainter", inpainting.path, "pipeline", inpainting.variant),
        Part("defender", defender.path, "legion" if defender.kind == "legion" else "file"),
        *(Part(f"scorer {scorer.name}", scorer.path, _kind(scorer)) for scorer in scorers),
        *(Part(f"LoRA {number}", lora.path, "file") for number, lora in enumerate(generator.loras, start=1)),
        Part("language model", profile.modifier.gguf or "", "file"),
    ]
    return [part for part in named if part.path]


def commands(profile: Profile) -> list[str]:
    """Everything that gets a profile's weights, each command once."""
    return list(dict.fromkeys(command for part in parts(profile) for command in part.commands))


def examine(profile: Profile) -> list[dict[str, Any]]:
    """Each part as plain values."""
    return [_examined(part, part.lacks()) for part in parts(profile)]


def _examined(part: Part, lacks: str) -> dict[str, Any]:
    get = " && ".join(part.commands)
    return {"part": part.name, "path": part.path, "here": not lacks, "lacks": lacks, "get": get}


def _kind(scorer: ScorerProfile) -> str:
    if scorer.kind in ("clip", "clipscore", "pickscore"):
        return "clip"
    return "imagereward" if scorer.kind == "imagereward" else "file"


def _lacks(folder: Path, needed: Sequence[Sequence[str]]) -> str:
    """The first file that is not there, or was cut short; empty if all are there."""
    for group in needed:
        found = [path for pattern in group for path in sorted(folder.glob(pattern))]
        if not found:
            return f"{' or '.join(group)} is missing"
        if cut := next(_cut(found), None):
            return f"{cut.name} is cut short"
    return ""


def _cut(files: Sequence[Path]) -> Iterator[Path]:
    return (path for path in files if not whole(path))


def _on_this_machine(name: str, variant: str) -> bool:
    """Is a pipeline of that name in the hub's cache, with all of its weights?"""
    from flows.assemble import on_this_machine

    return on_this_machine(name, variant)
