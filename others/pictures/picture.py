"""A picture: pages of pixels, what its file says about them, and how a page is turned.

A page is a tensor (H, W, C), uint8 or uint16, or from a TIFF int16, uint32, int32 or floating point; C is 1 grey,
2 grey and alpha, 3 RGB, 4 RGBA.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..extras import install
from .levels import Declared

LARGEST = 178_956_970
"""Pixels of a page: where Pillow stops too, for larger ones are mostly made to fill the memory."""
TYPES = "uint8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"
"""Of a page's numbers."""
ORIENTATION = 274
"""The tag of it, in EXIF data and in TIFF."""
INSTALL = f"{{}} needs {{}}: {install('images')}"


class PictureError(ValueError):
    """A file that cannot be read as a picture, or a picture that its format cannot hold."""


class Picture(NamedTuple):
    """`pages` can be gone through once: a page is read when it is asked for. `about` is what goes into the new file as
    it came: icc_profile, exif, dpi, xmp, comment, duration, loop, chunks of a PNG, and for TIFF the arguments of
    tifffile's writer, page by page. `note` says what cannot stay as it is. `size` is that of a TIFF's pages, in bytes.
    `deep` tells whether there are types other than uint8, `declared` what the file says of its values.
    """

    format: str
    pages: Iterable[torch.Tensor]
    about: dict[str, Any]
    note: str = ""
    size: int = 0
    deep: bool = False
    declared: Declared = Declared()


def too_large(path: Path | str) -> PictureError:
    """The error of a page of more than `LARGEST` pixels."""
    return PictureError(f"{path}: more than {LARGEST:,} pixels; cut it into parts")


def check_size(path: Path | str, height: int, width: int) -> None:
    if height * width > LARGEST:
        raise too_large(path)


def unwritable(path: Path | str, error: Exception) -> PictureError:
    """The error of what is in `about` and does not fit into the format."""
    return PictureError(f"{path}: what the picture says about itself cannot be written ({error})")


def in_rgb(picture: Picture) -> Picture:
    """What a picture is that was CMYK: the colour profile was for inks."""
    about = {key: value for key, value in picture.about.items() if key != "icc_profile"}
    return picture._replace(about=about, note=noted(picture.note, "CMYK became RGB (sRGB)"))


def noted(*notes: str) -> str:
    """The notes that say something, in one."""
    return "; ".join(filter(None, notes))


# -------------------------------------------------------------------------------------------------------- channels


def colours_of(page: torch.Tensor) -> torch.Tensor:
    """(H, W, C) without alpha."""
    return page[..., : 3 if page.shape[2] > 2 else 1]


def has_alpha(page: torch.Tensor) -> bool:
    return page.shape[2] in (2, 4)


def rounded(page: torch.Tensor) -> torch.Tensor:
    """A page of 16 bits in 8."""
    return (page.to(torch.float32) / 257).round().to(torch.uint8)


def to_bytes(page: torch.Tensor) -> bytes:
    return page.contiguous().numpy().tobytes()


# ------------------------------------------------------------------------------------------------- which way is up


def beside(left: torch.Tensor, right: torch.Tensor, about: dict[str, Any]) -> torch.Tensor:
    """Two pages in one that shows `left` on the left, also where the EXIF orientation has the rows and columns of the
    file shown from another side. (EXIF 2.32, 4.6.4: which side the first row and the first column are on)"""
    first, second = (right, left) if orientation(about) in (2, 3, 6, 7) else (left, right)
    return torch.cat((first, second), 0 if orientation(about) > 4 else 1)


def upright(page: torch.Tensor, about: dict[str, Any]) -> torch.Tensor:
    """The page as the EXIF orientation has it shown, for files that hold no such data."""
    return turned(page, orientation(about))


def turned(page: torch.Tensor, number: int) -> torch.Tensor:
    """The page as orientation `number` has it shown. (EXIF 2.32, 4.6.4)"""
    page = page.transpose(0, 1) if number > 4 else page
    return page.flip([axis for axis, turned in enumerate(((3, 4, 7, 8), (2, 3, 6, 7))) if number in turned])


def orientation(about: dict[str, Any]) -> int:
    """1 for a picture that is shown as it is stored, or whose EXIF data cannot be read; up to 8 for the others."""
    if "exif" not in about:
        return 1
    from PIL import Image

    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif.load(about["exif"])
            found = exif.get(ORIENTATION)
    except Exception:  # Pillow raises what its parsing stumbles over
        return 1
    return found if isinstance(found, int) and found in range(1, 9) else 1
