"""Picture files in and out: PNG, JPEG, BMP, WebP and TIFF, 8 and 16 bit, with what the file says about them.

Needs Pillow, and tifffile for TIFF: the extra `images`. Each file imports from those above it alone:

    levels            black and white: the rules by which a range is found, and values that are none
    picture           a picture, its pages, which way is up
    formats           suffixes; what is not read and why; the pictures of a folder
    pixels            pages to pixels in 0-255, and back
    pillow            pixels through Pillow, for all formats but TIFF
    png jpeg webp bmp tiff (tiff_tags)    what a format keeps about a picture (`about`), and how it is written (`write`)

A new format is a file beside `webp`, its suffixes in `formats`, an entry in `ABOUT`, `KEPT` and `WRITERS` here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

from ..storage.files import replacing
from . import bmp, jpeg, pillow, png, tiff, webp
from .formats import EIGHT_BITS, FORMATS, format_of, is_tiff, left_out, picture_files, unread
from .jpeg import coarse, finely
from .levels import Declared, Range, Ranges, Sample, lacking, scaled, seen_in
from .picture import (
    LARGEST,
    ORIENTATION,
    TYPES,
    Picture,
    PictureError,
    beside,
    colours_of,
    in_rgb,
    noted,
    unwritable,
    upright,
)
from .pillow import as_image, as_pillow_reads, at_quality
from .pixels import as_batch, as_it_is, in_eight_bits, page_range, to_pixels, with_colours

__all__ = [
    "EIGHT_BITS",
    "FORMATS",
    "LARGEST",
    "ORIENTATION",
    "TYPES",
    "Picture",
    "PictureError",
    "Range",
    "as_image",
    "as_pillow_reads",
    "at_quality",
    "beside",
    "coarse",
    "finely",
    "format_of",
    "in_eight_bits",
    "left_out",
    "lost",
    "page_range",
    "pages",
    "picture_files",
    "preview",
    "range_of",
    "read",
    "to_pixels",
    "try_out",
    "unread",
    "with_colours",
    "write",
]

KEPT_BY_PILLOW = ("icc_profile", "exif", "dpi", "xmp", "comment")
ABOUT: dict[str, Callable[[Any], dict[str, Any]]] = {"PNG": png.about, "JPEG": jpeg.about, "WEBP": webp.about}
#: What a picture says about itself, in words, and which of it a format keeps.
ABOUT_IT = {"icc_profile": "colour profile", "exif": "EXIF data", "xmp": "XMP", "comment": "comment", "texts": "texts",
            "duration": "times of its frames"}  # fmt: skip
KEPT = {"PNG": ("icc_profile", "exif", "xmp", "duration", "chunks"), "WEBP": ("icc_profile", "exif", "xmp", "duration"),
        "JPEG": ("icc_profile", "exif", "xmp", "comment"), "TIFF": ("icc_profile", "xmp"), "BMP": ()}  # fmt: skip
WRITERS = {"PNG": png.write, "JPEG": jpeg.write, "WEBP": webp.write, "BMP": bmp.write, "TIFF": tiff.write}


def read(path: Path | str) -> Picture:
    """The picture in a file.

    Raises FileNotFoundError, PictureError for what is damaged or no picture, ImportError if the library is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}; check its name and folder" if not path.exists() else f"{path} is not a file"
        )
    if path.stat().st_size == 0:
        raise PictureError(f"{path}: the file is empty; copy it anew")
    return tiff.read(path) if is_tiff(path) else read_other(path)


def read_other(path: Path) -> Picture:
    """The picture in a file that is no TIFF."""
    with pillow.opened(path) as image:
        phone = image.format == "MPO"  # a JPEG with more inside: a depth map, a preview, a second eye's view
        format = "JPEG" if phone else str(image.format)
        if format not in FORMATS.values():
            raise PictureError(f"{path}: expected PNG, JPEG, TIFF, BMP or WebP, got {format}; convert it first")
        deep = "16" in pillow.raw_mode(image)  # before the texts of a PNG are asked for, which loads it
        found = {key: image.info.get(key) for key in KEPT_BY_PILLOW}  # or a PNG's text of that name
        about = {key: value for key, value in found.items() if value and not isinstance(value, str)}
        about |= ABOUT[format](image) if format in ABOUT else {}
        frames = 1 if phone else getattr(image, "n_frames", 1)
        mode = image.mode
    if frames > 1:
        about |= {"duration": pillow.durations(path, frames), "loop": image.info.get("loop", 0)}
    picture = Picture(format, (pillow.read(path, frame) for frame in range(frames)), about, deep=deep)
    if mode in ("P", "PA"):
        picture = picture._replace(note=noted(picture.note, "its palette became RGB"))
    return in_rgb(picture) if mode == "CMYK" else picture


def write(path: Path | str, picture: Picture, force: bool = False) -> None:
    """Write a picture in its own format, whole or not at all.

    Raises FileExistsError if `path` exists, unless `force`; PictureError if the format cannot hold the picture.
    """
    with replacing(path, force) as file:
        put(file, picture, path)


def put(file: IO[bytes], picture: Picture, path: Path | str) -> None:
    """Write a picture into a file that is to be `path`."""
    try:
        WRITERS[picture.format](file, picture, path)
    except (struct.error, OverflowError) as error:
        raise unwritable(path, error) from error


def try_out(path: Path | str, format: str, target: Path | str) -> None:
    """Raise PictureError, as `write` would, if another format cannot hold such pages as those of the picture in a file:
    one pixel of each is written."""
    picture = read(path)
    if picture.format == format or format == "TIFF":  # which holds everything
        return
    corners = (page[:1, :1] for page in picture.pages)
    held = (in_eight_bits(page, Ranges()[page.dtype]) for page in corners) if format in EIGHT_BITS else corners
    put(io.BytesIO(), picture._replace(format=format, pages=held), target)


def lost(picture: Picture, format: str) -> str:
    """What a picture says about itself and another format does not keep, in words."""
    if picture.format == format:
        return ""
    said = {key: value for key, value in picture.about.items() if value and key not in KEPT[format]}
    if any(name in (b"tEXt", b"zTXt", b"iTXt") for name, *_ in said.get("chunks", ())):
        said["texts"] = True
    if "exif" in said and ("tiff" in picture.about or pillow.turns_only(said["exif"])):  # which is kept otherwise
        del said["exif"]
    names = [name for key, name in ABOUT_IT.items() if key in said]
    return f"{format} keeps no {' and no '.join(names)}" if names else ""


def range_of(*paths: Path | str, given: tuple[float, float] | None = None) -> Ranges:
    """The Ranges that all pages of all these files have in common. given: (black, white) instead.

    Raises as `read` does, and PictureError if nothing could be seen in the range that is given.
    """
    ranges, declared = Ranges(), set()
    samples: dict[torch.dtype, Sample] = {}
    ranges.given = given
    for picture in map(read, paths):
        declared.add(picture.declared[:2])
        ranges.nodata += tuple(value for value in picture.declared.nodata if value not in ranges.nodata)
        for page in picture.pages if picture.deep and not given else ():
            if page.dtype != torch.uint8:
                samples.setdefault(page.dtype, Sample()).add(colours_of(page), picture.declared.nodata)
    said = Declared(*(declared.pop() if len(declared) == 1 else (None, None)), ranges.nodata)
    ranges.update({dtype: sample.range(dtype, said) for dtype, sample in samples.items()})
    if given:
        seen = [seen_in(colours_of(page), ranges[page.dtype]) for path in paths for page in read(path).pages]
        ranges.beyond = sum(each.beyond for each in seen) / max(1, sum(each.total for each in seen))
    if given and not any(each.filled for each in seen):
        names, low, high = " and ".join(map(str, paths)), *given
        wrong = f"expected values that fill the range {low:g} to {high:g}, got none in it or hardly different ones"
        raise PictureError(f"{names}: {wrong}; choose another --range LOW HIGH")
    return ranges


def pages(path: Path | str, ranges: Ranges | None = None) -> Iterator[torch.Tensor]:
    """Yield every page of a file, upright, as pixels (1, 3, H, W) in 0-255: uint8 of 8 bits, float32 of other types.

    ranges: `range_of` this file by default; of all files together for what is to be compared. Values beyond are black
    and white. Raises as `read` does, and PictureError for pixels that are NaN, infinite or stand for no value.
    """
    ranges, picture = range_of(path) if ranges is None else ranges, read(path)
    for page in picture.pages:
        colours, range = colours_of(page), ranges[page.dtype]
        if not as_it_is(page, range):
            colours = scaled(colours, range, clamped=True)
            if lacking(colours):
                said = "expected a value in every pixel, got NaN, infinity or no data; replace them first"
                raise PictureError(f"{path}: {said}")
        if picture.about.get("tiff", [{}])[0].get("photometric") == "miniswhite":
            colours = 255 - colours
        yield as_batch(upright(colours, picture.about))


def preview(path: Path | str, ranges: Ranges) -> bytes:
    """The first page of a file, upright, as a PNG of 8 bits without what else the file holds: for what shows no TIFF.
    Values beyond the range, and none, are black or white. Raises as `read` does."""
    picture = read(path)
    page = next(iter(picture.pages))
    colours = scaled(colours_of(page), ranges[page.dtype], clamped=True).nan_to_num().round().to(torch.uint8)
    if picture.about.get("tiff", [{}])[0].get("photometric") == "miniswhite":
        colours = 255 - colours
    file = io.BytesIO()
    as_image(upright(colours, picture.about), path).save(file, "PNG", compress_level=1)
    return file.getvalue()
