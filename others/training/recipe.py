"""What a training is told, and what it tells."""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """How to train. The rate rises for a tenth of the steps and falls along a cosine to nearly zero; `clip` bounds the
    norm of the whole gradient, which for the tiny gradients of a mean squared error sets the length of SGD's steps.
    optimizer is SGD, with Nesterov's momentum, or Muon, whose steps depend on the gradient's direction alone. Input and
    target are swapped at random unless `swap` is False, for targets that are means of several versions. An image whose
    versions differ by v, the mean square in pixel values, counts (1 + v / 16)^-balance: 0.7 makes the error of a weak
    noise as important, in decibels, as that of a strong one."""

    lr: float = 10.0
    momentum: float = 0.9
    clip: float = 0.02
    batch_size: int = 32
    micro_batch: int = 32
    seed: int = 0
    optimizer: str = "SGD"  # or "Muon"
    swap: bool = True
    balance: float = 0.0


class Record(NamedTuple):
    """One epoch. `loss` is the mean squared error against the noisy targets, in units of [0, 1]: it goes to the clean
    error plus the variance of the target's noise, not to the clean error. `psnr` is PSNR A in dB against clean images,
    None without them."""

    epoch: int
    epochs: int
    loss: float
    seconds: float
    images_per_second: float
    psnr: float | None

    def __str__(self) -> str:
        psnr = "" if self.psnr is None else f", validation PSNR A {self.psnr:.2f} dB"
        return (f"epoch {self.epoch}/{self.epochs}: loss {self.loss:.5f}{psnr}, {self.seconds:.0f} s, "
                f"{self.images_per_second:.0f} images/s")  # fmt: skip
