"""The network that the assignment prescribes: the quicker one.

`denoiser_bonus.py` has the same names inside: swap the two files to swap the network."""

from __future__ import annotations

from .nn import Conv2d, ReLU, Sequential, Sigmoid, TransposeConv2d

NAME = "prescribed"
RECIPE = {"optimizer": "Muon", "lr": 0.005, "momentum": 0.95, "clip": 0.02, "balance": 0.5}  # training.Recipe


class Denoiser(Sequential):
    """Conv(stride 2), ReLU, Conv(stride 2), ReLU, Upsampling, ReLU, Upsampling, Sigmoid, as the assignment asks.

    Shape: (N, 3, H, W) -> (N, 3, H, W), values in [0, 1]; H and W multiples of `multiple`.
    kernel_sizes are those of the two layers next to the image and of the two inner ones.
    """

    multiple = 4

    def __init__(self, channels: tuple[int, int] = (224, 384), kernel_sizes: tuple[int, int] = (5, 3)) -> None:
        self.arguments = {"channels": tuple(channels), "kernel_sizes": tuple(kernel_sizes)}
        half, quarter = channels
        outer, inner = ((k, 2, (k - 1) // 2) for k in kernel_sizes)  # kernel_size, stride, padding
        super().__init__(
            Conv2d(3, half, *outer),
            ReLU(inplace=True),
            Conv2d(half, quarter, *inner),
            ReLU(inplace=True),
            TransposeConv2d(quarter, half, *inner, output_padding=inner[0] % 2),
            ReLU(inplace=True),
            TransposeConv2d(half, 3, *outer, output_padding=outer[0] % 2),
            Sigmoid(),
        )
