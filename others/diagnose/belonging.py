"""Whether two pictures show one scene, by what is left of them when noise is averaged out.

Noise of two exposures differs, and its mean over a block of pixels tends to 0; a scene does not. So where the pictures
agree in structure that noise would not repeat, they show one scene; where their difference has structure that noise has
not, they show two. Where there is neither, a wall or the sky, it cannot be told.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

SCALES = 1, 2, 4, 8  # pixels of a block's side
TILE = 4  # blocks of a tile's side
FEWEST = 16  # tiles to tell from
AGREEING, ALIKE = 5, 0.5  # standard errors of the mean correlation of tiles; correlation that leaves no doubt
STRUCTURED, SLOPE = 7, 0.05  # standard errors of the correlation of blocks that lie apart; that correlation
BLOCK, APART = 4, (4, 6, 8)  # pixels of a block's side; blocks between those that noise does not correlate
LOUD, SMOOTH = 15, 4  # standard deviation of blocks of noise; their variance over that of blocks of white noise
COARSE = 8  # pixels of a side of the blocks whose exposure is compared
FEW = 0.05  # share of black and white pixels in a block that does not change its mean
CLIPPED = 0.05  # share of the blocks that one of the pictures has black or white

DIFFERENT = "they show different scenes"


class Relation(NamedTuple):
    """How two pictures belong together. wrong: why they show no one scene, or nothing. known: whether they do; where
    neither is so it cannot be told. gain, offset: of the second picture's pixel values over the first's; uneven: how
    many pixel values that is where it is most; bent: how far tones are from that line; clipped: by what share of the
    blocks one has more that are black or white."""

    wrong: str = ""
    known: bool = False
    gain: float = 1.0
    offset: float = 0.0
    uneven: float = 0.0
    bent: float = 0.0
    clipped: float = 0.0

    @property
    def different(self) -> bool:
        return self.wrong == DIFFERENT


def relation(first: torch.Tensor, second: torch.Tensor) -> Relation:
    """The Relation of two grey pictures (H, W) in 0-255 with sides of 64 or more."""
    strength, alike = agreement(first, second)
    found = exposure(first, second) if strength > AGREEING else Relation()
    if strength > 2 * AGREEING and alike > ALIKE:
        return found
    left = (second - found.offset) / found.gain - first
    if found.known:
        left = left * ~(whole(clipped(first) > FEW, left) | whole(clipped(second) > FEW, left))
    different = structured(left) or too_much(left)
    if strength < -AGREEING and (different or alike < -ALIKE):
        return Relation("the second is a negative of the first")
    if (different or not found.known) and turned(first, second, AGREEING if different else 2 * AGREEING):
        return Relation("the second is mirrored or turned")
    if different:
        return Relation(DIFFERENT)
    return found if found.known else brighter(Relation(), left)


def brighter(found: Relation, left: torch.Tensor, side: int = 2 * COARSE) -> Relation:
    """The Relation with offset, uneven and bent from a difference in which little but noise is to be seen."""
    blocks = means(left, side)
    offset = float(blocks.mean())
    sure = abs(offset) > AGREEING * float(blocks.std()) / blocks.numel() ** 0.5
    return found._replace(offset=offset, uneven=abs(offset), bent=abs(offset)) if sure else found


def agreement(first: torch.Tensor, second: torch.Tensor) -> tuple[float, float]:
    """(standard errors that the mean of the tiles' correlations is above 0, that mean), at the scale where it is most
    certain."""
    found = [(0.0, 0.0)]
    for scale in SCALES:
        one, two = (tiles(fine(means(image, scale))) for image in (first, second))
        if len(one) >= FEWEST:
            size = (one.square().sum(1) * two.square().sum(1)).sqrt()
            each = (one * two).sum(1) / size.clamp_min(1e-6)
            error = each.std() / len(each) ** 0.5
            found.append((float(each.mean() / error.clamp_min(1e-6)), float(each.mean())))
    return max(found, key=lambda pair: abs(pair[0]))


def means(image: torch.Tensor, side: int) -> torch.Tensor:
    """(H, W) -> (H // side, W // side), the means of blocks."""
    rows, columns = (n // side for n in image.shape)
    return image[: rows * side, : columns * side].reshape(rows, side, columns, side).mean((1, 3))


def fine(image: torch.Tensor) -> torch.Tensor:
    """What a pixel is above the mean of its four neighbours."""
    middle = image[1:-1, 1:-1]
    return middle - (image[2:, 1:-1] + image[:-2, 1:-1] + image[1:-1, 2:] + image[1:-1, :-2]) / 4


def tiles(image: torch.Tensor) -> torch.Tensor:
    """(H, W) -> (tiles, pixels of a tile), each without its mean."""
    if min(image.shape) < TILE:
        return image.new_empty(0, TILE**2)
    each = image.unfold(0, TILE, TILE).unfold(1, TILE, TILE).reshape(-1, TILE**2)
    return each - each.mean(1, keepdim=True)


def structured(left: torch.Tensor) -> bool:
    """Whether blocks of a difference that lie apart, further than noise is correlated, vary together along rows and
    along columns. Single strong blocks count little."""
    blocks = means(left, BLOCK)
    blocks = blocks - blocks.median()
    blocks = blocks.clamp(*(3 * 1.5 * blocks.abs().median() * sign for sign in (-1, 1)))
    blocks = blocks - blocks.mean()
    power = blocks.square().mean().clamp_min(1e-6)
    for apart in APART:
        if 2 * apart > min(blocks.shape):
            continue
        products = blocks[apart:] * blocks[:-apart], blocks[:, apart:] * blocks[:, :-apart]
        slopes = [float(product.mean() / power) for product in products]
        errors = [product.numel() ** -0.5 for product in products]
        sure = min(slope / error for slope, error in zip(slopes, errors))
        if sure > STRUCTURED and min(slopes) > SLOPE:
            return True
    return False


def too_much(left: torch.Tensor) -> bool:
    """Whether a difference is stronger and smoother than that of noise."""
    blocks = means(left, BLOCK).var() / 2
    return bool(blocks > LOUD**2 and blocks * BLOCK**2 > SMOOTH * left.var() / 2)


def turned(first: torch.Tensor, second: torch.Tensor, least: float) -> bool:
    """Whether the second agrees with the first, by so many standard errors, when it is mirrored or turned."""
    views = [second.flip(axes) for axes in ((0,), (1,), (0, 1))]
    if first.shape[0] == first.shape[1]:
        views += [view.mT for view in (second, *views)]
    return any(agreement(first, view)[0] > least for view in views)


def exposure(first: torch.Tensor, second: torch.Tensor) -> Relation:
    """The Relation of two pictures of one scene: the line nearest to the blocks of both, without those that are black
    or white in one, and without the fifth that fits worst. (Deming 1943, for equal errors)"""
    shares = clipped(first), clipped(second)
    one, two = (means(image, COARSE).flatten() for image in (first, second))
    more = shares[1] - shares[0]
    alone = abs(float((more > 0.5).float().mean() - (more < -0.5).float().mean()))
    kept = (torch.maximum(*shares) <= FEW).flatten()
    if kept.sum() < FEWEST:
        return Relation("", True, clipped=alone)
    one, two = one[kept], two[kept]
    if torch.stack((one, two)).corrcoef()[0, 1] < ALIKE:
        return brighter(Relation("", True, clipped=alone), (two - one).view(1, -1), 1)
    gain, offset = line(one, two)
    worst = (two - gain * one - offset).abs()
    near = worst <= worst.quantile(0.8)
    gain, offset = line(one[near], two[near])
    ends = one.quantile(torch.tensor([0.05, 0.95]))
    uneven = float((gain * ends + offset - ends).abs().max())
    left = two - gain * one - offset
    if uneven < 2 * AGREEING * float(left.std()) / len(left) ** 0.5:  # of noise that blocks next to each other share
        return Relation("", True, clipped=alone)
    fifths = left[(two + gain * one).argsort()].tensor_split(5)
    bent = max(abs(float(fifth.mean())) for fifth in fifths)
    return Relation("", True, gain, offset, uneven, bent, alone)


def clipped(image: torch.Tensor) -> torch.Tensor:
    """The share of black and white pixels in each block."""
    return means(((image <= 0) | (image >= 255)).float(), COARSE)


def whole(blocks: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """What is said of blocks, (H // 8, W // 8), for every pixel of the image; False beyond the blocks."""
    said = torch.zeros(image.shape, dtype=torch.bool)
    grown = blocks.repeat_interleave(COARSE, 0).repeat_interleave(COARSE, 1)
    said[: grown.shape[0], : grown.shape[1]] = grown
    return said


def line(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """(gain, offset)"""
    (a, b), (_, c) = torch.stack((x, y)).cov().tolist()
    if b <= 0:
        return 1.0, 0.0
    half = (c - a) / (2 * b)
    gain = half + (half * half + 1) ** 0.5
    return gain, float(y.mean() - gain * x.mean())
