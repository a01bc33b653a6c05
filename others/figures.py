"""Figures, drawn with matplotlib (the extra `plots`). Images are pixels (N, 3, H, W) in 0-255."""

from .metrics import psnr_per_image


def figure_maker():
    """(width, height in inches) -> figure that needs no screen. Raises ImportError that says what to install."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "noise2noise-scratch[plots]"') from error

    def figure(width, height):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        return drawn

    return figure


def comparison(path, noisy, denoised, clean):
    """Write a grid to `path`: in each row an image noisy, denoised and clean, with its PSNR against clean."""
    figure = figure_maker()(6.0, 2.15 * len(clean))
    axes = figure.subplots(len(clean), 3, squeeze=False)
    versions = {"noisy": noisy, "denoised": denoised, "clean": clean}
    for column, (name, images) in enumerate(versions.items()):
        psnr = psnr_per_image(images.float() / 255, clean.float() / 255)
        for row, image in enumerate(images):
            axis = axes[row, column]
            axis.imshow(image.permute(1, 2, 0).float().div(255).clamp(0, 1).cpu().tolist(), interpolation="nearest")
            axis.set_title(name if name == "clean" else f"{name}, {psnr[row]:.1f} dB", fontsize=10)
            axis.set_axis_off()
    figure.savefig(path, dpi=110)
