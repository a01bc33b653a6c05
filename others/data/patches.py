"""Patches of one's own noisy pictures, cut on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TypeAlias

import torch

from .pixels import Pair

Shots: TypeAlias = Sequence[torch.Tensor]  # pictures (3, H, W) in 0-255 of one scene, two or more

MANY = 10  # scenes, of which every tenth is held out; of fewer, a tenth of each


def generator_of(seed: int, epoch: int) -> torch.Generator:
    """The random numbers of an epoch."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


class Patches:
    """Calling it with an epoch's number gives that epoch's (noisy_1, noisy_2): pixels (count, 3, size, size) cut at
    random from scenes. The same seed and epoch give the same patches.

    scenes: lists of two or more pictures (3, H, W) in 0-255 of one scene; two different ones are drawn for each patch.
    """

    def __init__(self, scenes: Sequence[Shots], count: int = 5000, size: int = 64, seed: int = 0) -> None:
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


def held_out(scenes: Sequence[Shots], size: int) -> tuple[list[Shots], list[Shots]]:
    """(what to train on, what to measure with) in patches of that side: of ten scenes or more every tenth; of fewer
    the lowest tenth of each, but a patch at least, where twice a patch is left above it."""
    if len(scenes) >= MANY:
        return [shots for number, shots in enumerate(scenes, 1) if number % MANY], list(scenes[MANY - 1 :: MANY])
    kept: list[Shots] = []
    held: list[Shots] = []
    for shots in scenes:
        height = shots[0].shape[1]
        above = height - max(size, height // MANY)
        if above >= 2 * size:
            held.append([shot[:, above:] for shot in shots])
            shots = [shot[:, :above] for shot in shots]
        kept.append(shots)
    return kept, held


def side_by_side(scenes: Sequence[Shots], size: int, most: int) -> Pair | None:
    """(noisy_1, noisy_2): pixels (N, 3, size, size), float32, of at most `most` patches, evenly chosen from those
    that lie side by side in the scenes; of each another two shots in turn. None of no scenes."""
    places = [
        (shots, top, left)
        for shots in scenes
        for top, left in product(*(range(0, n - size + 1, size) for n in shots[0].shape[1:]))
    ]
    chosen = [places[number * len(places) // most] for number in range(most)] if len(places) > most else places
    if not chosen:
        return None

    def version(later: int) -> torch.Tensor:
        cut = []
        for number, (shots, top, left) in enumerate(chosen, later):
            cut.append(shots[number % len(shots)][:, top : top + size, left : left + size].float())
        return torch.stack(cut)

    return version(0), version(1)
