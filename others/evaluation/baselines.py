"""Denoisers without learning, and SSIM, from scikit-image (the extra `eval`). Pixels are (1, 3, H, W) in 0-255."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch

from ..extras import install

if TYPE_CHECKING:
    import numpy

Denoise: TypeAlias = Callable[[torch.Tensor], torch.Tensor]  # of pixels

INSTALL = f"they need scikit-image: {install('eval')}"


def available() -> bool:
    """Whether scikit-image and PyWavelets are installed."""
    try:
        import pywt
        import skimage  # noqa: F401
    except ImportError:
        return False
    return bool(pywt)


def ssim(output: torch.Tensor, clean: torch.Tensor) -> float | None:
    """Structural similarity of (3, H, W) in [0, 1]; None for images smaller than its window of 7 x 7."""
    from skimage.metrics import structural_similarity

    if min(clean.shape[1:]) < 7:
        return None
    images = (image.permute(1, 2, 0).numpy() for image in (output, clean))
    return float(structural_similarity(*images, channel_axis=2, data_range=1.0))


def channels_last(method: Callable[[numpy.ndarray, float], numpy.ndarray]) -> Denoise:
    """method(image (H, W, 3) in [0, 1], its estimated noise) as a function of pixels."""

    def denoise(pixels):
        from skimage.restoration import estimate_sigma

        image = (pixels[0].float() / 255).permute(1, 2, 0).numpy()
        sigma = float(torch.tensor(estimate_sigma(image, channel_axis=2)).nanmean())
        output = torch.from_numpy(method(image, sigma)).float()
        return output.permute(2, 0, 1).unsqueeze(0).clamp(0, 1) * 255

    return denoise


@channels_last
def non_local_means(image: numpy.ndarray, sigma: float) -> numpy.ndarray:
    """With the strength that scikit-image's example recommends. (Buades, Coll & Morel 2005)"""
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, channel_axis=2)


@channels_last
def wavelet(image: numpy.ndarray, sigma: float) -> numpy.ndarray:
    """BayesShrink. (Chang, Yu & Vetterli 2000)"""
    from skimage.restoration import denoise_wavelet

    return denoise_wavelet(image, sigma=sigma or None, channel_axis=2, convert2ycbcr=True, rescale_sigma=True)


@channels_last
def total_variation(image: numpy.ndarray, sigma: float) -> numpy.ndarray:
    """With scikit-image's default weight, 0.1. (Chambolle 2004)"""
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(image, channel_axis=2)


METHODS = {"non-local means": non_local_means, "wavelet": wavelet, "total variation": total_variation}
