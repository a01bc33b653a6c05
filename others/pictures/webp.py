"""What WebP has by itself. Pixels go through `pillow`."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from . import pillow
from .picture import Picture

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


def about(image: ImageFile) -> dict[str, Any]:
    """How a WebP keeps its pixels, as Pillow's writer is told."""
    return {"lossless": True, "exact": True} if lossless(Path(os.fsdecode(image.filename))) else {}


def lossless(path: Path) -> bool:
    """Whether a WebP's first picture is: in a chunk VP8L, not VP8. (RFC 9649, 2.5 to 2.7)"""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name in (b"VP8L", b"VP8 "):
                return name == b"VP8L"
            file.seek(16 if name == b"ANMF" else size + size % 2, 1)  # a frame's chunks are in it
    return False


def write(file: IO[bytes], picture: Picture, path: Path | str) -> None:
    pillow.write(file, picture, path, quality=pillow.QUALITY)
