"""Scenes to put the course's noise on: images that are generated, of which no file is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from .noises import CELL, SIZE
from .pixels import Pair


def stack(images: list[torch.Tensor]) -> torch.Tensor:
    """List of (3, H, W) in [0, 1] -> uint8 pixels (N, 3, H, W)."""
    empty = torch.empty(0, 3, SIZE, SIZE)
    return (torch.stack(images) if images else empty).clamp(0, 1).mul(255).round().to(torch.uint8)


def single(values: Iterable[Any]) -> torch.Tensor:
    """A float32 tensor, whatever the default dtype: the images depend on nothing but seed and index."""
    return torch.tensor(values, dtype=torch.float32)


class Scene:
    """A dead-leaves image: opaque shapes with power-law sizes over one another, the standard model of natural image
    statistics (Lee, Mumford & Huang 2001; Madhusudana et al. 2021, arXiv:2109.02979), with natural colours, shading
    and texture. It is a function of position, so a noisy version evaluates 1,024 points, not 82,944.

    The scene is decided by (seed, index); its noisy versions follow one another in a fixed order.
    """

    leaves = 160
    colours = ((0.55, 0.58, 0.57), (-0.7, 0.0, 0.68), (0.4, -0.82, 0.41))  # principal axes: brightness, then hues

    def __init__(self, seed: int, index: int) -> None:
        self.generator = torch.Generator().manual_seed((seed * 2_654_435_761 + index * 40_503 + 1) % 2**63)
        n = self.leaves
        uniform = self.uniform
        smallest, largest = 0.015, 1.0
        self.radius = (smallest**-2 + uniform(n) * (largest**-2 - smallest**-2)).rsqrt()  # density ~ radius^-3
        self.radius *= 10 ** (uniform(1) * 1.1)  # from clutter to a few large things
        self.centre = uniform(n, 2) * 1.4 - 0.2
        angle, self.aspect = uniform(n) * math.pi, 0.35 + 0.65 * uniform(n)
        self.axis = torch.stack((angle.cos(), angle.sin()), 1)
        self.square = uniform(n) < 0.4
        strength = single([0.5, 0.13, 0.06]) * self.normal(n, 3) * (0.3 + 0.7 * uniform(1))
        self.colour = (strength + self.normal(3) * single([0.2, 0.1, 0.05])) @ single(self.colours) + 0.45
        self.shade = self.normal(n, 2) * 0.12
        self.wave = self.normal(n, 2) * (10 ** (uniform(n, 1) * 1.6 + 0.8))
        self.amplitude = 0.15 * uniform(n) ** 2

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=torch.float32)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float32)

    def colour_at(self, points: torch.Tensor) -> torch.Tensor:
        """(P, 2) positions in the unit square -> (3, P) colours in [0, 1]."""
        near = self.near(points)
        offset = points - self.centre[near].unsqueeze(1)
        axis, radius = self.axis[near].unsqueeze(1), self.radius[near].unsqueeze(1)
        along = (offset * axis).sum(2) / radius
        across = (offset[..., 1] * axis[..., 0] - offset[..., 0] * axis[..., 1]) / (radius * self.aspect[near, None])
        round_or_square = torch.where(self.square[near, None], along.abs().maximum(across.abs()), along.hypot(across))
        covers = round_or_square < 1
        covers[-1] = True  # the last leaf is the background
        top = near[covers.to(torch.uint8).argmax(0)]  # the first that covers the point
        texture = self.amplitude[top] * ((points * self.wave[top]).sum(1) * 2 * math.pi).sin()
        shade = ((points - 0.5) * self.shade[top]).sum(1)
        return (self.colour[top].t() + shade + texture).clamp(0, 1)

    def near(self, points: torch.Tensor) -> torch.Tensor:
        """Indices of the leaves that can reach the points' bounding box, and of the background."""
        low, high = points.amin(0), points.amax(0)
        outside = (low - self.centre).maximum(self.centre - high).amax(1)
        reachable = outside < self.radius * math.sqrt(2)
        reachable[-1] = True
        return reachable.nonzero().squeeze(1)

    def noisy(self) -> torch.Tensor:
        """One noisy version, (3, 32, 32) in [0, 1]."""
        steps = single(range(SIZE))
        corner = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), 2)
        pick = torch.randint(CELL, (SIZE, SIZE, 2), generator=self.generator)
        points = (corner * CELL + pick + 0.5) / (SIZE * CELL)
        return self.colour_at(points.view(-1, 2)).view(3, SIZE, SIZE)

    def clean(self) -> torch.Tensor:
        """The mean of each cell, (3, 32, 32) in [0, 1]."""
        image = torch.empty(3, SIZE, SIZE, dtype=torch.float32)
        block = 4  # cells; few leaves reach a block, so most need not be asked
        steps = (single(range(block * CELL)) + 0.5) / (SIZE * CELL)
        for top in range(0, SIZE, block):
            for left in range(0, SIZE, block):
                rows, columns = steps + top / SIZE, steps + left / SIZE
                points = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), 2).view(-1, 2)
                colours = self.colour_at(points).view(3, block, CELL, block, CELL)
                image[:, top : top + block, left : left + block] = colours.mean((2, 4))
        return image


# ---------------------------------------------------------------------------------------------- of many scenes


def generated(count: int, versions: int, clean: bool, seed: int = 0, start: int = 0) -> tuple[torch.Tensor, ...]:
    """So many noisy versions of `count` generated images, then the clean ones if wanted: uint8 (count, 3, 32, 32) each.
    Image i depends on seed and i alone."""
    scenes = [Scene(seed, start + i) for i in range(count)]
    noisy = [stack([scene.noisy() for scene in scenes]) for _ in range(versions)]
    return (*noisy, stack([scene.clean() for scene in scenes])) if clean else tuple(noisy)


def generated_pairs(count: int, seed: int = 0, start: int = 0) -> Pair:
    """(noisy_1, noisy_2) of `count` generated images."""
    first, second = generated(count, 2, False, seed, start)
    return first, second


def generated_validation(count: int, seed: int = 0, start: int = 10**9) -> Pair:
    """(noisy, clean) of `count` generated images, by default others than the training ones."""
    noisy, clean = generated(count, 1, True, seed, start)
    return noisy, clean
