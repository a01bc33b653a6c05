"""What noise a picture has, from the picture alone: how strong it is, where, and which weights are for it.

The strength is that of the flattest parts. Pixels drawn from a finer picture, the course's noise, leave flat parts as
they are; a small network tells them from noise of sensors, from JPEG and from clean pictures.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from ..data.pixels import centre
from ..inference import extend
from ..nn import Conv2d, ReLU, Sequential
from ..storage import networks

PART, JUDGED = 1024, 256  # rows and columns of a large picture are enough: for the strength, for the judge
SMALLEST = 32  # of a side, to tell
BLOCK = 8
FLATTEST = 0.1  # the share of the blocks that are taken for flat ...
DEVIATION = 1.36  # ... and what white noise has, over what is measured in that share of its blocks
INSIDE = 2, 253  # pixels beyond may have been clipped: their noise does not count
PALETTE = 32  # colours that are no more than a palette: not drawn from a photograph, though dithered
CLEAN = 1.5  # sigma of what is called clean
COARSE = 2  # times the noise of single pixels, from which what was taken away was coarse
LITTLE = 0.25  # the power of what is taken away: as good as nothing
MOST = 2.0  # times the usual power may be taken away
USUAL, GROUPS = 0.3, 8  # what is usual: that quantile, in as many groups of blocks by brightness
STRIP = 512  # rows, a multiple of BLOCK
UNEVEN = 1.4  # times the noise of the other third: stronger there
JUDGE = Path(__file__).with_name("judge.pth")


class Noise(NamedTuple):
    """sigma: standard deviation, in pixel values of 255; shadows, highlights: that of the darkest and the brightest
    third. drawn: whether pixels seem to be drawn from a finer picture."""

    sigma: float
    shadows: float
    highlights: float
    drawn: bool

    def __str__(self) -> str:
        if self.drawn:
            return "pixels as if drawn from a finer picture"
        if self.sigma < CLEAN:
            return "hardly any fine noise"
        where = ""
        if self.shadows > UNEVEN * self.highlights:
            where = ", stronger in the shadows"
        elif self.highlights > UNEVEN * self.shadows:
            where = ", stronger in the highlights"
        return f"noise of about sigma {self.sigma:.0f}{where}"


class Judge(Sequential):
    """Whether pixels are drawn from a finer picture: (N, 3, H, W) -> (N, 1, h, w), above 0 where they seem to be."""

    def __init__(self) -> None:
        self.arguments: dict[str, object] = {}
        super().__init__(
            Conv2d(3, 24, 3),
            ReLU(inplace=True),
            Conv2d(24, 32, 3, 2),
            ReLU(inplace=True),
            Conv2d(32, 48, 3, 2),
            ReLU(inplace=True),
            Conv2d(48, 1, 1),
        )

    def drawn(self, pixels: torch.Tensor) -> torch.Tensor:
        """The mean over each image: (N, 3, H, W) in 0-255 -> (N,)."""
        return self.forward(pixels.float() / 255 - 0.5).mean((1, 2, 3))


@cache
def judge() -> Judge:
    """The trained one."""
    network = Judge()
    network.load_state_dict(networks.load(JUDGE, "judge", lambda: network.state_dict())["state"])
    network.eval()
    return network


def look(pixels: torch.Tensor) -> Noise | None:
    """Pixels (1, 3, H, W) in 0-255 -> Noise; None when there is nothing to tell it from: a side is below 32, or all
    pixels are equal. Of a large picture the centre is looked at."""
    if min(pixels.shape[2:]) < SMALLEST or torch.equal(*pixels.aminmax()):
        return None
    part = centre(pixels, PART).float()
    powers, brightness = flat_blocks(part[0])
    order = brightness.argsort().tensor_split(3)
    shadows, highlights = (strength(powers[:, order[third]]) for third in (0, 2))
    judged = centre(part, JUDGED).cpu()
    codes = (judged[0].round() * torch.tensor([65536.0, 256.0, 1.0]).view(3, 1, 1)).sum(0)
    with torch.no_grad():
        drawn = len(codes.unique()) > PALETTE and bool(judge().drawn(judged) > 0)
    return Noise(strength(powers), shadows, highlights, drawn)


def limited(pixels: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
    """`denoised`, but no neighbourhood has lost much more than is usual in this picture where it is as bright: cloth
    and other fine regular texture look like noise. Pixels (1, 3, H, W) both.

    What was taken away of blocks of 8 x 8 has a power; that of 3 x 3 blocks together is to be at most `MOST` times what
    is `usual`, and what exceeds it is scaled down.
    """
    powers = powers_taken(pixels, denoised)
    if float(powers.max()) <= LITTLE:
        return denoised
    brightness = torch.cat([block_means(strip) for strip in denoised.split(STRIP, 2)])
    most = MOST * smoothed(usual(powers, brightness))
    share = (most / smoothed(powers).clamp_min(LITTLE)).clamp(max=1).sqrt()
    share = between(share.mT, pixels.shape[3]).mT
    kept = torch.empty_like(denoised)
    for number, (before, after) in enumerate(zip(pixels.split(STRIP, 2), denoised.split(STRIP, 2))):
        rows = between(share, before.shape[2], number * STRIP)
        torch.lerp(before.float(), after, rows, out=kept[:, :, number * STRIP : number * STRIP + before.shape[2]])
    return kept


def usual(powers: torch.Tensor, brightness: torch.Tensor) -> torch.Tensor:
    """What blocks (h, w) lose that are as bright as each: of those that lost something the quantile `USUAL` of each
    group, linearly between the groups' means; at least half of the median of all."""
    noisy = powers > LITTLE
    taken, brightnesses = powers[noisy], brightness[noisy]
    groups = brightnesses.argsort().chunk(GROUPS)
    means = torch.stack([brightnesses[group].mean() for group in groups])
    values = torch.stack([taken[group].quantile(USUAL) for group in groups])
    above = torch.searchsorted(means, brightness).clamp(max=len(groups) - 1)
    below = (above - 1).clamp(min=0)
    share = ((brightness - means[below]) / (means[above] - means[below]).clamp_min(1e-6)).clamp(0, 1)
    return values[below].lerp(values[above], share).clamp_min(taken.median() / 2)


def smoothed(blocks: torch.Tensor) -> torch.Tensor:
    """The mean of each 3 x 3 blocks, (h, w)."""
    for axis in (0, 1):
        place = torch.arange(-1, blocks.shape[axis] + 1, device=blocks.device).clamp(0, blocks.shape[axis] - 1)
        blocks = blocks.index_select(axis, place).unfold(axis, 3, 1).mean(2)
    return blocks


def in_words(seen: Noise | None, pixels: torch.Tensor, denoised: torch.Tensor, share: float = 1.0) -> str:
    """What noise there was, now that `share` of it was taken away: `look` sees that of single pixels alone, and of
    coarse noise, as of grain or of pictures that were enlarged, next to nothing. Pixels (1, 3, H, W) both."""
    if seen is None:
        return "too small or too even to tell its noise"
    taken = float(powers_taken(pixels, denoised).median().sqrt()) / share if share else 0.0
    coarse = not seen.drawn and taken > COARSE * max(seen.sigma, CLEAN)
    return f"coarse noise of about sigma {taken:.0f}" if coarse else str(seen)


def powers_taken(pixels: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
    """The mean square of what was taken away of each block (h, w), strip by strip, to need little memory."""
    strips = zip(pixels.split(STRIP, 2), denoised.split(STRIP, 2))
    return torch.cat([block_means((before.float() - after).square()) for before, after in strips])


def block_means(values: torch.Tensor) -> torch.Tensor:
    """(1, 3, H, W) -> the means of blocks (h, w), those at the ends of mirrored pixels."""
    values = extend(values, *((0, -n % BLOCK) for n in values.shape[2:]))
    return values[0].unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK).mean((0, 3, 4))


def between(blocks: torch.Tensor, count: int, first: int = 0) -> torch.Tensor:
    """Values of blocks in rows (h, w) -> those of `count` rows of pixels from the row `first` on, (count, w), linearly
    between the blocks' centres."""
    place = (torch.arange(first, first + count, device=blocks.device) + 0.5) / BLOCK - 0.5
    place = place.clamp(0, len(blocks) - 1)
    above = place.long()
    below = (above + 1).clamp(max=len(blocks) - 1)
    return blocks[above].lerp(blocks[below], (place - above).unsqueeze(1))


def flat_blocks(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of blocks of 8 x 8 of an image (3, H, W): the power of their noise if they were flat (3, blocks), and their mean
    (blocks,); of those alone that are not clipped, if there are any."""
    powers = detail(image).pow(2).mean((3, 4)).flatten(1) / 36
    around = image[:, 1:-1, 1:-1].unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK)
    inside = ((around > INSIDE[0]) & (around < INSIDE[1])).float().mean((0, 3, 4)).flatten() > 0.9
    use = inside if int(inside.sum()) >= 20 else torch.ones_like(inside)
    return powers[:, use], around.mean((0, 3, 4)).flatten()[use]


def strength(powers: torch.Tensor) -> float:
    """The noise of the flattest blocks (3, blocks), in pixel values."""
    count = max(1, int(FLATTEST * powers.shape[1]))
    return DEVIATION * float(powers.sort(1).values[:, :count].mean().sqrt())


def detail(image: torch.Tensor) -> torch.Tensor:
    """The second differences along both axes, in blocks: (..., H, W) -> (..., rows of blocks, columns, 8, 8). Of white
    noise they have 36 times the variance, of flat areas and slopes nothing. (Immerkaer 1996)"""
    for _ in range(2):
        image = (image[..., 2:] - 2 * image[..., 1:-1] + image[..., :-2]).mT
    return image.unfold(-2, BLOCK, BLOCK).unfold(-2, BLOCK, BLOCK)
