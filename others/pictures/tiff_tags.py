"""What the tags of a TIFF's page say: what its channels are, its black and white, and what stays true when denoised."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from .levels import Declared
from .picture import ORIENTATION, orientation

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffTag

SEPARATED = 5  # a photometric interpretation: inks
XMP = 700
NODATA = 42113  # the tag with GDAL's value for pixels that have none
GDAL = 42112  # GDAL's XML
LIMITS = (340, 341), (280, 281)  # tags with the least and greatest value, of any type and of 16 bits
# Tags that stay true of denoised pixels: names, makers, dates, XMP, rights, IPTC; GeoTIFF's and GDAL's.
KEPT_TAGS = (269, 271, 272, ORIENTATION, 285, 306, 315, XMP, 33432, 33723, 33550, 33922, 34264, 34735, 34736, 34737,
             GDAL, NODATA, *LIMITS[0], *LIMITS[1])  # fmt: skip


def plain(page: TiffPage) -> bool:
    """Whether tifffile reads the page by itself: grey or RGB of whole bytes, uncompressed or deflated."""
    known = page.photometric in (0, 1, 2) and page.compression in (1, 8, 32946) and page.predictor in (1, 2)
    return known and page.bitspersample % 8 == 0


def planes(tiff: TiffFile, page: TiffPage) -> int:
    """How many pictures are in a page: its channels, unless they are R, G, B, or grey and alpha; then 0. What the
    file's axes call anything but samples, such as Z, is no colour, though tifffile has the page say so."""
    if page.samplesperpixel == 1 or not plain(page):
        return 0
    alpha = page.samplesperpixel == 2 and tuple(page.extrasamples) in ((1,), (2,))
    colours = alpha if page.photometric < 2 else sample_axis(tiff, page) in ("S", None)
    return 0 if colours else page.samplesperpixel


def sample_axis(tiff: TiffFile, page: TiffPage) -> str | None:
    """What a file written by tifffile calls the axis of its channels; None if it calls the axes nothing."""
    shaped = tiff.shaped_metadata  # None too if the picture was cut since
    axes = shaped[0].get("axes") if shaped else None
    return axes and axes[-3 if page.planarconfig == 2 else -1]


def guessed(tiff: TiffFile, page: TiffPage) -> str:
    """What is not sure: three or four planes became R, G, B by tifffile's own guess."""
    if page.samplesperpixel == 1 or page.planarconfig != 2 or not tiff.is_shaped or planes(tiff, page):
        return ""
    if sample_axis(tiff, page):
        return ""
    shape = "x".join(map(str, tiff.series[0].shape))
    colours = ", ".join(["R", "G", "B", "alpha"][: page.samplesperpixel])
    return f"{shape} without names of its axes: taken as planes of {colours}; slices need them (metadata axes ZYX)"


def declared(page: TiffPage) -> Declared:
    """What a TIFF says of its values: the least and the greatest, by tags or fewer bits than the type has; GDAL's value
    for no data. Nonsense says nothing."""
    tags = {tag.code: tag.value for tag in page.tags.values()}
    nodata = tuple(number(page, value) for value in numbers(tags.get(NODATA)))
    if page.dtype is not None and page.bitspersample < page.dtype.itemsize * 8:
        return Declared(0, 2**page.bitspersample - 1, nodata)
    for least, greatest in LIMITS:
        low, high = min(numbers(tags.get(least, 0)), default=None), max(numbers(tags.get(greatest)), default=None)
        if low is not None and high is not None and low < high:
            return Declared(low, high, nodata)
    return Declared(nodata=nodata)


def numbers(value: object) -> list[float]:
    """The finite numbers that a tag holds, one or some, or a text of one; none if it holds anything else."""
    held = value if isinstance(value, tuple) else (value,)
    try:
        values = [float(each.strip("\0 ") if isinstance(each, str) else each) for each in held]
    except (ValueError, TypeError, OverflowError):
        return []
    return [each for each in values if math.isfinite(each)]


def number(page: TiffPage, value: float) -> float:
    """The number as the page's type has it."""
    return float(page.dtype.type(value)) if page.dtype is not None and page.dtype.kind == "f" else value


def page_about(page: TiffPage, planes: int = 0) -> dict[str, Any]:
    """The arguments with which tifffile's writer says the same about a page; `planes` if it is made of so many."""
    tags = {tag.name: tag.value for tag in page.tags.values()}
    about: dict[str, Any] = {}
    if page.photometric == 0 and plain(page):
        about["photometric"] = "miniswhite"  # Pillow makes 0 black
    if planes:
        about |= {"planes": planes, "photometric": page.photometric, "extrasamples": tuple(page.extrasamples)}
    if plain(page) and page.samplesperpixel > 1 and page.planarconfig == 2:
        about["planarconfig"] = "separate"
    if plain(page) and not planes and tuple(page.extrasamples) == (0,):
        about["extrasamples"] = ["unspecified"]
    if page.compression != 1:
        about["compression"] = "zlib"
    if "XResolution" in tags and "YResolution" in tags:
        about["resolution"] = tuple(a / max(1, b) for a, b in (tags["XResolution"], tags["YResolution"]))
        about["resolutionunit"] = tags.get("ResolutionUnit", 2)
    if isinstance(tags.get("InterColorProfile"), bytes) and page.photometric != SEPARATED:
        about["iccprofile"] = tags["InterColorProfile"]
    for argument, text in (("description", described(page)), ("software", tags.get("Software"))):
        if isinstance(text, str):
            about[argument] = text.encode()
    kept = [tag for tag in page.tags.values()
            if tag.code in KEPT_TAGS and (tag.code != ORIENTATION or tag.value in range(1, 9))]  # fmt: skip
    about["extratags"] = [(tag.code, int(tag.dtype), tag.count, encoded(still_true(tag)), True) for tag in kept]
    return about


def described(page: TiffPage) -> str | None:
    """A page's text; not the shape that tifffile writes beside it, or alone, which is that of this file."""
    texts = [text for text in (page.description, page.description1) if text and text != page.is_shaped]
    return texts[0] if texts else None


def still_true(tag: TiffTag) -> Any:
    """A tag's value; GDAL's without the statistics of the pixels, which are others now."""
    if tag.code != GDAL or not isinstance(tag.value, str):
        return tag.value
    return re.sub(r'\s*<Item name="STATISTICS_[^>]*>[^<]*</Item>', "", tag.value)


def encoded(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def outside(about: dict[str, Any]) -> dict[str, Any]:
    """What other formats keep of a TIFF: the colour profile, the resolution, XMP and the orientation."""
    kept = {"icc_profile": about["iccprofile"]} if "iccprofile" in about else {}
    if about.get("resolutionunit") == 2:
        kept["dpi"] = about["resolution"]
    tags = {tag[0]: tag[3] for tag in about["extratags"]}
    if isinstance(tags.get(XMP), bytes):
        kept["xmp"] = tags[XMP]
    if ORIENTATION in tags:
        from PIL import Image

        exif = Image.Exif()
        exif[ORIENTATION] = tags[ORIENTATION]
        kept["exif"] = exif.tobytes()
    return kept


def from_others(about: dict[str, Any]) -> dict[str, Any]:
    """What a TIFF keeps of a picture that was none: colour profile, resolution, orientation, XMP."""
    kept = {"iccprofile": about["icc_profile"]} if "icc_profile" in about else {}
    if "dpi" in about:
        kept |= {"resolution": tuple(map(float, about["dpi"])), "resolutionunit": 2}
    tags = [(ORIENTATION, "H", 1, orientation(about), True)] if orientation(about) != 1 else []
    tags += [(XMP, "B", len(about["xmp"]), about["xmp"], True)] if "xmp" in about else []
    return {**kept, "extratags": tags}
