"""Noisy pairs of one's own: patches cut on the fly, and whether the pairs are what Noise2Noise needs.

Noise2Noise learns from two pictures of one scene whose noise is independent and has mean zero. A pair that is shifted
teaches blur; a pair of equal pictures, or with the same noise in both, teaches to keep the noise; one of two scenes
teaches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import NamedTuple

import torch

from .belonging import CLIPPED, Relation, relation
from .noise import BLOCK

FAR = 0.75  # pixels of shift from which a pair counts as not aligned
CLEAR = 12, 18  # standard deviations that the correlation's peak has to reach: for a shift of more than a pixel, of one
SMALLEST = 64  # pixels of a side, to tell anything of a pair
COMMON = 0.7  # correlation of detail in flat blocks from which two pictures may share their noise
WHITE, EVEN = 0.75, 2  # power of the finest detail over that of coarser; of a tenth of the flat blocks over a fiftieth
LEAST, FEWEST = 8, 16  # power of a block's detail, 63 numbers of each picture; flat blocks
UNEVEN = 4  # pixel values that exposures may differ by
NEXT = 4  # shots that a shot is compared with, beside the first
SCENE, NOISE = "whether they show one scene", "whether their noise is independent"


# ------------------------------------------------------------------------------------------------------ checking


class Finding(NamedTuple):
    """What was found in a pair. wrong: why it cannot teach, or nothing. unknown: what cannot be told of it, or nothing.
    relation: with the exposure of the second picture over the first's."""

    wrong: str = ""
    unknown: str = ""
    relation: Relation = Relation()


def check_scene(shots: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Finding]:
    """(the shots, all exposed as the first; Finding of the scene). Each is compared with the first and with those
    next to it."""
    shots, unknown, relations = list(shots), "", []
    for i, j in combinations(range(len(shots)), 2):
        if i and j - i > NEXT:
            continue
        found = compare(shots[i], shots[j])
        if found.wrong:
            return shots, found
        unknown = unknown or found.unknown
        if found.relation.uneven > UNEVEN:
            relations.append(found.relation)
            shots[j] = (shots[j].float() - found.relation.offset) / found.relation.gain
    return shots, Finding("", unknown, max(relations, key=lambda each: each.uneven, default=Relation()))


def compare(first: torch.Tensor, second: torch.Tensor) -> Finding:
    """Finding of two pictures (3, H, W) in 0-255. Of pictures with a side below `SMALLEST` little can be told."""
    if first.shape != second.shape:
        return Finding(f"they have different sizes, {size_of(first)} and {size_of(second)}")
    if torch.equal(middle(first), middle(second)):
        return Finding("they are the same picture; each needs noise of its own")
    related = belonging(first, second)
    if related.wrong:
        return Finding(related.wrong)
    if related.clipped > CLIPPED or min(related.uneven, related.bent) > UNEVEN:
        other = "" if related.known else ", if they show one scene"
        return Finding(f"{exposed(related)}, in a way that cannot be corrected; expose both alike{other}")
    if not related.known:
        return Finding("", SCENE, related)
    same = same_noise(middle(first), middle(second))
    if same:
        return Finding("they have the same noise; each needs noise of its own, as from two exposures")
    return Finding("", "" if same is False else NOISE, related)


def problem(first: torch.Tensor, second: torch.Tensor) -> str | None:
    """What is wrong with a pair of pictures (3, H, W) of one scene, in plain words; None if nothing was found."""
    return compare(first, second).wrong or None


def belonging(first: torch.Tensor, second: torch.Tensor) -> Relation:
    """The Relation of two pictures (3, H, W) of one size, which are to show one scene with nothing moved."""
    if min(first.shape[1:]) < SMALLEST:
        return Relation()
    first, second = middle(first), middle(second)
    down, right = shift(first, second)
    if max(abs(down), abs(right)) > FAR:
        here, there, still = moved(first, -down, -right), moved(second, down, right), moved(second, -down, -right)
        better = alike(here, there) > alike(here, still)  # a peak beside 0 may be noise's
        if better and min(here.shape) >= SMALLEST and relation(here, there).known:
            return Relation(f"the second is shifted by {down:+.0f} rows and {right:+.0f} columns; align them first")
    return relation(first, second)


def moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """What of a picture (H, W) stays in its frame when it is moved back by so much."""
    rows, columns = image.shape
    return image[max(0, down) : rows + min(0, down), max(0, right) : columns + min(0, right)]


def alike(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.stack((first.flatten(), second.flatten())).corrcoef()[0, 1]


def exposed(related: Relation) -> str:
    return f"the second is exposed differently ({related.gain:.2f} times the first, {related.offset:+.0f})"


def groups(shots: Sequence[torch.Tensor]) -> list[list[int]]:
    """[[numbers of shots that follow each other and show one scene, as far as can be told]]"""
    found: list[list[int]] = []
    for number, shot in enumerate(shots):
        last = shots[found[-1][-1]] if found else None
        if last is not None and last.shape == shot.shape and not belonging(last, shot).different:
            found[-1].append(number)
        else:
            found.append([number])
    return found


def patch_side(scenes: Collection[Sequence[torch.Tensor]], wanted: int) -> int:
    """The side of the patches: as wanted, or what half of the scenes have. Smaller scenes are to be left out."""
    sides = sorted(min(scene[0].shape[1:]) for scene in scenes)
    return min(wanted, sides[len(sides) // 2])


def size_of(image: torch.Tensor) -> str:
    return f"{image.shape[1]} x {image.shape[2]}"


def middle(image: torch.Tensor, side: int = 512) -> torch.Tensor:
    """The central part of a picture as grey floats (H, W)."""
    top, left = (max(0, (n - side) // 2) for n in image.shape[1:])
    return image[:, top : top + side, left : left + side].float().mean(0)


def shift(first: torch.Tensor, second: torch.Tensor) -> tuple[int, int]:
    """(down, right): where the content of `first` is found in `second`, in whole pixels: the highest peak of the
    phase correlation, smoothed by a pixel for the noise; (0, 0) unless it stands out, as with little but noise it does
    not. (Kuglin & Hines 1975)"""
    spectra = [torch.fft.rfft2(windowed(image)) for image in (first, second)]
    cross = spectra[1] * spectra[0].conj()
    cross = cross / cross.abs().clamp_min(1e-9) * low_pass(first.shape)
    surface = torch.fft.irfft2(cross, s=first.shape)
    peak = divmod(int(surface.argmax()), first.shape[1])
    down, right = (p - n if p > n // 2 else p for p, n in zip(peak, first.shape))
    clear = surface.max() > CLEAR[max(abs(down), abs(right)) == 1] * surface.std()
    return (down, right) if clear else (0, 0)


def windowed(image: torch.Tensor) -> torch.Tensor:
    """Without its mean, faded out to the border, where a picture does not go on as the transform assumes."""
    rows, columns = (torch.hann_window(n, periodic=False) for n in image.shape)
    return (image - image.mean()) * rows.unsqueeze(1) * columns


def low_pass(shape: Sequence[int]) -> torch.Tensor:
    """A Gaussian over frequencies: rows as fft2, columns as rfft2 has them."""
    rows, columns = torch.fft.fftfreq(shape[0]), torch.fft.rfftfreq(shape[1])
    return (-20 * (rows.unsqueeze(1).square() + columns.square())).exp()


def same_noise(first: torch.Tensor, second: torch.Tensor) -> bool | None:
    """Whether two pictures (H, W) have the same noise: True, False, or None where it cannot be told.

    Looked at are the flattest blocks, where they agree: noise reaches into the finest detail and is alike in all of
    them, texture of the scene, which two exposures have in common too, is and does not.
    """
    fine, coarse = frequencies()
    one, two = (spectra(image) for image in (first, second))
    power = (one.square() + two.square())[:, fine | coarse].sum(1)
    order = power.argsort()
    order = order[power[order] > LEAST]
    if len(order) < FEWEST:
        return None
    flattest = order[: max(FEWEST, len(order) // 10)]
    one, two = one[flattest], two[flattest]
    powers = [blocks.square().mean(0) for blocks in (one, two)]
    common = (one * two).mean(0)[coarse].mean() / (powers[0] * powers[1]).sqrt()[coarse].mean()
    if common <= COMMON:
        return False
    white = max(power[fine].mean() / power[coarse].mean() for power in powers)
    even = power[order[len(order) // 10]] / power[order[len(order) // 50]]
    return True if white > WHITE and even < EVEN else None


def frequencies() -> tuple[torch.Tensor, torch.Tensor]:
    """(the finest, the coarser ones without the coarsest) of a block's frequencies: bool (8, 8) each."""
    rows, columns = torch.arange(BLOCK).unsqueeze(1), torch.arange(BLOCK)
    fine = (rows >= BLOCK // 2) & (columns >= BLOCK // 2)
    return fine, (rows + columns > 2) & (rows + columns < 7) & ~fine


def spectra(image: torch.Tensor) -> torch.Tensor:
    """(H, W) -> (blocks, 8, 8), cosine transforms."""
    row = torch.arange(BLOCK)
    cosines = (math.pi / BLOCK * row.unsqueeze(1) * (row + 0.5)).cos() * (2 / BLOCK) ** 0.5
    cosines[0] /= 2**0.5
    return cosines @ image.unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK).flatten(0, 1) @ cosines.mT
