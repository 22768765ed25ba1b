"""Every data set by its name: one call that gives samples, whatever lies on the disk.

plain         FOLDER/*                                      pictures, nothing known of them
folders       ROOT/GENERATOR[/CLASS]/{0_real,1_fake}/*      UniversalFakeDetect's test sets
synthscars    ROOT/SPLIT/{images,annotations}               also what `synthscars.export` writes
loki          ROOT/*.json and the pictures it names         one annotation file
richhf        ROOT/SPLIT.tfrecord and ROOT/<filename>       pictures from Pick-a-Pic
"""

from __future__ import annotations

from pathlib import Path

from contracts.errors import InvalidInput
from defender.annotated import Loki, RichHF
from defender.datasets import Samples
from defender.folders import GeneratorFolders, PlainFolder
from defender.synthscars import SynthScars

KINDS = ("plain", "folders", "synthscars", "loki", "richhf")


def open_samples(kind: str, root: Path, split: str = "test", is_real: bool | None = None) -> Samples:
    """The samples of a data set at `root`. Raises InvalidInput, in one line, where it is not as expected.

    `is_real` is what is known of a plain folder's pictures; the other kinds know it themselves.
    """
    if kind == "plain":
        return PlainFolder(root, is_real)
    if kind == "folders":
        return GeneratorFolders(root)
    if kind == "synthscars":
        return SynthScars(root, split)
    if kind == "loki":
        return Loki(_only_json(root), root)
    if kind == "richhf":
        return RichHF(root / f"{split}.tfrecord", root)
    raise InvalidInput(f"there is no data set called {kind}: choose {', '.join(KINDS)}")


def _only_json(root: Path) -> Path:
    files = sorted(root.glob("*.json"))
    if len(files) != 1:
        raise InvalidInput(f"{root} holds {len(files)} JSON files: keep only LOKI's annotations there")
    return files[0]
