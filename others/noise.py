"""What the noise of a picture looks like, estimated from the picture alone."""

from typing import NamedTuple

BLOCK = 8  # pixels; statistics are taken block by block
# Between the values for subsampled photographs and for photographs with Gaussian or Poisson noise, or none at all.
GRAIN = 3.0  # pixel values in the flattest blocks
EVEN = 0.58
COLOURED = 0.5
SMOOTH = -0.08


class Noise(NamedTuple):
    """flat: standard deviation, in pixel values, in the flattest tenth of the blocks; evenness: that over the median
    block's, 1 for noise that is the same everywhere. grey: share of the noise of those blocks that the channels have in
    common, 1 when they change together, 1/3 when each by itself. neighbours: correlation of successive differences
    along rows and columns, -1/2 for white noise, towards 1 for a smooth picture."""

    flat: float
    evenness: float
    grey: float
    neighbours: float


def look(pixels):
    """Pixels (1, 3, H, W) in 0-255 -> Noise; None for a picture too small to tell (a side below 32)."""
    if min(pixels.shape[2:]) < 4 * BLOCK:
        return None
    image = pixels[0, :, :1024, :1024].float()  # of a large picture a part will do
    blocks = detail(image)
    power = blocks.pow(2).mean((0, 3, 4)).flatten() / 36
    common = blocks.mean(0).pow(2).mean((2, 3)).flatten() / 36
    flattest = power.argsort()[: max(1, len(power) // 10)]
    flat, middle = (float(each.clamp_min(1e-6).sqrt()) for each in (power[flattest].mean(), power.median()))
    shared = float(common[flattest].sum() / power[flattest].sum().clamp_min(1e-6))
    grey = image.mean(0)
    return Noise(flat, flat / middle, shared, (correlation(grey) + correlation(grey.mT)) / 2)


def detail(image):
    """The second differences along both axes, in blocks: (..., H, W) -> (..., rows of blocks, columns, 8, 8). Of white
    noise they have 36 times the variance, of flat areas and slopes nothing. (Immerkaer 1996)"""
    for _ in range(2):
        image = (image[..., 2:] - 2 * image[..., 1:-1] + image[..., :-2]).mT
    return image.unfold(-2, BLOCK, BLOCK).unfold(-2, BLOCK, BLOCK)


def correlation(image):
    """Of each difference of neighbours in a row with the next one."""
    step = image[:, 1:] - image[:, :-1]
    power = step.pow(2).mean()
    return float((step[:, 1:] * step[:, :-1]).mean() / power) if power > 0 else 1.0


def unlike_training(noise):
    """How the noise differs from that which the shipped weights were trained on, or None.

    That noise is one pixel drawn for each cell of a finer picture: independent from pixel to pixel, the same for the
    three channels, none in flat areas, strong at edges and in texture.
    """
    if noise is None:
        return None
    if noise.flat > GRAIN and (noise.grey < COLOURED or noise.evenness > EVEN):
        return "flat areas are noisy too, as from a camera's sensor"
    if noise.neighbours > SMOOTH:
        return "neighbouring pixels vary together: nearly clean, or smoothed by a camera, JPEG or resizing"
    return None
