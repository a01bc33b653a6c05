"""The network for photographs, with the noise that cameras leave."""

from __future__ import annotations

from .nn import Conv2d, Correction, InverseSpectrum, MatchedSpectrum, ReLU, Sequential, Skip

NAME = "camera"
RECIPE = {"optimizer": "Muon", "lr": 0.002, "momentum": 0.95, "clip": 1.0, "batch_size": 16}  # training.Recipe


class Denoiser(Sequential):
    """A Wiener filter whose gains a network of convolutions estimates, from the spectra of blocks of 8 x 8 pixels and
    of the means of similar blocks. (Wiener's filter on similar blocks, after the second step of Dabov et al. 2007; a
    network replaces their first estimate)

    Shape: (N, 3, H, W) -> (N, 3, H, W), images in [0, 1]; H and W multiples of `multiple`. `channels` is the width of
    the network that estimates, `blocks` how many pairs of convolutions it has between its first and its last.
    `inference.denoise` averages it with itself on the image moved by `shift` pixels.
    Raises ValueError for another number of blocks than 0 to 64.
    """

    multiple = 4
    shift = multiple // 2

    def __init__(self, channels: int = 192, blocks: int = 4) -> None:
        if not 0 <= blocks <= 64:  # files of weights say how many
            raise ValueError(f"Denoiser: expected blocks from 0 to 64, got {blocks}")
        self.arguments = {"channels": channels, "blocks": blocks}
        spectrum = MatchedSpectrum(2 * self.multiple)
        last = Conv2d(channels, 3 * spectrum.channels, 1)
        last.weight.mul_(0.3)  # at first sigmoid(a) and sigmoid(c) are near 1/2
        estimate = Sequential(
            Conv2d(5 * spectrum.channels, channels, 1),
            ReLU(inplace=True),
            *(residual(channels) for _ in range(blocks)),
            last,
        )
        super().__init__(Skip(Sequential(spectrum, Correction(estimate), InverseSpectrum(2 * self.multiple))))


def residual(channels: int) -> Skip:
    """x + convolution of ReLU of convolution of x, the second small at first. (He et al. 2016)"""
    last = Conv2d(channels, channels, 3, padding=1)
    last.weight.mul_(0.1)
    return Skip(Sequential(Conv2d(channels, channels, 3, padding=1), ReLU(inplace=True), last))
