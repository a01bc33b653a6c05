"""What BMP has by itself: alpha is written here. All else goes through `pillow`."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

from . import pillow
from .picture import Picture, has_alpha, to_bytes, upright


def write(file: IO[bytes], picture: Picture, path: Path | str) -> None:
    """Pillow writes BMP without alpha; pixels of 32 bits with masks that name it are written here, from the bottom up.
    (BITMAPFILEHEADER and BITMAPV4HEADER of Windows)"""
    pages = [upright(page, picture.about) for page in picture.pages]
    if len(pages) > 1 or not has_alpha(pages[0]):
        return pillow.write(file, picture._replace(pages=pages), path)
    order = [2, 1, 0, 3] if pages[0].shape[2] == 4 else [0, 0, 0, 1]
    pixels = to_bytes(pillow.eight_bits(pages[0], path)[..., order].flip(0))
    height, width = pages[0].shape[:2]
    file.write(struct.pack("<2sIII", b"BM", 122 + len(pixels), 0, 122))
    file.write(struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0))
    file.write(struct.pack("<4I4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + pixels)
