"""LEGION as a defender: pictures in, findings out (contracts.protocols.Defender).

Confidence of a finding, 0..1, is the product of two probabilities the network itself gives: that the answer
opens with "there are artifacts" rather than "there are none" (1 for imported weights, which were not taught
these openings), and, averaged over the pixels inside its mask, that a pixel belongs to the artifact.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.errors import InvalidInput, ModelError
from contracts.memory import out_of_memory
from contracts.records import Diagnosis, Finding, Image
from defender import checkpoint, importing
from defender.answers import CLEAN_ANSWER, OPENING, Claim, claims_between
from defender.categories import categorize
from defender.checkpoint import Checkpoint, Thresholds
from defender.denoising import denoised
from defender.hub import locate
from defender.model import Answers, Branch
from defender.preprocess import clip_pixels, sam_pixels

log = logging.getLogger(__name__)


Alarm = Literal["artifact_probability", "min_confidence", "tile_confidence"]
"""Thresholds that decide whether a picture is given a finding."""


class LegionDefender:
    """One loaded LEGION. Answers are greedy, so the same picture always gets the same diagnosis."""

    name = "legion"

    def __init__(self, loaded: Checkpoint, batch_size: int = 16) -> None:
        self.model, self.dialog = loaded.model, loaded.dialog
        self.thresholds, self.digest, self.batch_size = loaded.thresholds, loaded.digest, batch_size
        self._prompt = torch.tensor(self.dialog.prompt, device=self.model.device)
        self._branch: Branch | None = None
        if self.model.config.verdict_first:
            artifact, clean = self.dialog.first_ids(OPENING, CLEAN_ANSWER)
            self._branch = Branch(artifact, clean, self.thresholds.artifact_probability)

    @classmethod
    def load(
        cls,
        path: Path | str,
        device: str = "cpu",
        dtype: torch.dtype | str = torch.float32,
        batch_size: int = 16,
        four_bit: bool = False,
        clip: Path | str | None = None,
        sam: Path | str | None = None,
    ) -> LegionDefender:
        """Load a checkpoint folder; `dtype` is torch's or its name. Raises CheckpointError, InvalidInput.

        A folder as LEGION's or GLaMM's authors release it is used as it is: `clip` and `sam` are paths of
        what it lacks, or names on the hub (`defender.importing`).
        """
        folder, number_type = Path(path), getattr(torch, dtype) if isinstance(dtype, str) else dtype
        if not checkpoint.is_other_projects(folder):
            return cls(checkpoint.load(folder, device, number_type, four_bit), batch_size)
        parts = {name: locate(given) for name, given in (("clip", clip), ("sam", sam)) if given}
        return cls(importing.load(folder, device, number_type, four_bit, **parts), batch_size)

    def diagnose(self, images: Sequence[Image]) -> list[Diagnosis]:
        """One diagnosis per picture (uint8 RGB, any size), independent of the others in the call.

        A batch that does not fit into memory is halved, for the calls that follow too. Raises InvalidInput
        for anything but uint8 (H, W, 3), ModelError if the network fails or not even one picture fits.
        """
        for i, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise InvalidInput(
                    f"picture {i + 1} must be uint8 RGB of shape (height, width, 3), "
                    f"not {image.dtype} {image.shape}"
                )
        images = self._quiet(images)
        results: list[Diagnosis] = []
        while len(results) < len(images):
            results += self._as_many_as_fit(images[len(results) : len(results) + self.batch_size])
        return results

    @torch.no_grad()
    def inclinations(self, images: Sequence[Image]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """What calibration looks at, one number per picture, before any threshold or calibration: how much
        the network is inclined to say that there are artifacts, 0..1, and its logit of "generated" (None
        where the detection head was never trained).

        Where no opening decides (`verdict_first`), the inclination is the confidence of the surest finding.
        """
        images = self._quiet(images)
        shares, logits = [np.zeros(0)], [np.zeros(0)]
        for start in range(0, len(images), self.batch_size):
            together = images[start : start + self.batch_size]
            cls_BP, patches_BNP = self._look(together)
            logits.append(self._synthetic_logit(cls_BP).cpu().numpy())
            if self._branch is not None:
                opened = self.model.generate(patches_BNP, self._prompt, max_new_tokens=1, branch=self._branch)
                shares.append(opened.artifact_B.cpu().double().numpy())
        if self._branch is None:
            eager = self.at(min_confidence=0.0, max_noise=1.0)  # they are quiet by now
            shares.append(np.array([surest(diagnosis) for diagnosis in eager.diagnose(images)]))
        return np.concatenate(shares), np.concatenate(logits) if self.model.config.has_detection else None

    def with_thresholds(self, thresholds: Thresholds) -> LegionDefender:
        """The same network under other thresholds."""
        return LegionDefender(Checkpoint(self.model, self.dialog, thresholds, self.digest), self.batch_size)

    def at(self, **limits: float) -> LegionDefender:
        """The same network, these of its thresholds changed."""
        return self.with_thresholds(replace(self.thresholds, **limits))

    @property
    def alarm(self) -> Alarm:
        """The threshold that `inclinations` are compared with."""
        return "min_confidence" if self._branch is None else "artifact_probability"

    def describe(self) -> Mapping[str, object]:
        """What a record needs to diagnose again: checkpoint, thresholds, arithmetic."""
        weight = self.model.lm_head.weight
        return {
            "name": self.name,
            "checkpoint": self.digest,
            "thresholds": asdict(self.thresholds),
            "dtype": str(weight.dtype).removeprefix("torch."),
            "device": weight.device.type,
            "instruction": self.dialog.config.instruction,
        }

    def _quiet(self, images: Sequence[Image]) -> Sequence[Image]:
        """Without noise beyond `max_noise`. A picture of more than twice the size that SAM sees is left to
        the scaling, which averages noise away."""
        limit, largest = self.thresholds.max_noise, 2 * self.model.config.sam.image_size
        if limit >= 1:
            return images
        return [denoised(image, limit) if max(image.shape) <= largest else image for image in images]

    def _look(self, images: Sequence[Image]) -> tuple[Tensor, Tensor]:
        size = self.model.config.vision.image_size
        return self.model.look(torch.stack([clip_pixels(i, size) for i in images]).to(self.model.device))

    def _synthetic_logit(self, cls_BP: Tensor) -> Tensor:
        """Log odds (B,) of "generated", double precision; the head's column 1 is real, 0 generated."""
        logits_B2 = self.model.detect(cls_BP).double()
        return logits_B2[:, 0] - logits_B2[:, 1]

    def _as_many_as_fit(self, images: Sequence[Image]) -> list[Diagnosis]:
        """Diagnoses of the batch, or none, and smaller batches from now on."""
        try:
            return self._diagnose_batch(images)
        except (RuntimeError, MemoryError, ValueError, OverflowError) as error:
            if not out_of_memory(error):
                raise ModelError(f"the defender failed ({_first_line(error)})") from error
            if len(images) == 1:
                raise ModelError(
                    "the defender does not fit into memory even for one picture: load it with four_bit = "
                    "true or dtype = 'bfloat16', or on another device; what is done is kept"
                ) from error
        # Outside the handler: as long as the error lives, its frames hold what should be freed.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.batch_size = len(images) // 2
        log.warning(
            "the defender: %d pictures at once do not fit into memory, trying %d",
            len(images),
            self.batch_size,
        )
        return []

    @torch.no_grad()
    def _diagnose_batch(self, images: Sequence[Image]) -> list[Diagnosis]:
        model, config = self.model, self.model.config
        cls_BP, patches_BNP = self._look(images)
        answers = model.generate(patches_BNP, self._prompt, branch=self._branch)
        masks = self._masks(images, answers)
        synthetic: list[float | None] = [None] * len(images)
        if config.has_detection:
            limits = self.thresholds
            logit_B = limits.detection_scale * self._synthetic_logit(cls_BP) + limits.detection_shift
            synthetic = logit_B.sigmoid().tolist()
        diagnoses = []
        for i, (probability_MHW, generated) in enumerate(zip(masks, synthetic, strict=True)):
            ids = [number for number in answers.ids_BS[i].tolist() if number != config.tokens.pad]
            answer = " ".join(self.dialog.tokenizer.decode(ids).removesuffix("</s>").split())
            claims = claims_between(self.dialog.tokenizer.decode_between(ids, config.tokens.seg))
            findings = self._findings(claims, probability_MHW, float(answers.artifact_B[i]))
            diagnoses.append(Diagnosis(findings, generated, answer))
        return diagnoses

    def _masks(self, images: Sequence[Image], answers: Answers) -> list[Tensor]:
        """Per picture (M_i, H, W) probabilities. Pictures without a [SEG] are not even shown to SAM."""
        model, sam = self.model, self.model.config.sam
        shown = torch.unique(answers.owner_M)
        masks = [torch.zeros(0, *image.shape[:2]) for image in images]
        if len(shown) == 0:
            return masks
        prepared = [sam_pixels(images[i], sam.image_size, sam.resize_to) for i in shown.tolist()]
        embedding = model.survey(torch.stack([pixels for pixels, _ in prepared]).to(model.device))
        owner_M = torch.searchsorted(shown, answers.owner_M)
        low_res, _ = model.decode_masks(embedding, model.to_prompts(answers.seg_MD), owner_M)
        original = [(images[i].shape[0], images[i].shape[1]) for i in shown.tolist()]
        logits = model.all_full_size(low_res, owner_M, [size for _, size in prepared], original)
        for i, logit_MHW in zip(shown.tolist(), logits, strict=True):
            masks[i] = logit_MHW.sigmoid().cpu()
        return masks

    def _findings(
        self, claims: Sequence[Claim], probability_MHW: Tensor, artifact: float
    ) -> tuple[Finding, ...]:
        limits = self.thresholds
        findings = []
        for claim, probability_HW in zip(claims, probability_MHW.numpy(), strict=True):
            mask = probability_HW > limits.mask_probability
            if not mask.any() or mask.mean() < limits.min_area:
                continue
            confidence = artifact * float(probability_HW[mask].mean())
            if confidence >= limits.min_confidence:
                category = categorize(claim.phrase, claim.explanation)
                findings.append(Finding(mask, claim.phrase, claim.explanation, category, confidence))
        return tuple(findings)


def surest(diagnosis: Diagnosis) -> float:
    """Confidence of a picture's surest finding; 0 without any."""
    return max((finding.confidence for finding in diagnosis.findings), default=0.0)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
