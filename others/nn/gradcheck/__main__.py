"""The table over all blocks: `python -m others.nn.gradcheck`; exit status 1 if a gradient is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

from torch import empty

from .. import activations, choice, containers, convolution, linear, losses, pooling, upsampling
from ..matching import MatchedSpectrum
from ..module import Module
from ..spectrum import Correction, InverseSpectrum, Spectrum
from . import gradcheck, noise

if TYPE_CHECKING:
    from torch import Tensor


def image(*shape: int) -> Tensor:
    """Normal float64 numbers, the same for the same shape."""
    return noise(empty(shape).double(), Random(str(shape)))


class Graph(Module):
    """A module that has only a forward: one convolution used twice, a sum, a concatenation."""

    def __init__(self) -> None:
        self.conv, self.tanh = convolution.Conv2d(3, 3, (3, 5), padding=(1, 2)), activations.Tanh()
        self.add, self.concat = containers.Add(), containers.Concat()

    def forward(self, input: Tensor) -> Tensor:
        once = self.tanh(self.conv(input))
        twice = self.add(self.conv(once), input)
        return self.concat(once, twice, once)


def blocks() -> Iterator[tuple]:
    """(module, *inputs) for every block, and (loss, input, target)."""
    x, y = image(2, 4, 7, 5), image(2, 4, 7, 5) * 2 + 1
    conv, up = convolution.Conv2d, convolution.TransposeConv2d
    yield conv(4, 6, (3, 2), (2, 1), (1, 0), (1, 2)), x
    yield conv(4, 6, (2, 4), padding="same", groups=2, bias=False), x
    yield from ((conv(4, 3, 3, 2, (2, 1), padding_mode=mode), x) for mode in ("reflect", "replicate", "circular"))
    yield up(4, 6, (3, 4), (2, 3), (1, 0), (1, 2), groups=2), x
    yield up(4, 2, (2, 3), (3, 2), dilation=(2, 1), bias=False), x
    yield upsampling.UpsamplingConv2d(4, 6, (3, 2), (2, 3), groups=2), x
    yield upsampling.NearestUpsampling(scale_factor=(2, 3)), x
    yield upsampling.Upsample(size=(9, 4)), x
    yield linear.Linear(5, 3), x
    yield pooling.MaxPool2d((3, 2), (2, 1), 1, (1, 2), ceil_mode=True), x
    yield from ((kind(), x) for kind in (activations.ReLU, activations.Sigmoid, activations.Tanh))
    yield activations.LeakyReLU(0.2), x
    yield activations.ELU(1.5), x
    yield containers.Identity(), x
    yield containers.Flatten(), x
    yield containers.Sequential(conv(4, 5, 3), activations.Tanh(), up(5, 2, 3)), x
    yield containers.Skip(conv(4, 4, 3, padding=1)), x
    yield containers.Concatenate(conv(4, 2, 3, padding=1)), x
    yield Spectrum(4), image(2, 3, 6, 4)
    yield InverseSpectrum(4), image(2, 48, 3, 2)
    yield MatchedSpectrum(4, 2, 3), image(2, 3, 6, 4)
    yield Correction(conv(10, 6, 3, padding=1)), x
    yield containers.Add(), x, y
    yield containers.Concat(), x, y[:, :2]
    yield Graph(), image(2, 3, 6, 5)
    yield from ((losses.MSE(reduction=reduction), x, y) for reduction in losses.REDUCTIONS)
    yield from ((losses.L1Loss(reduction=reduction), x, y) for reduction in losses.REDUCTIONS)


def largest_error(module: Module, *inputs: Tensor) -> float:
    """Over the gradients of one block, and over both ways of computing a convolution."""
    target: dict[str, Any] = {"target": inputs[-1]} if isinstance(module, losses.Loss) else {}
    checks = []
    try:
        for choice.PLAIN in (False, True):
            checks += gradcheck(module, *inputs[: len(inputs) - len(target)], **target)
    finally:
        choice.PLAIN = True
    return max(check.error for check in checks)


def main() -> int:
    """Print one line for each block; the number of blocks that fail."""
    failures = 0
    for module, *inputs in blocks():
        try:
            print(f"{largest_error(module, *inputs):.1e}  {module.name()}")
        except AssertionError as error:
            failures += 1
            print(f"WRONG    {error}")
    return failures


if __name__ == "__main__":
    raise SystemExit(1 if main() else 0)
