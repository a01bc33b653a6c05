"""What a denoiser took away, judged without a clean picture. Pixels are (1, 3, H, W) in 0-255."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..diagnose import noise

FLAT = 0.1  # the share of a picture that is called its flattest
NOISE = 0.7  # of the power taken on the whole, what is taken there where noise is everywhere


class Taken(NamedTuple):
    """before, after: the noise of the picture and of its denoised form (`diagnose.noise`), sigma in pixel values.
    amount: root mean square of what was taken. flat: its power in the flattest tenth of the picture over that on the
    whole: near 1 for the noise of a sensor, near 0 where only edges and texture changed."""

    before: float
    after: float
    amount: float
    flat: float

    def __str__(self) -> str:
        if self.amount < noise.CLEAN:
            return "hardly anything was taken"
        if self.after > self.before + noise.CLEAN:
            return "flat parts are rougher than before: other weights may suit it, --noise camera or pixels"
        if self.flat >= NOISE:
            return "looks like noise: as much in flat parts as elsewhere"
        return "more at edges and in texture: detail may be lost, or the noise sits there"


def measure(pixels: torch.Tensor, denoised: torch.Tensor) -> Taken | None:
    """Of a picture and its denoised form; None for one that is too small or of one value."""
    before, after = noise.look(pixels), noise.look(denoised)
    if before is None:
        return None
    difference = pixels.float() - denoised
    amount = float(difference.pow(2).mean().sqrt())
    return Taken(before.sigma, after.sigma if after else 0.0, amount, in_flat_parts(difference[0], denoised[0]))


def in_flat_parts(difference: torch.Tensor, result: torch.Tensor) -> float:
    """Power (with half a pixel value added, for pictures without noise) where the gradient of the result is least:
    (3, H, W) twice. In parts that are dark or bright too, so that noise that depends on light is no structure."""
    down, right = result[:, 2:, 1:-1] - result[:, :-2, 1:-1], result[:, 1:-1, 2:] - result[:, 1:-1, :-2]
    slope, power = (down.pow(2) + right.pow(2)).mean(0).flatten(), difference.pow(2).mean(0)[1:-1, 1:-1].flatten()
    brightness = result.mean(0)[1:-1, 1:-1].flatten()
    least = [part[slope[part].argsort()[: max(1, int(FLAT * len(part)))]] for part in brightness.argsort().chunk(5)]
    return float((power[torch.cat(least)].mean() + 0.5) / (power.mean() + 0.5))
