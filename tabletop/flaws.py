"""Putting artifacts into a scene, each with its exact mask, category and explanation.

Physics and structure are changes of the world before it is painted (another shadow, another shape);
distortion is damage to the painted picture. Masks of the first two come from comparing what the renderer
knows about the clean and the flawed scene, those of the third from the damage itself. A flaw too small to
see is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageFilter

from contracts.records import CATEGORIES, Category, Finding, Image, Mask
from tabletop import shapes
from tabletop.explanations import Look, explain
from tabletop.render import Rendering, ShadowMode, render, solid_mask
from tabletop.scenes import Scene, Shape, Solid, sample_scene, solid_count

PHYSICS = ("missing shadow", "wrong-side shadow", "detached shadow", "floating")
STRUCTURE = ("dent", "bend", "melt", "twist", "squeeze", "lumps", "missing part", "duplicated part")
DISTORTION = ("noise", "blur", "color bleed", "smear")
KINDS: dict[Category, tuple[str, ...]] = {
    "physics": PHYSICS,
    "structure": STRUCTURE,
    "distortion": DISTORTION,
}

# Kinds that would leave a shape looking as it should: a twisted ball is a ball, a squeezed cone a cone.
_INVISIBLE: dict[Shape, frozenset[str]] = {
    "ball": frozenset({"twist"}),
    "cylinder": frozenset({"twist"}),
    "cone": frozenset({"twist", "melt"}),
    "ring": frozenset({"bend", "twist", "squeeze"}),
    "cube": frozenset(),
}
MINIMUM_AREA = 0.010
"""Smallest share of the picture that a flaw may cover."""
MINIMUM_CHANGE: dict[Category, float] = {"physics": 14.0, "structure": 7.0, "distortion": 14.0}
"""Smallest mean absolute difference to the clean picture inside the mask, in 0..255. A warped cube is seen by
its outline, which is a small part of the cube.
"""
MILD_SHARE = 0.5
"""How often a warp of the whole solid (bend, squeeze, lumps) is as weak as those that generators paint."""
_ATTEMPTS = 6
_UNREMARKABLE = Look()


@dataclass(frozen=True, eq=False)
class Pair:
    """The same scene clean and flawed. `findings` is the whole truth about `flawed`."""

    scene: Scene
    clean: Image
    flawed: Image
    findings: tuple[Finding, ...]
    kinds: tuple[str, ...]
    """Kind of each finding, such as "wrong-side shadow"."""
    clean_solids: NDArray[np.float32]
    """(K, H, W) share of each pixel that solid k covers in the clean picture, 0..1."""
    flawed_solids: NDArray[np.float32]

    @property
    def flags(self) -> tuple[bool, bool, bool]:
        """Whether the flawed picture has a flaw of each category, in the order of CATEGORIES."""
        present = {f.category for f in self.findings}
        return (CATEGORIES[0] in present, CATEGORIES[1] in present, CATEGORIES[2] in present)


def render_pair(seed: int, size: int = 64, *, objects: int = 1, flaw_probability: float = 0.42) -> Pair:
    """The pair of a seed. Each category is flawed with `flaw_probability`, at least one of them always is."""
    scene = sample_scene(seed, objects)
    clean = render(scene, size)
    rng = np.random.default_rng([seed, 2])
    flags = rng.random(3) < flaw_probability
    while not flags.any():
        flags = rng.random(3) < flaw_probability
    wanted = [c for c, flag in zip(CATEGORIES, flags, strict=True) if flag]
    for attempt in range(_ATTEMPTS):
        pair = _flawed_pair(scene, clean, wanted, np.random.default_rng([seed, 3, attempt]), size)
        if len(pair.findings) == len(wanted):
            return pair
    if pair.findings:
        return pair
    # Rare: every drawing was too subtle. Noise on the object is always seen.
    return _flawed_pair(scene, clean, ["distortion"], np.random.default_rng([seed, 4]), size, bold=True)


def pair_of(seed: int, size: int = 64) -> Pair:
    """The pair that a seed stands for in the data sets and wherever they are measured on, of one solid or
    two."""
    return render_pair(seed, size, objects=solid_count(seed))


def _flawed_pair(
    scene: Scene,
    clean: Rendering,
    wanted: Sequence[Category],
    rng: np.random.Generator,
    size: int,
    bold: bool = False,
) -> Pair:
    victims = {c: int(rng.integers(len(scene.solids))) for c in wanted}
    kinds = {c: _choose_kind(c, scene.solids[victims[c]], rng) for c in wanted}
    if bold:
        kinds["distortion"] = "noise"
    found: list[tuple[str, Finding]] = []

    world = _World(scene)
    current = clean
    if "structure" in wanted:
        k = victims["structure"]
        deformation, look = _deformation(kinds["structure"], scene.solids[k], rng)
        world = world.deformed(k, deformation)
        current = world.render(size)
        mask = _structure_mask(clean, current, k, kinds["structure"])
        _keep(found, kinds["structure"], "structure", mask, clean.image, current.image, scene.solids[k], look)
    if "physics" in wanted:
        k = victims["physics"]
        before = current
        world = world.shadow_changed(k, kinds["physics"], rng)
        current = world.render(size)
        mask = _physics_mask(before, current, k, kinds["physics"])
        _keep(found, kinds["physics"], "physics", mask, before.image, current.image, scene.solids[k])
    image = current.image
    if "distortion" in wanted:
        k = victims["distortion"]
        image, mask = _distort(kinds["distortion"], current, k, rng)
        _keep(found, kinds["distortion"], "distortion", mask, current.image, image, scene.solids[k])
    # The answer names findings from top to bottom and left to right, as a person would read the picture.
    found.sort(key=lambda item: (item[1].box.top + item[1].box.bottom, item[1].box.left))
    return Pair(
        scene,
        clean.image,
        image,
        tuple(f for _, f in found),
        tuple(kind for kind, _ in found),
        clean.solids,
        current.solids,
    )


@dataclass(frozen=True, eq=False)
class _World:
    """A scene with changed solids and shadows, not painted yet."""

    scene: Scene
    deformations: tuple[tuple[int, shapes.Deformation], ...] = ()
    lifts: tuple[tuple[int, float], ...] = ()
    shadows: tuple[tuple[int, ShadowMode], ...] = ()

    def deformed(self, k: int, deformation: shapes.Deformation) -> _World:
        return replace(self, deformations=((k, deformation),))

    def shadow_changed(self, k: int, kind: str, rng: np.random.Generator) -> _World:
        if kind == "floating":
            return replace(self, lifts=((k, float(rng.uniform(0.32, 0.44))),))
        modes: dict[str, ShadowMode] = {
            "missing shadow": "missing",
            "wrong-side shadow": "wrong side",
            "detached shadow": "detached",
        }
        return replace(self, shadows=((k, modes[kind]),))

    def render(self, size: int) -> Rendering:
        deformations, lifts, shadows = dict(self.deformations), dict(self.lifts), dict(self.shadows)
        solids = [
            shapes.geometry(s, lift=lifts.get(k, 0.0), deform=deformations.get(k))
            for k, s in enumerate(self.scene.solids)
        ]
        return render(
            self.scene, size, solids=solids, shadows=[shadows.get(k, "true") for k in range(len(solids))]
        )


def _choose_kind(category: Category, solid: Solid, rng: np.random.Generator) -> str:
    hidden = _INVISIBLE[solid.shape]
    options = [kind for kind in KINDS[category] if kind not in hidden]
    return options[int(rng.integers(len(options)))]


def _deformation(kind: str, solid: Solid, rng: np.random.Generator) -> tuple[shapes.Deformation, Look]:
    side = float(rng.choice([-1.0, 1.0]))
    mild = kind in ("bend", "squeeze", "lumps") and bool(rng.random() < MILD_SHARE)
    return _deformed(kind, solid, side, mild, rng), Look("left" if side < 0 else "right", mild)


def _deformed(
    kind: str, solid: Solid, side: float, mild: bool, rng: np.random.Generator
) -> shapes.Deformation:
    if kind == "bend":
        return shapes.bend(side * float(rng.uniform(*((0.10, 0.26) if mild else (0.30, 0.50)))))
    if kind == "squeeze":
        return shapes.squeeze(side * float(rng.uniform(*((0.09, 0.24) if mild else (0.28, 0.42)))))
    if kind == "lumps":
        low, high, frequency = (0.06, 0.13, float(rng.uniform(2.2, 3.6))) if mild else (0.10, 0.15, 5.2)
        return shapes.lumpy(float(rng.uniform(low, high)), float(rng.uniform(0, 6)), frequency)
    if kind == "twist":
        return shapes.twist(side * float(rng.uniform(0.9, 1.4)))
    if kind == "melt":
        return shapes.melt(float(rng.uniform(0.55, 0.9)))
    if kind == "dent":
        return shapes.dent(_seen_direction(solid, rng), float(rng.uniform(0.5, 0.65)))
    if kind == "missing part":
        return shapes.cut(_seen_direction(solid, rng, rise=0.6), float(rng.uniform(0.05, 0.25)))
    height = shapes.half_height(solid) / solid.size
    shift = np.array([side * rng.uniform(0.55, 0.75), rng.uniform(0.8, 1.2) * height, 0.15], np.float32)
    return shapes.duplicate(_to_frame(shift, solid), float(rng.uniform(0.45, 0.6)))


def _seen_direction(solid: Solid, rng: np.random.Generator, rise: float = 0.3) -> NDArray[np.float32]:
    """A unit vector from the solid toward the camera's side, in the solid's frame."""
    angle = rng.uniform(-1.1, 1.1)
    toward = np.array([np.sin(angle), rng.uniform(0.1, rise + 0.2), np.cos(angle)], np.float32)
    return _to_frame(toward / np.linalg.norm(toward), solid)


def _to_frame(v: NDArray[np.float32], solid: Solid) -> NDArray[np.float32]:
    cos, sin = np.cos(solid.yaw), np.sin(solid.yaw)
    return np.array([cos * v[0] - sin * v[2], v[1], sin * v[0] + cos * v[2]], np.float32)


def _structure_mask(clean: Rendering, flawed: Rendering, k: int, kind: str) -> Mask:
    """Where the solid is gone, is new, or faces another way; all of it where the flaw is everywhere."""
    if kind in ("lumps", "twist", "bend", "squeeze"):
        return _tidy(solid_mask(clean, k) | solid_mask(flawed, k))
    moved = np.abs(clean.solids[k] - flawed.solids[k]) > 0.4
    turned = np.linalg.norm(clean.normals - flawed.normals, axis=-1) > 0.35
    return _tidy(moved | (turned & (flawed.solids[k] > 0.5)))


def _physics_mask(before: Rendering, after: Rendering, k: int, kind: str) -> Mask:
    if kind == "floating":
        return _tidy(solid_mask(before, k) | solid_mask(after, k))
    return _tidy(np.abs(after.true_shadow[k] - after.shadow[k]) > 0.3)


def _distort(kind: str, r: Rendering, k: int, rng: np.random.Generator) -> tuple[Image, Mask]:
    size = r.image.shape[0]
    blob = _blob(r, k, rng)
    source = r.image.astype(np.float32)
    if kind == "noise":
        cell = max(1, size // 32)
        coarse = rng.integers(0, 256, (size // cell + 1, size // cell + 1, 3))
        other = np.kron(coarse, np.ones((cell, cell, 1)))[:size, :size].astype(np.float32)
    elif kind == "blur":
        other = np.asarray(
            PILImage.fromarray(r.image).filter(ImageFilter.GaussianBlur(size * rng.uniform(0.07, 0.10))),
            np.float32,
        )
    elif kind == "color bleed":
        tint = np.array(
            [(230, 60, 60), (60, 200, 80), (70, 90, 240), (240, 200, 40), (200, 60, 200), (60, 210, 210)]
        )
        far = tint[np.argsort(np.abs(tint - source[blob > 0.5].mean(axis=0)).sum(axis=1))[3:]]
        other = 0.25 * source + 0.75 * far[int(rng.integers(len(far)))].astype(np.float32)
    else:
        other = _smeared(source, rng)
    weight = blob[..., None] if kind != "noise" else (blob > 0.35)[..., None].astype(np.float32)
    image = np.clip(np.round(source * (1 - weight) + other * weight), 0, 255).astype(np.uint8)
    changed = PILImage.fromarray(np.abs(image - source).max(axis=-1) > 4).convert("L")
    # Streaks are thin: what lies between two of them belongs to the smear.
    return image, _tidy((blob > 0.35) & (np.asarray(changed.filter(ImageFilter.MaxFilter(5))) > 127))


def _smeared(source: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Pixels dragged along wavy streaks, as by a wet thumb."""
    size = source.shape[0]
    columns = np.arange(size)
    shift = (size * 0.22) * np.abs(np.sin(columns * rng.uniform(0.9, 1.3) * 64 / size + rng.uniform(0, 6)))
    rows = np.clip(np.arange(size)[:, None] - np.round(shift)[None, :].astype(int), 0, size - 1)
    return source[rows, columns[None, :]]


def _blob(r: Rendering, k: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A soft-edged irregular patch, 0..1, around a random point of solid k."""
    size = r.image.shape[0]
    rows, columns = np.nonzero(solid_mask(r, k))
    if rows.size == 0:
        return np.zeros((size, size), np.float32)
    pick = int(rng.integers(rows.size))
    # Halfway to the middle of the object, so that most of the patch lies on it.
    cy = 0.5 * (rows[pick] + rows.mean())
    cx = 0.5 * (columns[pick] + columns.mean())
    radius = np.sqrt(rows.size / np.pi) * rng.uniform(0.50, 0.80)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    angle = np.arctan2(y - cy, x - cx)
    wobble = 1 + 0.22 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.13 * np.sin(3 * angle + rng.uniform(0, 6))
    distance = np.hypot(x - cx, y - cy) / (radius * wobble)
    return np.clip((1.15 - distance) / 0.35, 0, 1).astype(np.float32)


def _tidy(mask: Mask) -> Mask:
    """Close one-pixel gaps and drop single pixels."""
    closed = (
        PILImage.fromarray(mask)
        .convert("L")
        .filter(ImageFilter.MaxFilter(3))
        .filter(ImageFilter.MinFilter(3))
    )
    opened = closed.filter(ImageFilter.MedianFilter(3))
    return np.asarray(opened) > 127


def _keep(
    found: list[tuple[str, Finding]],
    kind: str,
    category: Category,
    mask: Mask,
    before: Image,
    after: Image,
    solid: Solid,
    look: Look = _UNREMARKABLE,
) -> None:
    """Add the finding if a person would see it."""
    phrase, explanation = explain(kind, solid, look)
    if mask.mean() < MINIMUM_AREA:
        return
    change = np.abs(after.astype(np.float32) - before.astype(np.float32))[mask].mean()
    if change >= MINIMUM_CHANGE[category]:
        found.append((kind, Finding(mask, phrase, explanation, category, 1.0)))
