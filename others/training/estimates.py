"""What noisy pairs alone tell of a training: how long it takes, and what it gains."""

from __future__ import annotations

import copy
import math
import time
from typing import NamedTuple

import torch

from ..evaluation.metrics import squared_errors
from ..inference import denoise
from ..nn import Module
from .loop import noise_variance, train_step
from .recipe import Recipe
from .run import OPTIMIZERS

LITTLE = 0.05  # dB: less is no gain
UNEQUAL = 0.1  # of the noise's variance, by which the errors against the two versions may differ


# -------------------------------------------------------------------------------------------------------- its time


def step_seconds(
    network: Module,
    first: torch.Tensor,
    second: torch.Tensor,
    recipe: Recipe,
    dtype: torch.dtype = torch.float32,
    workers: int = 1,
) -> float:
    """Seconds of one step on pairs of pixels (N, 3, H, W), of which each of `workers` takes its share. A copy of the
    network trains on a micro-batch, after one image that nobody times; the network stays as it is."""
    mine = -(-min(len(first), recipe.batch_size) // workers)
    if not mine:
        return 0.0
    trial, count, passed = copy.deepcopy(network), min(mine, recipe.micro_batch), 0.0
    optimizer = OPTIMIZERS[recipe.optimizer](trial.param(), recipe)
    trial.train()
    for images in (1, count):
        started = time.perf_counter()
        train_step(trial, optimizer, first[:images], second[:images], recipe, dtype)
        passed = time.perf_counter() - started
    return passed * mine / count


def steps(count: int, epochs: int, recipe: Recipe) -> int:
    """The number of steps of so many epochs of `count` pairs."""
    return -(-count // recipe.batch_size) * epochs


def spoken(seconds: float) -> str:
    """A time in words: "40 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


# -------------------------------------------------------------------------------------------------------- its gain


class Errors(NamedTuple):
    """Mean squared errors in units of [0, 1]. noisy: the variance of the noise; denoised: what is left of it, None
    where that cannot be told; alike: whether both versions are equally noisy."""

    noisy: float
    denoised: float | None
    alike: bool


def errors(network: Module, first: torch.Tensor, second: torch.Tensor) -> Errors:
    """Errors against the clean images that nobody has, from noisy pairs of pixels (N, 3, H, W).

        mean (f(a) - b)^2 - mean (a - b)^2 / 2

    The first is the error of the denoised f(a) plus the variance of b's noise, which is independent; the second is that
    variance. Each version is a in turn, so that the difference of their variances cancels. Of white noise of variance v
    the estimate has a standard error of at most v sqrt(2 / numbers): what is not above it cannot be told. (Lehtinen et
    al. 2018)
    """
    variance = noise_variance(first, second, len(first))
    one, two = (
        float(squared_errors(denoise(network, a) / 255, b.float() / 255).mean())
        for a, b in ((first, second), (second, first))
    )
    left, numbers = (one + two) / 2 - variance, max(1, first.numel())
    told = variance > 0 and left > variance * (2 / numbers) ** 0.5
    chance = 2 * (2 * variance * max(0.0, left) / numbers) ** 0.5  # of a product of the noise and what is left
    return Errors(variance, left if told else None, abs(one - two) <= UNEQUAL * variance + 3 * chance)


def gained(before: Errors, after: Errors, even: bool = True) -> str:
    """What a training gained on pairs that it did not see, in words; `even`: whether these were exposed alike."""
    if before.denoised is None or after.denoised is None:
        return "held-out patches: too little noise, or too few pixels, to tell what PSNR was gained"
    about = "" if even and before.alike and after.alike else "about "
    noisy, was, now = (f"{about}{decibels(error):.2f} dB" for error in (before.noisy, before.denoised, after.denoised))
    gain = decibels(after.denoised) - decibels(before.denoised)
    advice = ""
    if gain <= -LITTLE:
        advice = "; the weights it started from are better: train again, with a lower --lr or more pairs"
    elif gain < LITTLE:
        advice = "; the weights it started from are as good: more pairs or epochs may help"
    return (f"held-out patches: noisy {noisy}, denoised {was} before this training, {now} after "
            f"(estimated from noisy pictures alone){advice}")  # fmt: skip


def figures(before: Errors, after: Errors) -> dict[str, float]:
    """The same for files, PSNR in dB; what cannot be told is left out."""
    found = {"noisy": before.noisy or None, "before": before.denoised, "after": after.denoised}
    return {name: decibels(error) for name, error in found.items() if error is not None}


def decibels(error: float) -> float:
    """PSNR of a mean squared error."""
    return -10 * math.log10(error)
