"""Scene -> picture, by marching rays through signed distances, one solid at a time inside its bounding ball.

Everything is numpy in float32 and depends only on its arguments, so a scene renders the same in every
process of a machine. The picture is supersampled 2 x 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contracts.records import Image, Mask
from tabletop.scenes import Color, Scene, Surface
from tabletop.shapes import Array, Geometry, geometry

SUPERSAMPLING = 2
_EYE = np.array([0.0, 2.45, 4.3], np.float32)
_TARGET = np.array([0.08, 0.55, 0.0], np.float32)
_FIELD_OF_VIEW = 29.0
_WALL_Z = np.float32(-2.3)
_AMBIENT, _DIRECT = np.float32(0.33), np.float32(0.88)

PAINT: dict[Color, tuple[float, float, float]] = {
    "red": (0.86, 0.12, 0.10),
    "orange": (0.96, 0.46, 0.05),
    "yellow": (0.95, 0.83, 0.12),
    "green": (0.13, 0.62, 0.20),
    "blue": (0.13, 0.30, 0.85),
    "purple": (0.55, 0.16, 0.68),
}

ShadowMode = Literal["true", "missing", "wrong side", "detached"]


@dataclass(frozen=True, eq=False)
class Rendering:
    """A picture (size, size, 3) and what is known about each of its pixels."""

    image: Image
    solids: NDArray[np.float32]
    """(K, size, size) share of each pixel that solid k covers, 0..1."""
    normals: NDArray[np.float32]
    """(size, size, 3) mean surface normal on solids, 0 elsewhere."""
    shadow: NDArray[np.float32]
    """(K, size, size) darkness that solid k's drawn shadow adds to the table, 0..1."""
    true_shadow: NDArray[np.float32]
    """As `shadow`, with the scene's own light."""


def render(
    scene: Scene,
    size: int = 64,
    *,
    solids: Sequence[Geometry] | None = None,
    shadows: Sequence[ShadowMode] | None = None,
) -> Rendering:
    """Paint a scene at size x size pixels, with changed solids or shadows (one for each solid) if given."""
    shapes = list(solids) if solids is not None else [geometry(s) for s in scene.solids]
    modes: list[ShadowMode] = list(shadows) if shadows is not None else ["true"] * len(shapes)
    rays = _rays(size * SUPERSAMPLING)
    light = np.array(scene.light, np.float32)
    color = _background(scene, rays)
    table = rays.table_index
    points = rays.table_points

    true_dark = np.zeros((len(shapes), rays.count), np.float32)
    drawn_dark = np.zeros_like(true_dark)
    contact = np.ones(len(table), np.float32)
    for k, (shape, mode) in enumerate(zip(shapes, modes, strict=True)):
        true_dark[k, table] = _darkness(points, shape, light)
        drawn_dark[k, table] = _drawn_shadow(points, shape, light, mode, true_dark[k, table])
        if mode == "true":
            contact *= _contact(points, shape)
    lit = (1 - drawn_dark[:, table]).prod(axis=0)
    color[table] *= ((_AMBIENT * contact) + _DIRECT * np.float32(light[1]) * lit)[:, None]

    depth = rays.background_depth.copy()
    owner = np.full(rays.count, -1)
    normals = np.zeros((rays.count, 3), np.float32)
    for k, (shape, solid) in enumerate(zip(shapes, scene.solids, strict=True)):
        index, t = _march(rays, shape, depth)
        hit = _EYE + rays.directions[index] * t[:, None]
        normal = _normals(shape, hit)
        shade = _self_shadow(hit, normal, shapes, light)
        color[index] = _paint(
            PAINT[solid.color], solid.shiny, normal, rays.directions[index], light, shade, hit
        )
        depth[index], owner[index], normals[index] = t, k, normal

    cover = np.stack([_shrink((owner == k).astype(np.float32), size) for k in range(len(shapes))])
    visible = (owner < 0).astype(np.float32)
    # A square root stands in for a display's gamma.
    rgb = np.clip(_shrink(np.sqrt(np.clip(color, 0, 1)), size), 0, 1)
    return Rendering(
        image=np.round(rgb * 255).astype(np.uint8),
        solids=cover,
        normals=_shrink(normals, size),
        shadow=np.stack([_shrink(d * visible, size) for d in drawn_dark]),
        true_shadow=np.stack([_shrink(d * visible, size) for d in true_dark]),
    )


@dataclass(frozen=True, eq=False)
class _Rays:
    count: int
    directions: Array
    background_depth: Array
    table_index: NDArray[np.intp]
    table_points: Array
    wall_index: NDArray[np.intp]
    wall_points: Array


@lru_cache(maxsize=4)
def _rays(resolution: int) -> _Rays:
    """All rays of the one camera, with their hits on the table and the wall."""
    forward = _TARGET - _EYE
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, np.array([0, 1, 0], np.float32))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    half = np.tan(np.deg2rad(_FIELD_OF_VIEW) / 2)
    axis = (np.arange(resolution) + 0.5) / resolution * 2 - 1
    u, v = np.meshgrid(axis * half, -axis * half)
    d = forward + u[..., None] * right + v[..., None] * up
    d = (d / np.linalg.norm(d, axis=-1, keepdims=True)).reshape(-1, 3).astype(np.float32)
    with np.errstate(divide="ignore"):
        to_table = np.where(d[:, 1] < 0, -_EYE[1] / d[:, 1], np.inf)
        to_wall = np.where(d[:, 2] < 0, (_WALL_Z - _EYE[2]) / d[:, 2], np.inf)
    on_table = to_table <= to_wall
    depth = np.minimum(to_table, to_wall).astype(np.float32)
    points = _EYE + d * depth[:, None]
    table, wall = np.flatnonzero(on_table), np.flatnonzero(~on_table)
    return _Rays(len(d), d, depth, table, points[table], wall, points[wall])


def _march(rays: _Rays, shape: Geometry, limit: Array) -> tuple[NDArray[np.intp], Array]:
    """Indices of the rays that hit the solid before `limit`, and their depths."""
    to_center = shape.center - _EYE
    along = rays.directions @ to_center
    gap = to_center @ to_center - along**2
    index = np.flatnonzero(gap < shape.radius**2)
    half = np.sqrt(shape.radius**2 - gap[index])
    t, end = along[index] - half, np.minimum(along[index] + half, limit[index])
    hits: list[NDArray[np.intp]] = []
    depths: list[Array] = []
    for _ in range(64):
        distance = shape.distance(_EYE + rays.directions[index] * t[:, None])
        arrived = distance < 0.003
        hits.append(index[arrived])
        depths.append(t[arrived])
        t = t + np.maximum(distance, 0.002) * np.float32(shape.step)
        going = ~arrived & (t < end)
        index, t, end = index[going], t[going], end[going]
        if index.size == 0:
            break
    return np.concatenate(hits), np.concatenate(depths).astype(np.float32)


def _normals(shape: Geometry, p: Array) -> Array:
    """Central differences on a tetrahedron: four evaluations."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)
    n = sum(c * shape.distance(p + c * np.float32(0.004))[:, None] for c in corners)
    return n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-9)


def _darkness(p: Array, shape: Geometry, light: Array, bias: float = 0.02) -> Array:
    """How much of the light each point misses because of the solid, 0..1, with a soft edge that widens with
    distance.
    """
    dark = np.zeros(len(p), np.float32)
    to_center = shape.center - p
    along = to_center @ light
    gap = (to_center**2).sum(axis=1) - along**2
    index = np.flatnonzero((gap < (shape.radius + 0.12) ** 2) & (along > -shape.radius))
    if index.size == 0:
        return dark
    origin = p[index]
    end = along[index] + shape.radius
    t = np.maximum(along[index] - shape.radius - np.float32(0.12), np.float32(bias))
    open_ = np.ones(len(index), np.float32)
    alive = np.arange(len(index))
    for _ in range(36):
        distance = shape.distance(origin[alive] + light * t[alive][:, None])
        open_[alive] = np.minimum(
            open_[alive], np.clip(0.5 + 9 * distance / np.maximum(t[alive], 0.12), 0, 1)
        )
        t[alive] += np.maximum(np.abs(distance) * np.float32(shape.step), 0.02)
        alive = alive[(t[alive] < end[alive]) & (open_[alive] > 0.01)]
        if alive.size == 0:
            break
    dark[index] = 1 - open_ * open_ * (3 - 2 * open_)
    return dark


def _drawn_shadow(p: Array, shape: Geometry, light: Array, mode: ShadowMode, true: Array) -> Array:
    if mode == "true":
        return true
    if mode == "missing":
        return np.zeros_like(true)
    if mode == "wrong side":
        return _darkness(p, shape, light * np.array([-1, 1, 1], np.float32))
    away = np.array([light[0], 0, light[2]], np.float32)
    gap = np.float32(1.15 * shape.radius) * away / np.linalg.norm(away)
    return _darkness(p + gap, shape, light)


def _contact(p: Array, shape: Geometry) -> Array:
    """Ambient light that reaches the table near the solid's foot, 0..1."""
    near = ((p - shape.center) ** 2)[:, [0, 2]].sum(axis=1) < (shape.radius + 0.3) ** 2
    result = np.ones(len(p), np.float32)
    result[near] = np.clip(0.45 + 0.55 * shape.distance(p[near]) / 0.28, 0.45, 1)
    return result


def _self_shadow(p: Array, normal: Array, shapes: Sequence[Geometry], light: Array) -> Array:
    facing = normal @ light > 0
    lit = np.ones(len(p), np.float32)
    start = p[facing] + normal[facing] * np.float32(0.02)
    for shape in shapes:
        lit[facing] *= 1 - _darkness(start, shape, light, bias=0.03)
    return lit


def _paint(
    rgb: tuple[float, float, float],
    shiny: bool,
    normal: Array,
    view: Array,
    light: Array,
    lit: Array,
    p: Array,
) -> Array:
    base = np.array(rgb, np.float32) ** 2  # linear light; the display's gamma is a square root
    diffuse = np.clip(normal @ light, 0, 1) * lit
    sky = np.float32(0.5) + np.float32(0.5) * normal[:, 1]
    foot = np.clip(0.55 + 0.45 * p[:, 1] / 0.25, 0.55, 1)
    color = base * (_AMBIENT * (0.55 + 0.45 * sky) * foot + _DIRECT * diffuse)[:, None]
    half = light - view
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    gloss = np.clip((normal * half).sum(axis=1), 0, 1)
    highlight = (0.85 * gloss**48 if shiny else 0.06 * gloss**10) * lit
    return color + highlight[:, None].astype(np.float32)


def _background(scene: Scene, rays: _Rays) -> Array:
    color = np.zeros((rays.count, 3), np.float32)
    color[rays.table_index] = _surface(scene.surface, rays.table_points, scene.texture_offset)
    height = rays.wall_points[:, 1]
    shade = (np.float32(scene.wall) ** 2) * (0.85 + 0.10 * np.clip(height / 3, 0, 1))
    color[rays.wall_index] = shade[:, None] * np.array([1.0, 1.0, 1.02], np.float32)
    return color


def _surface(surface: Surface, p: Array, offset: tuple[float, float]) -> Array:
    """Linear-light colour of the table at points p, shape (N, 3)."""
    x, z = p[:, 0] + np.float32(offset[0]), p[:, 2] + np.float32(offset[1])
    if surface == "wooden table":
        grain = _noise(x * 0.9, z * 5.5) * 0.65 + _noise(x * 2.1 + 9, z * 13) * 0.35
        return _mix((0.36, 0.19, 0.08), (0.62, 0.37, 0.17), grain)
    if surface == "marble table":
        vein = np.abs(np.sin(2.2 * x + 1.4 * z + 5.0 * _noise(x * 0.9, z * 0.9)))
        return _mix((0.52, 0.52, 0.54), (0.88, 0.87, 0.84), np.clip(vein * 2.6, 0, 1))
    if surface == "grey table":
        return _mix((0.36, 0.36, 0.36), (0.46, 0.46, 0.46), _noise(x * 1.7, z * 1.7))
    weave = (np.sin(9 * x) * np.sin(9 * z) > 0).astype(np.float32)
    return _mix((0.11, 0.27, 0.52), (0.15, 0.33, 0.60), 0.7 * weave + 0.3 * _noise(x * 3, z * 3))


def _mix(low: tuple[float, ...], high: tuple[float, ...], t: Array) -> Array:
    a, b = np.array(low, np.float32), np.array(high, np.float32)
    return (a + (b - a) * t[:, None]).astype(np.float32)


def _noise(x: Array, y: Array) -> Array:
    """Smooth value noise in 0..1 from a fixed table of 64 x 64 random numbers."""
    table = _noise_table()
    xi, yi = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = x - xi, y - yi
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    x0, y0, x1, y1 = xi & 63, yi & 63, (xi + 1) & 63, (yi + 1) & 63
    top = table[y0, x0] * (1 - fx) + table[y0, x1] * fx
    low = table[y1, x0] * (1 - fx) + table[y1, x1] * fx
    return (top * (1 - fy) + low * fy).astype(np.float32)


@lru_cache(maxsize=1)
def _noise_table() -> Array:
    return np.random.default_rng(20250316).random((64, 64), np.float32)


def _shrink(values: Array, size: int) -> Array:
    """Average SUPERSAMPLING x SUPERSAMPLING blocks: (R*R,) or (R*R, C) -> (size, size[, C])."""
    n = SUPERSAMPLING
    grid = values.reshape(size, n, size, n, *values.shape[1:])
    return grid.mean(axis=(1, 3), dtype=np.float32)


def solid_mask(rendering: Rendering, k: int) -> Mask:
    """Pixels of which solid k covers at least half, shape (size, size)."""
    return rendering.solids[k] >= 0.5
