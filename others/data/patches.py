"""Patches of one's own noisy pictures, cut on the fly."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .pixels import Pair


def generator_of(seed: int, epoch: int) -> torch.Generator:
    """The random numbers of an epoch."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


class Patches:
    """Calling it with an epoch's number gives that epoch's (noisy_1, noisy_2): pixels (count, 3, size, size) cut at
    random from scenes. The same seed and epoch give the same patches.

    scenes: lists of two or more pictures (3, H, W) in 0-255 of one scene; two different ones are drawn for each patch.
    """

    def __init__(
        self, scenes: Sequence[Sequence[torch.Tensor]], count: int = 5000, size: int = 64, seed: int = 0
    ) -> None:
        self.scenes, self.count, self.seed = scenes, count, seed
        self.size = min([size, *(n for scene in scenes for n in scene[0].shape[1:])])

    def __call__(self, epoch: int) -> Pair:
        generator = generator_of(self.seed, epoch)
        first, second = zip(*(self.cut(generator) for _ in range(self.count)))
        return torch.stack(first), torch.stack(second)

    def cut(self, generator: torch.Generator) -> Pair:
        scene = self.scenes[draw(len(self.scenes), generator)]
        first, second = torch.randperm(len(scene), generator=generator)[:2].tolist()
        top, left = (draw(n - self.size + 1, generator) for n in scene[0].shape[1:])
        place = slice(None), slice(top, top + self.size), slice(left, left + self.size)
        return scene[first][place], scene[second][place]


def draw(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))
