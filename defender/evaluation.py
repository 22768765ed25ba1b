"""How good a defender is, as numbers, and the threshold at which it should speak up.

Localization follows the paper (arXiv 2503.15264, section 5): union of all predicted masks against union of
all true ones; mIoU is the mean of foreground and background IoU, F1 that of the foreground; both averaged
over images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from contracts.protocols import Defender
from contracts.records import Diagnosis, Finding, Mask
from defender.checkpoint import Thresholds
from defender.datasets import Collator, Sample, Samples
from defender.legion_defender import LegionDefender
from defender.model import Legion

_CHUNK = 64


def foreground_f1(predicted: Mask, true: Mask) -> float:
    """2 TP / (2 TP + FP + FN); 1 where both are empty."""
    total = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / total if total else 1.0


def iou(predicted: Mask, true: Mask) -> float:
    """Intersection over union; 1 where both are empty."""
    union = int((predicted | true).sum())
    return int((predicted & true).sum()) / union if union else 1.0


def mean_iou(predicted: Mask, true: Mask) -> float:
    """Mean of the foreground's and the background's IoU."""
    return (iou(predicted, true) + iou(~predicted, ~true)) / 2


def match(findings: Sequence[Finding], true: Sequence[Finding]) -> list[tuple[Finding, Finding]]:
    """Pairs (true, found), best IoU first, each used once, overlap above zero."""
    ranked = sorted(
        ((iou(f.mask, t.mask), i, j) for i, t in enumerate(true) for j, f in enumerate(findings)),
        reverse=True,
    )
    pairs, used_true, used_found = [], set(), set()
    for overlap, i, j in ranked:
        if overlap > 0 and i not in used_true and j not in used_found:
            pairs.append((true[i], findings[j]))
            used_true.add(i)
            used_found.add(j)
    return pairs


def evaluate(defender: Defender, samples: Samples) -> dict[str, float]:
    """All figures, shares from 0 to 1. Figures without anything to measure are left out.

    * `mIoU`, `F1`: over flawed pictures, per-image mean; `F1 over pixels`: over all their pixels at once;
    * `detected`: flawed pictures with a finding; `false alarms`: clean renders with one;
    * `finding F1`: mean over true findings of the F1 with the finding matched to it, 0 where none is;
    * `category`, `phrase`: matched findings named right;
    * `real or generated`: accuracy of the detection head.
    """
    values: dict[str, list[float]] = {}
    overlap = predicted_total = true_total = 0

    def note(name: str, value: float) -> None:
        values.setdefault(name, []).append(float(value))

    for sample, diagnosis in _diagnosed(defender, samples):
        if sample.is_real is not None and diagnosis.synthetic_probability is not None:
            note("real or generated", (diagnosis.synthetic_probability < 0.5) == sample.is_real)
        if not sample.findings:
            note("false alarms", bool(diagnosis.findings))
            continue
        shape = (sample.image.shape[0], sample.image.shape[1])
        predicted, true = diagnosis.union(shape), Diagnosis(sample.findings).union(shape)
        note("mIoU", mean_iou(predicted, true))
        note("F1", foreground_f1(predicted, true))
        note("detected", bool(diagnosis.findings))
        overlap += int((predicted & true).sum())
        predicted_total, true_total = predicted_total + int(predicted.sum()), true_total + int(true.sum())
        pairs = match(diagnosis.findings, sample.findings)
        for wanted, found in pairs:
            note("category", found.category == wanted.category)
            note("phrase", found.phrase == wanted.phrase)
            note("finding F1", foreground_f1(found.mask, wanted.mask))
        for _ in range(len(sample.findings) - len(pairs)):
            note("finding F1", 0.0)
    figures = {name: float(np.mean(found)) for name, found in values.items()}
    if true_total:
        figures["F1 over pixels"] = 2 * overlap / max(1, predicted_total + true_total)
    return figures


@torch.no_grad()
def text_guidance(model: Legion, collate: Collator, samples: Samples) -> dict[str, float]:
    """Does the text guide the masks? F1 per finding with the true answer given, and with prompts exchanged.

    Pictures with two findings or more; "exchanged" gives each finding the [SEG] embedding of the next one of
    its picture. Equal figures mean that the masks ignore the text.
    """
    own: list[float] = []
    exchanged: list[float] = []
    several = [i for i in range(len(samples)) if len(samples[i].findings) > 1]
    model.eval()
    for chunk in _chunks(several):
        batch = collate([samples[i] for i in chunk])
        out = model(batch.inputs)
        following = _next_of_same_owner(out.owner_M)
        low_res, _ = model.decode_masks(out.sam_BCgg, out.prompts_MC[following], out.owner_M)
        others = model.all_full_size(low_res, out.owner_M, batch.inputs.resized, batch.inputs.original)
        for true, masks, swapped in zip(batch.targets.masks, out.masks, others, strict=True):
            for t, m, s in zip(true[: len(masks)] > 0, masks > 0, swapped > 0, strict=True):
                own.append(foreground_f1(m.numpy(), t.numpy()))
                exchanged.append(foreground_f1(s.numpy(), t.numpy()))
    if not own:
        return {}
    return {"finding F1": float(np.mean(own)), "finding F1, exchanged": float(np.mean(exchanged))}


def _next_of_same_owner(owner_M: torch.Tensor) -> torch.Tensor:
    """Index of the next mask of the same picture, the first one after the last; owners come in order."""
    owners = owner_M.tolist()
    first = {owner: i for i, owner in reversed(list(enumerate(owners)))}
    following = [
        i + 1 if i + 1 < len(owners) and owners[i + 1] == owner else first[owner]
        for i, owner in enumerate(owners)
    ]
    return torch.tensor(following, dtype=torch.long)


def calibrate(defender: LegionDefender, samples: Samples, false_alarms: float = 0.04) -> Thresholds:
    """Thresholds at which the share of clean pictures with a finding is `false_alarms` on these samples."""
    clean = [
        share
        for chunk in _chunks([i for i in range(len(samples)) if not samples[i].findings])
        for share in defender.artifact_probability([samples[i].image for i in chunk])
    ]
    if not clean:
        return defender.thresholds
    limit = float(np.quantile(clean, 1 - false_alarms, method="higher"))
    return replace(defender.thresholds, artifact_probability=min(1.0, limit + 1e-4))


def _diagnosed(defender: Defender, samples: Samples) -> Iterator[tuple[Sample, Diagnosis]]:
    for chunk in _chunks(range(len(samples))):
        batch = [samples[i] for i in chunk]
        yield from zip(batch, defender.diagnose([sample.image for sample in batch]), strict=True)


def _chunks(indices: Sequence[int]) -> Iterator[Sequence[int]]:
    return (indices[i : i + _CHUNK] for i in range(0, len(indices), _CHUNK))
