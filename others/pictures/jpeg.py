"""What JPEG has by itself. Pixels go through `pillow`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from . import pillow
from .picture import Picture, PictureError, has_alpha

if TYPE_CHECKING:
    from PIL.JpegImagePlugin import JpegImageFile


COARSE, FINE = 2212, 369  # the sum of the table of brightness at the qualities 70 and pillow.QUALITY (libjpeg)


def about(image: JpegImageFile) -> dict[str, Any]:
    """How finely a JPEG keeps brightness and colour, as Pillow's writer is told: its tables of quantisation (of each
    component the one it uses), 4:4:4, 4:2:2 or 4:2:0, and whether it is progressive or holds R, G, B. (ITU T.81, B.2)
    """
    from PIL.JpegImagePlugin import get_sampling

    used = [image.quantization.get(number) for *_, number in image.layer[:2]]
    tables = used[:1] if len(image.layer) in (1, 4) or used[:1] == used[1:] else used
    about: dict[str, Any] = {"qtables": tables} if all(tables) else {}
    about["subsampling"] = max(0, get_sampling(image))  # another than these three: all colours are kept
    about["progressive"] = bool(image.info.get("progressive"))
    about["keep_rgb"] = image.mode == "RGB" and image.info.get("adobe_transform") == 0
    return about


def coarse(about: dict[str, Any]) -> bool:
    """Whether the table of brightness is coarser than that of quality 70: of weak noise little is left."""
    return coarseness(about) > COARSE


def coarseness(about: dict[str, Any]) -> int:
    """The sum of the table of brightness, 0 without one."""
    return sum((about.get("qtables") or [[]])[0])


def finely(picture: Picture) -> Picture:
    """The picture, to be written as JPEG of quality 95 at least, for what the tables it came with would take away."""
    return pillow.at_quality(picture, pillow.QUALITY) if coarseness(picture.about) > FINE else picture


def write(file: IO[bytes], picture: Picture, path: Path | str) -> None:
    """As finely as what was read, or with all colours kept."""
    quality = {} if "qtables" in picture.about else {"quality": pillow.QUALITY}
    pillow.write(file, picture._replace(pages=opaque(picture.pages, path)), path, subsampling=0, **quality)


def opaque(pages: Iterable[torch.Tensor], path: Path | str) -> Iterator[torch.Tensor]:
    """Yield the pages. Raises PictureError at the first with alpha."""
    for page in pages:
        if has_alpha(page):
            raise PictureError(f"{path}: JPEG keeps no alpha channel; choose PNG, WebP or TIFF")
        yield page
