"""Signed distances to the five solids and to their deformed versions, in numpy.

All functions take points of shape (N, 3) in the solid's own frame (standing on y = 0, centred on x = z = 0,
turned by its yaw) and return distances of shape (N,), negative inside. A deformation bends space around the
solid, so its distance is only a bound: `Geometry.step` shortens the marching steps accordingly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tabletop.scenes import Solid

Array = NDArray[np.float32]
Distance = Callable[[Array], Array]


@dataclass(frozen=True)
class Geometry:
    """A solid ready to be marched: distance in world coordinates, bounding ball, safe share of a step."""

    distance: Distance
    center: Array
    radius: float
    step: float = 0.95


def half_height(solid: Solid) -> float:
    """Half the solid's height in world units."""
    s = solid.size
    return {
        "ball": s,
        "cube": 0.78 * s,
        "cylinder": 0.95 * s * solid.proportion,
        "cone": 1.08 * s * solid.proportion,
        "ring": 0.40 * s,
    }[solid.shape]


def primitive(solid: Solid) -> Distance:
    """Distance to the undeformed solid in its own frame."""
    s, h = np.float32(solid.size), np.float32(half_height(solid))
    if solid.shape == "ball":
        return lambda p: np.sqrt(p[:, 0] ** 2 + (p[:, 1] - h) ** 2 + p[:, 2] ** 2) - s
    if solid.shape == "cube":
        return lambda p: _box(p, h)
    if solid.shape == "cylinder":
        return lambda p: _cylinder(p, np.float32(0.70) * s, h)
    if solid.shape == "cone":
        return lambda p: _cone(p, np.float32(0.88) * s, 2 * h)
    return lambda p: _torus(p, np.float32(0.80) * s, h)


def geometry(solid: Solid, *, lift: float = 0.0, deform: Deformation | None = None) -> Geometry:
    """The solid placed in the world, raised by `lift`, changed by `deform`."""
    local = primitive(solid)
    step, reach = 0.95, 1.0
    if deform is not None:
        local, step, reach = deform(local, solid)
    cos, sin = np.float32(np.cos(solid.yaw)), np.float32(np.sin(solid.yaw))
    x0, y0, z0 = np.float32(solid.x), np.float32(lift), np.float32(solid.z)

    def distance(p: Array) -> Array:
        x, z = p[:, 0] - x0, p[:, 2] - z0
        return local(np.stack([cos * x - sin * z, p[:, 1] - y0, sin * x + cos * z], axis=1))

    h = half_height(solid)
    radius = reach * float(np.hypot(h, 1.12 * solid.size)) + 0.02
    return Geometry(distance, np.array([x0, y0 + h, z0], np.float32), radius, step)


Deformation = Callable[[Distance, Solid], tuple[Distance, float, float]]
"""(distance, solid) -> (changed distance, safe share of a step, growth of the bounding ball)."""


def bend(amount: float) -> Deformation:
    """Lean sideways, more toward the top."""

    def apply(d: Distance, solid: Solid) -> tuple[Distance, float, float]:
        k = np.float32(amount / (2 * half_height(solid)))
        cos, sin = np.float32(np.cos(-solid.yaw)), np.float32(np.sin(-solid.yaw))

        def bent(p: Array) -> Array:
            y = np.clip(p[:, 1], 0, 3)
            shift = k * y * y  # along world x, so that the lean is seen from the front
            return d(np.stack([p[:, 0] - cos * shift, p[:, 1], p[:, 2] + sin * shift], axis=1))

        return bent, 0.6, 1.5

    return apply


def twist(amount: float) -> Deformation:
    """Turn the upper part against the lower one, `amount` radians from bottom to top, pinching the waist."""

    def apply(d: Distance, solid: Solid) -> tuple[Distance, float, float]:
        h = np.float32(half_height(solid))

        def twisted(p: Array) -> Array:
            t = np.clip(p[:, 1] / (2 * h), -0.1, 1.1)
            a = np.float32(amount) * (t - np.float32(0.5))
            pinch = 1 + np.float32(0.45) * np.exp(-(((t - np.float32(0.5)) / np.float32(0.28)) ** 2))
            c, s = np.cos(a) * pinch, np.sin(a) * pinch
            return d(np.stack([c * p[:, 0] - s * p[:, 2], p[:, 1], s * p[:, 0] + c * p[:, 2]], axis=1))

        return twisted, 0.5, 1.2

    return apply


def melt(amount: float) -> Deformation:
    """Sag: lower, and spreading toward the table."""

    def apply(d: Distance, solid: Solid) -> tuple[Distance, float, float]:
        h = np.float32(half_height(solid))
        squash = np.float32(1 + 0.45 * amount)

        def melted(p: Array) -> Array:
            y = p[:, 1] * squash
            grow = 1 + np.float32(amount) * np.exp(-np.clip(y, 0, 9) / (np.float32(0.55) * h))
            return d(np.stack([p[:, 0] / grow, y, p[:, 2] / grow], axis=1))

        return melted, 0.45, 1.0 + 0.9 * amount

    return apply


def squeeze(amount: float) -> Deformation:
    """Out of proportion, and leaning: an egg from a ball, a slanted block from a cube."""

    def apply(d: Distance, solid: Solid) -> tuple[Distance, float, float]:
        h = np.float32(half_height(solid))
        cos, sin = np.float32(np.cos(solid.yaw)), np.float32(np.sin(solid.yaw))
        wide, tall = np.float32(1 - 0.5 * amount), np.float32(1 + 0.4 * amount)
        shear = np.float32(0.9 * amount)

        def squeezed(p: Array) -> Array:
            x, z = cos * p[:, 0] + sin * p[:, 2], -sin * p[:, 0] + cos * p[:, 2]  # world axes
            x = (x - shear * (p[:, 1] - h * np.float32(0.5))) / wide
            return d(np.stack([cos * x - sin * z, p[:, 1] / tall, sin * x + cos * z], axis=1))

        return squeezed, 0.45, 1.5

    return apply


def lumpy(amplitude: float, phase: float, frequency: float = 5.2) -> Deformation:
    """Bumps all over the surface; few and wide ones at a low `frequency` (radians per object radius)."""

    def apply(d: Distance, solid: Solid) -> tuple[Distance, float, float]:
        f = np.float32(frequency / solid.size)
        a = np.float32(amplitude * solid.size)

        def bumpy(p: Array) -> Array:
            q = p * f + np.float32(phase)
            return d(p) + a * np.sin(q[:, 0]) * np.sin(q[:, 1]) * np.sin(q[:, 2])

        return bumpy, 0.55, 1.15

    return apply


def dent(toward: Array, depth: float) -> Deformation:
    """A smooth hollow on the side `toward` (unit vector in the solid's frame)."""

    def apply(d: Distance, solid: Solid) -> tuple[Distance, float, float]:
        h = half_height(solid)
        reach = {"ball": 1.0, "cube": 0.85, "cylinder": 0.72, "cone": 0.48, "ring": 1.05}[
            solid.shape
        ] * solid.size
        middle = np.array([0, 0.75 * h if solid.shape == "cone" else h, 0], np.float32)
        center = (middle + toward * np.float32(reach)).astype(np.float32)
        radius = np.float32(depth * solid.size)

        def dented(p: Array) -> Array:
            hole = np.sqrt(((p - center) ** 2).sum(axis=1)) - radius
            return _smooth_max(d(p), -hole, np.float32(0.06))

        return dented, 0.8, 1.0

    return apply


def cut(toward: Array, offset: float) -> Deformation:
    """Everything on the side `toward` of a plane is missing."""

    def apply(d: Distance, solid: Solid) -> tuple[Distance, float, float]:
        middle = np.array([0, half_height(solid), 0], np.float32)
        limit = np.float32(offset * solid.size)
        return lambda p: np.maximum(d(p), (p - middle) @ toward - limit), 0.9, 1.0

    return apply


def duplicate(shift: Array, scale: float) -> Deformation:
    """A second, smaller copy grows out of the solid."""

    def apply(d: Distance, solid: Solid) -> tuple[Distance, float, float]:
        s = np.float32(scale)
        offset = (shift * solid.size).astype(np.float32)
        return lambda p: np.minimum(d(p), s * d((p - offset) / s)), 0.9, 1.75

    return apply


def _smooth_max(a: Array, b: Array, k: np.float32) -> Array:
    overlap = np.maximum(k - np.abs(a - b), 0) / k
    return np.maximum(a, b) + overlap * overlap * k * np.float32(0.25)


def _box(p: Array, h: np.float32) -> Array:
    q = np.abs(p - np.array([0, h, 0], np.float32)) - (h - np.float32(0.025))
    outside = np.sqrt((np.maximum(q, 0) ** 2).sum(axis=1))
    return outside + np.minimum(q.max(axis=1), 0) - np.float32(0.025)


def _cylinder(p: Array, radius: np.float32, h: np.float32) -> Array:
    edge = np.float32(0.02)
    dx = np.sqrt(p[:, 0] ** 2 + p[:, 2] ** 2) - (radius - edge)
    dy = np.abs(p[:, 1] - h) - (h - edge)
    outside = np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2)
    return outside + np.minimum(np.maximum(dx, dy), 0) - edge


def _cone(p: Array, radius: np.float32, height: np.float32) -> Array:
    """Upright cone with its base on y = 0: distance to the slanted side and the base."""
    rho = np.sqrt(p[:, 0] ** 2 + p[:, 2] ** 2)
    slant = np.sqrt(radius**2 + height**2)
    side = (rho * height + (p[:, 1] - height) * radius) / slant
    flat = np.maximum(side, -p[:, 1])
    # Above the apex and outside the rim the planes underestimate; that is safe for marching.
    return flat - np.float32(0.012)


def _torus(p: Array, major: np.float32, minor: np.float32) -> Array:
    q = np.sqrt(p[:, 0] ** 2 + p[:, 2] ** 2) - major
    return np.sqrt(q * q + (p[:, 1] - minor) ** 2) - minor
