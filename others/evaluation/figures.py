"""Figures, drawn with matplotlib (the extra `plots`). Images are pixels (N, 3, H, W) in 0-255."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..extras import install
from .metrics import psnr_per_image, words

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


def kind(path: Path) -> str:
    """What a file of this name holds, as matplotlib calls it: png, pdf, svg ...; png without a suffix.

    Raises ValueError for what it does not draw, ImportError that says what to install.
    """
    figure_maker()
    from matplotlib.backend_bases import FigureCanvasBase

    suffix, known = path.suffix[1:].lower() or "png", FigureCanvasBase.get_supported_filetypes()
    if suffix not in known:
        raise ValueError(f"{path}: expected the name of a figure, in .{', .'.join(sorted(known))}; choose one of these")
    return suffix


def figure_maker() -> Callable[[float, float], Figure]:
    """(width, height in inches) -> figure that needs no screen. Raises ImportError that says what to install."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"figures need matplotlib: {install('plots')}") from error

    def figure(width, height):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        return drawn

    return figure


def comparison(
    path: Path | BinaryIO, noisy: Tensor, denoised: Tensor, clean: Tensor, format: str | None = None
) -> None:
    """Write a grid to `path`: in each row an image noisy, denoised and clean, with its PSNR against clean. Of an open
    file `format` says what it holds, PNG by default."""
    titles, versions = {}, {"noisy": noisy, "denoised": denoised, "clean": clean}
    for name, images in versions.items():
        psnr = psnr_per_image(images.float() / 255, clean.float() / 255)
        titles[name] = [name if name == "clean" else f"{name}, {words(each, '.1f', ' dB')}" for each in psnr]
    grid(path, versions, format, titles)


def grid(
    path: Path | BinaryIO,
    versions: dict[str, Tensor],
    format: str | None = None,
    titles: dict[str, list[str]] | None = None,
) -> None:
    """Write images to `path`, a column for each version {name: (N, 3, H, W)}, under the name or the `titles` of each
    image."""
    rows = len(next(iter(versions.values())))
    figure = figure_maker()(2.0 * len(versions), 2.15 * rows)
    axes = figure.subplots(rows, len(versions), squeeze=False)
    for column, (name, images) in enumerate(versions.items()):
        for row, image in enumerate(images):
            axis = axes[row, column]
            axis.imshow(image.permute(1, 2, 0).float().div(255).clamp(0, 1).cpu().tolist(), interpolation="nearest")
            axis.set_title(titles[name][row] if titles else name, fontsize=10)
            axis.set_axis_off()
    figure.savefig(path, dpi=110, format=format)


def gains(path: Path | BinaryIO, before: Sequence[float], after: Sequence[float], format: str | None = None) -> None:
    """Write each image's gain in PSNR over its PSNR before, in dB."""
    figure = figure_maker()(6.0, 3.6)
    axis = figure.subplots()
    gain = [new - old for old, new in zip(before, after)]
    axis.scatter(before, gain, s=14, facecolors="none", edgecolors="black", label="one image")
    axis.axhline(sum(gain) / len(gain), color="black", linestyle="--", label=f"mean, {sum(gain) / len(gain):.2f} dB")
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xlabel("PSNR of the noisy image, dB")
    axis.set_ylabel("gain by denoising, dB")
    axis.legend()
    figure.savefig(path, dpi=110, format=format)


def curve(path: Path | BinaryIO, records: Sequence[Any], format: str | None = None) -> None:
    """Write the training loss and, where it was measured, the validation PSNR of each epoch, of `training.Record`s."""
    figure = figure_maker()(6.0, 3.6)
    axis = figure.subplots()
    epochs = [record.epoch for record in records]
    axis.plot(epochs, [record.loss for record in records], "o-", color="black", label="loss against noisy targets")
    axis.set_xlabel("epoch")
    axis.set_ylabel("mean squared error, pixels in [0, 1]")
    axis.xaxis.get_major_locator().set_params(integer=True)
    lines = axis.get_lines()
    if records and records[-1].psnr is not None:
        right = axis.twinx()
        right.plot(epochs, [record.psnr for record in records], "s--", color="0.45", label="PSNR A, clean images")
        right.set_ylabel("PSNR A, dB")
        lines = [*lines, *right.get_lines()]
    figure.legend(lines, [line.get_label() for line in lines], loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110, format=format)
