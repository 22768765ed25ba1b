"""Does the text guide the masks? What is lost when masks are prompted with the [SEG] of another artifact.

The true answer is given, so the k-th [SEG] stands for the k-th artifact and nothing has to be matched. Then
the network decodes the masks three times: each from its own [SEG]; from that of the next artifact of the same
picture; from that of an artifact of the next picture of the same group (another group may show the same scene
again). Equal figures would mean that masks ignore the text,
and that one mask per picture would do. Only pictures with two or more artifacts take part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from contracts.errors import InvalidInput
from contracts.protocols import Defender
from defender.datasets import Collator
from defender.evaluation.figures import Figure, Row, by_group, mean_of_lists, ratio_of
from defender.evaluation.metrics import foreground_f1
from defender.evaluation.pictures import Picture
from defender.legion_defender import LegionDefender
from defender.model import Inputs

OWN, OTHER_ARTIFACT, OTHER_PICTURE = "own", "another artifact", "another picture"


def wanted(picture: Picture) -> bool:
    """Pictures with several artifacts."""
    return len(picture.sample.findings) > 1


@torch.no_grad()
def look(defender: Defender, pictures: Sequence[Picture]) -> Iterator[Row]:
    """Decode the masks of all pictures three times. Raises InvalidInput unless the defender is a LEGION.

    A picture alone of its group in a batch has no next one, and its row has no "another picture".
    """
    if not isinstance(defender, LegionDefender):
        raise InvalidInput(
            f"only LEGION has [SEG] embeddings to exchange, not the defender '{defender.name}'"
        )
    model = defender.model
    inputs = Collator(model.config, defender.dialog)([picture.sample for picture in pictures]).inputs
    out = model(_on(inputs, model.device))
    following = next_of_group([picture.group for picture in pictures])
    prompts = {
        OWN: torch.arange(len(out.owner_M), device=model.device),
        OTHER_ARTIFACT: next_of_same_owner(out.owner_M),
        OTHER_PICTURE: next_owners(out.owner_M, following),
    }
    masks = {}
    for name, taken in prompts.items():
        low_res, _ = model.decode_masks(out.sam_BCgg, out.prompts_MC[taken], out.owner_M)
        masks[name] = model.all_full_size(low_res, out.owner_M, inputs.resized, inputs.original)
    for i, picture in enumerate(pictures):
        shown = {
            name: found[i] for name, found in masks.items() if name != OTHER_PICTURE or following[i] != i
        }
        yield {**picture.head, **{name: _f1(picture, found) for name, found in shown.items()}}


def _f1(picture: Picture, logits_MHW: Tensor) -> list[float]:
    """F1 of each artifact's mask; an artifact whose [SEG] the longest allowed text cut off is left out."""
    pairs = zip(picture.sample.findings, (logits_MHW > 0).cpu().numpy(), strict=False)
    return [foreground_f1(mask, finding.mask) for finding, mask in pairs]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """F1 per artifact with its own and with exchanged embeddings, and the points that the exchange costs."""
    return by_group(rows, _of_group)


def _of_group(group: str, rows: Sequence[Row]) -> list[Figure]:
    found = mean_of_lists(group, "F1 per artifact", [row[OWN] for row in rows])
    for name in (OTHER_ARTIFACT, OTHER_PICTURE):
        having = [row for row in rows if name in row]
        found += mean_of_lists(group, f"F1 with the [SEG] of {name}", [row[name] for row in having])
        lost = [sum(row[OWN]) - sum(row[name]) for row in having]
        found += ratio_of(
            group, f"F1 lost to {name}", lost, [len(row[OWN]) for row in having], difference=True
        )
    return found


def _on(inputs: Inputs, device: torch.device) -> Inputs:
    moved = {
        name: getattr(inputs, name).to(device) for name in ("clip_B3SS", "sam_B3SS", "ids_BT", "attention_BT")
    }
    return replace(inputs, **moved)


def next_of_same_owner(owner_M: Tensor) -> Tensor:
    """Index of the next mask of the same picture, the first one after the last; owners come in order."""
    owners = owner_M.tolist()
    first = {owner: i for i, owner in reversed(list(enumerate(owners)))}
    following = [
        i + 1 if i + 1 < len(owners) and owners[i + 1] == owner else first[owner]
        for i, owner in enumerate(owners)
    ]
    return torch.tensor(following, dtype=torch.long, device=owner_M.device)


def next_of_group(groups: Sequence[str]) -> list[int]:
    """For each picture the next one of its group, the first one after the last; itself where it is alone."""
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    following = {
        i: after for same in members.values() for i, after in zip(same, same[1:] + same[:1], strict=True)
    }
    return [following[i] for i in range(len(groups))]


def next_owners(owner_M: Tensor, following: Sequence[int]) -> Tensor:
    """For each mask one of the picture that follows its own: of the same rank, or as near as there is one.

    A picture whose follower has no mask keeps its own.
    """
    owners = owner_M.tolist()
    members: dict[int, list[int]] = {}
    for i, owner in enumerate(owners):
        members.setdefault(owner, []).append(i)
    taken = []
    for i, owner in enumerate(owners):
        others = members.get(following[owner], members[owner])
        taken.append(others[min(members[owner].index(i), len(others) - 1)])
    return torch.tensor(taken, dtype=torch.long, device=owner_M.device)
