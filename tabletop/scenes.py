"""What can stand on the table: the world's nouns, and drawing a scene at random from a seed.

World units: the table is the plane y = 0, x runs to the right, z toward the viewer. Light always comes from
the upper left, so a true shadow falls to the right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np

Shape: TypeAlias = Literal["ball", "cube", "cylinder", "cone", "ring"]
Color: TypeAlias = Literal["red", "orange", "yellow", "green", "blue", "purple"]
Surface: TypeAlias = Literal["wooden table", "marble table", "grey table", "blue cloth"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLORS: tuple[Color, ...] = get_args(Color)
SURFACES: tuple[Surface, ...] = get_args(Surface)

SEED_RANGES: dict[str, tuple[int, int]] = {
    "train": (0, 10_000_000),
    "validation": (10_000_000, 11_000_000),
    "test": (20_000_000, 21_000_000),
    "judge": (30_000_000, 40_000_000),
    "geometry": (40_000_000, 41_000_000),
}
"""Which scene seeds belong to which split. The judge and the geometry check never see what the other models
were trained on.
"""


@dataclass(frozen=True)
class Solid:
    """One object. Sizes in world units; `yaw` in radians about the vertical axis."""

    shape: Shape
    color: Color
    shiny: bool
    x: float
    z: float
    size: float
    yaw: float
    proportion: float = 1.0
    """Height against width, for the shapes where both are free (cylinder, cone)."""

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Solids on a surface, with the light and the texture's place."""

    solids: tuple[Solid, ...]
    surface: Surface
    texture_offset: tuple[float, float]
    light: tuple[float, float, float]
    """Unit vector toward the light."""
    wall: float
    """Brightness of the back wall, 0..1."""
    seed: int = field(default=0, compare=False)

    @property
    def shapes(self) -> list[Shape]:
        """Of its solids, from left to right."""
        return [solid.shape for solid in self.solids]


ATTRIBUTE_SIZES = (len(SHAPES), len(COLORS), len(SURFACES), len(SHAPES) + 1, len(COLORS) + 1)
"""Number of values of each of `attributes`."""
TWO_SOLIDS_SHARE = 0.3


def solid_count(seed: int) -> int:
    """How many solids the scene of a seed has in the data sets: two in TWO_SOLIDS_SHARE of them, else one."""
    return 2 if np.random.default_rng([seed, 9]).random() < TWO_SOLIDS_SHARE else 1


def attributes(scene: Scene) -> tuple[int, int, int, int, int]:
    """What is there, as places in the lists: shape and color of the solid (of the left one, if there are
    two), surface, shape and color of the solid on the right, where the place after the last is "none".
    """
    left, *others = scene.solids
    second = (SHAPES.index(others[0].shape), COLORS.index(others[0].color)) if others else None
    return (
        SHAPES.index(left.shape),
        COLORS.index(left.color),
        SURFACES.index(scene.surface),
        *(second or (len(SHAPES), len(COLORS))),
    )


def sample_scene(seed: int, objects: int = 1) -> Scene:
    """The scene of a seed: the same on every machine and in every process."""
    rng = np.random.default_rng([seed, 1])
    azimuth = np.deg2rad(rng.uniform(-12, 12))
    light = np.array([-0.66, 0.76, 0.36]) + np.array([0.0, rng.uniform(-0.06, 0.06), 0.5 * np.sin(azimuth)])
    light /= np.linalg.norm(light)
    return Scene(
        solids=_sample_solids(rng, objects),
        surface=_pick(rng, SURFACES),
        texture_offset=(float(rng.uniform(0, 50)), float(rng.uniform(0, 50))),
        light=(float(light[0]), float(light[1]), float(light[2])),
        wall=float(rng.uniform(0.50, 0.62)),
        seed=seed,
    )


def _sample_solids(rng: np.random.Generator, objects: int) -> tuple[Solid, ...]:
    if objects == 1:
        places = [(rng.uniform(-0.38, 0.02), rng.uniform(-0.15, 0.20), rng.uniform(0.56, 0.70))]
    else:
        left = rng.uniform(-0.72, -0.62)
        places = [
            (left, rng.uniform(-0.3, 0.2), rng.uniform(0.36, 0.43)),
            (left + rng.uniform(1.16, 1.26), rng.uniform(-0.3, 0.2), rng.uniform(0.36, 0.43)),
        ]
    solids: list[Solid] = []
    for x, z, size in places:
        color = _pick(rng, [c for c in COLORS if c not in {s.color for s in solids}])
        solids.append(
            Solid(
                shape=_pick(rng, SHAPES),
                color=color,
                shiny=bool(rng.random() < 0.4),
                x=float(x),
                z=float(z),
                size=float(size),
                yaw=float(rng.uniform(0.25, 1.32)),
                proportion=float(rng.uniform(0.9, 1.15)),
            )
        )
    return tuple(solids)


def _pick(rng: np.random.Generator, options):  # type: ignore[no-untyped-def]
    return options[int(rng.integers(len(options)))]
