"""What PNG has by itself: its chunks, and 16 bits, which are written here. 8 bits go through `pillow`."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from . import pillow
from .levels import BAND
from .picture import Picture, PictureError, to_bytes

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngImageFile, PngInfo

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def about(image: PngImageFile) -> dict[str, Any]:
    """{"chunks": [(name, content, whether after the pixels)]}: texts, and how colours are meant. (PNG 3, 11.3)"""
    from PIL.PngImagePlugin import PngInfo

    chunks, meant = PngInfo(), image.info
    for key, text in image.text.items():
        if key != "XML:com.adobe.xmp":
            chunks.add_text(key, text)
    for name, key, form in ((b"gAMA", "gamma", ">I"), (b"cHRM", "chromaticity", ">8I"), (b"sRGB", "srgb", "B")):
        if key in meant:
            values = meant[key] if isinstance(meant[key], tuple) else (meant[key],)
            scale = 1 if key == "srgb" else 100_000
            chunks.add(name, struct.pack(form, *(round(value * scale) for value in values)))
    return {"chunks": chunks.chunks}


def write(file: IO[bytes], picture: Picture, path: Path | str) -> None:
    """Pillow writes 8 bits; 16 bits, of which it does not have colours, are written here.

    imagecodecs would not shorten this: its PNG holds pixels alone, so all chunks would stay; some 30 lines would go."""
    pages = iter(picture.pages)
    first = next(pages)
    if first.dtype != torch.uint16:
        return pillow.write(file, picture._replace(pages=[first, *pages]), path, pnginfo=pillow_info(picture.about))
    if next(pages, None) is not None:
        raise PictureError(f"{path}: several pages of 16 bits fit into a TIFF, not into a PNG")
    height, width, channels = first.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    file.write(SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)))
    for name, content in chunks_of(picture.about):
        file.write(chunk(name, content))
    for part in deflated(first):
        file.write(chunk(b"IDAT", part))
    file.write(chunk(b"IEND", b""))


def chunks_of(about: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of the colour profile, the resolution (per metre), the EXIF data and texts. (PNG 3, 11.3)"""
    if "icc_profile" in about:
        yield b"iCCP", b"icc\0\0" + zlib.compress(about["icc_profile"])
    if "dpi" in about:
        yield b"pHYs", struct.pack(">IIB", *(round(float(value) / 0.0254) for value in about["dpi"]), 1)
    if "exif" in about:
        yield b"eXIf", about["exif"].removeprefix(b"Exif\0\0")
    for name, content, _ in pillow_info(about).chunks:
        yield name, content


def pillow_info(about: dict[str, Any]) -> PngInfo:
    """Pillow's list of the chunks that it does not write by itself."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.chunks = list(about.get("chunks", ()))
    if "xmp" in about:
        info.add_itxt("XML:com.adobe.xmp", about["xmp"])
    return info


def deflated(page: torch.Tensor) -> Iterator[bytes]:
    """The compressed rows of a 16-bit page, each as its difference from the row above (PNG's filter 2)."""
    compressor, above = zlib.compressobj(), None  # the row above the band
    for band in page.split(BAND):
        numbers = band.to(torch.int32).flatten(1)
        rows = torch.stack((numbers // 256, numbers % 256), 2).flatten(1)  # upper byte first
        before = torch.cat((torch.zeros_like(rows[:1]) if above is None else above, rows[:-1]))
        above = rows[-1:]
        coded = torch.cat((torch.full((len(rows), 1), 2), (rows - before) % 256), 1).to(torch.uint8)
        yield compressor.compress(to_bytes(coded))
    yield compressor.flush()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
