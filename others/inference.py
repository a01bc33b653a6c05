"""Denoising pixels of any size in bounded memory."""

import torch

from .data import to_pixels, to_unit
from .nn import alignment, receptive_field

PIXELS_AT_ONCE = 2**17  # 128 images of 32 x 32, or a tile of about 360 x 360: some 200 MB with the RED-Net


def denoise(network, images, dtype=torch.float32, self_ensemble=False, pixels_at_once=PIXELS_AT_ONCE):
    """Pixels (N, 3, H, W) in 0-255 -> denoised float32 pixels of the same shape, on the device of `images`.

    Sizes that the network's strides do not divide are extended by repeating the border and cut back afterwards.
    Images of more than `pixels_at_once` are denoised in overlapping tiles, and what a tile's border can influence is
    cut off, so the result is that of the whole image. self_ensemble averages over the 8 flips and quarter turns.
    """
    output = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    height, width = images.shape[2:]
    at_once = max(1, pixels_at_once // (height * width))
    for source, target in zip(images.split(at_once), output.split(at_once)):
        if not self_ensemble:
            target.copy_(to_pixels(denoise_unit(network, source, dtype, pixels_at_once)))
            continue
        total = 0
        for turns in range(4):
            for mirror in (False, True):
                view = transform(source, turns, mirror)
                total = total + transform_back(denoise_unit(network, view, dtype, pixels_at_once), turns, mirror)
        target.copy_(to_pixels(total / 8))
    return output


def transform(images, turns, mirror):
    """Turn by quarters, then mirror."""
    images = images.rot90(turns, (2, 3))
    return images.flip(3) if mirror else images


def transform_back(images, turns, mirror):
    """The inverse of `transform`."""
    images = images.flip(3) if mirror else images
    return images.rot90(-turns, (2, 3))


def denoise_unit(network, images, dtype, pixels_at_once):
    """Pixels (N, 3, H, W) in 0-255 -> the network's float32 output (N, 3, H, W), tile by tile if they are large."""
    device = network.parameters()[0].device
    height, width = images.shape[2:]
    images = extend(images, -height % network.multiple, -width % network.multiple)
    if images.shape[2] * images.shape[3] <= pixels_at_once:
        return network.forward(to_unit(images, device, dtype)).float()[:, :, :height, :width]
    output = torch.empty(images.shape, dtype=torch.float32, device=device)
    for tile, keep, place in tiles(network, images.shape[2:], pixels_at_once):
        output[place] = network.forward(to_unit(images[tile], device, dtype)).float()[keep]
    return output[:, :, :height, :width]


def extend(images, below, right):
    """Repeat the last row `below` times and the last column `right` times."""
    if below:
        images = torch.cat((images, images[:, :, -1:].expand(-1, -1, below, -1)), 2)
    if right:
        images = torch.cat((images, images[:, :, :, -1:].expand(-1, -1, -1, right)), 3)
    return images


def tiles(network, size, pixels_at_once):
    """Yield (tile of the input, part of the tile's output to keep, its place in the output) as tuples of slices."""
    sides = tile_sides(size, pixels_at_once)
    axes = zip(size, sides, receptive_field(network), alignment(network))
    rows, columns = (list(cuts(*axis)) for axis in axes)
    every = slice(None)
    for vertical in rows:
        for horizontal in columns:
            yield tuple((every, every, *both) for both in zip(vertical, horizontal))


def tile_sides(size, pixels_at_once):
    """Height and width of about `pixels_at_once`, nearly square unless the image is too narrow for that."""
    side = int(pixels_at_once**0.5)
    height = min(size[0], max(side, pixels_at_once // size[1]))
    return height, min(size[1], max(1, pixels_at_once // height))


def cuts(size, side, margin, step):
    """Cover an axis: (input slice, slice of its output to keep, place of that) of each piece of about `side`.

    A piece reaches `margin` beyond what is kept of it and starts at a multiple of `step`, where the network's strides
    fall as they do in the whole image; at the ends of the axis it ends with it.
    """
    before, after = (-(-m // step) * step for m in margin)
    inner = max(step, (side - before - after) // step * step)
    for start in range(0, size, inner):
        stop = min(start + inner, size)
        first, last = max(0, start - before), min(size, stop + after)
        yield slice(first, last), slice(start - first, stop - first), slice(start, stop)
