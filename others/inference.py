"""Denoising pixels of any size."""

import torch

from .data import to_pixels, to_unit

PIXELS_AT_ONCE = 100 * 32 * 32


def denoise(network, images, dtype=torch.float32):
    """Pixels (N, 3, H, W) in 0-255 -> denoised float32 pixels of the same shape, on the device of `images`.

    Sizes that the network's strides do not divide are extended by repeating the border and cut back afterwards.
    """
    device = network.parameters()[0].device
    height, width = images.shape[2:]
    below, right = -height % network.multiple, -width % network.multiple
    at_once = max(1, PIXELS_AT_ONCE // (height * width))
    output = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    for source, target in zip(images.split(at_once), output.split(at_once)):
        unit = extend(to_unit(source, device, dtype), below, right)
        target.copy_(to_pixels(network.forward(unit)[:, :, :height, :width]))
    return output


def extend(images, below, right):
    """Repeat the last row `below` times and the last column `right` times."""
    if below:
        images = torch.cat((images, images[:, :, -1:].expand(-1, -1, below, -1)), 2)
    if right:
        images = torch.cat((images, images[:, :, :, -1:].expand(-1, -1, -1, right)), 3)
    return images
