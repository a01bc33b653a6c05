"""The RED-Net: a little better, and slower.

`denoiser.py` has the same names inside: swap the two files to swap the network."""

from __future__ import annotations

from collections.abc import Sequence

from .nn import Conv2d, ReLU, Sequential, Skip, TransposeConv2d

NAME = "rednet"
RECIPE = {"optimizer": "Muon", "lr": 0.003, "momentum": 0.95, "clip": 0.01}  # training.Recipe


class Denoiser(Sequential):
    """Convolutions, then as many transposed convolutions, with additive skips between the mirrored layers and from
    the input to the output: the network estimates the noise. (Mao, Shen & Yang 2016, arXiv:1603.09056)

    Shape: (N, 3, H, W) -> (N, 3, H, W); H and W multiples of `multiple`. `layers` lists the convolutions as
    (channels, kernel_size, stride).
    """

    def __init__(
        self, layers: Sequence[tuple[int, int, int]] = ((64, 3, 1), (80, 3, 1), (128, 3, 2), (256, 3, 2), (256, 3, 2))
    ) -> None:
        self.arguments = {"layers": tuple(map(tuple, layers))}
        self.multiple = 1
        for _, _, stride in layers:
            self.multiple *= stride
        super().__init__(mirrored(3, layers))


def mirrored(channels: int, layers: Sequence[tuple[int, int, int]]) -> Skip:
    """x + transposed convolution of (the rest, mirrored in turn, of) ReLU of convolution of x."""
    (width, kernel_size, stride), *rest = layers
    padding = (kernel_size - 1) // 2
    inside = [mirrored(width, rest), ReLU(inplace=True)] if rest else []
    return Skip(
        Sequential(
            Conv2d(channels, width, kernel_size, stride, padding),
            ReLU(inplace=True),
            *inside,
            TransposeConv2d(width, channels, kernel_size, stride, padding, 2 * padding + stride - kernel_size),
        )
    )
