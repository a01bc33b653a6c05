"""A Noise2Noise denoiser on a deep-learning framework written from scratch: `Model`, `denoise`, and `nn`.

Installed by pip the package is `noise2noise`; in the repository, as the course asks, `others`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
"""That of the package, as pip has it."""
__all__ = ["Model", "__version__", "denoise", "nn"]

if TYPE_CHECKING:
    from . import nn
    from .arrays import denoise
    from .model import Model


def __getattr__(name: str) -> Any:
    """Imported when they are asked for: the framework alone needs neither, and the command line is quick to start."""
    if name == "Model":
        from .model import Model

        return Model
    if name == "denoise":
        from .arrays import denoise

        return denoise
    if name == "nn":
        from importlib import import_module

        return import_module(".nn", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
