"""TIFF, through tifffile: which pages of a file are pictures, their pixels, and back.

Channels that are neither colours nor alpha, slices among them, are pages by themselves.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, cast

import torch

from . import pillow
from .formats import IS_RAW
from .levels import BAND, Declared, own
from .picture import INSTALL, ORIENTATION, TYPES, Picture, PictureError, check_size, in_rgb, noted, turned
from .tiff_tags import SEPARATED, declared, from_others, guessed, outside, page_about, plain, planes

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage

SENSOR = 32803, 34892  # photometric interpretations: a sensor's mosaic, and linear raw data
DNG = 50706  # the tag with a DNG's version
REDUCED, MASK = 1, 4  # kinds of pages: a smaller version of another, what of another is transparent
BIG = 2**32 - 2**25  # bytes of pixels from which on a TIFF has places of 64 bits, as tifffile has it


def tifffile_module() -> ModuleType:
    try:
        import tifffile
    except ImportError as error:
        raise ImportError(INSTALL.format("TIFF", "tifffile")) from error
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it finds in a damaged file is no news
    return tifffile


@contextmanager
def opened(path: Path) -> Iterator[TiffFile]:
    tifffile = tifffile_module()
    try:
        with tifffile.TiffFile(path) as tiff:
            yield tiff
    except PictureError:
        raise
    except Exception as error:  # tifffile raises what its parsing stumbles over
        raise PictureError(f"{path}: damaged or incomplete TIFF ({error}); copy it anew") from error


def read(path: Path) -> Picture:
    with opened(path) as tiff:
        check_chain(path, tiff)
        every = listed(tiff.pages)
        check_for_raw(path, every)
        pages = [page for _, page in whole_pages(every)]
        about = [page_about(page, planes(tiff, page)) for page in pages]
        shapes = [(page.imagelength, page.imagewidth) for page in pages]
        inked = any(page.photometric == SEPARATED for page in pages)
        size = sum(page.nbytes for page in pages)
        deep = any(page.dtype != "uint8" for page in pages)
        said, note = (declared(pages[0]), guessed(tiff, pages[0])) if about else (Declared(), "")
        note = noted(note, not_written(every))
        stack = len(about) == 1 and (pages[0].is_shaped or pages[0].is_imagej) and tiff.series[0]
    if stack and stack.is_truncated:
        shape = "x".join(map(str, stack.shape))
        wrong = f"expected a directory for each page, got one for all {shape} numbers"
        raise PictureError(f"{path}: {wrong}; save it as a TIFF of several pages")
    if not about or any(0 in shape for shape in shapes):
        raise PictureError(f"{path}: damaged or incomplete TIFF (no pages, or empty ones); copy it anew")
    for height, width in shapes:
        check_size(path, height, width)
    picture = Picture("TIFF", pages_of(path), {"tiff": about, **outside(about[0])}, note, size, deep, said)
    return in_rgb(picture) if inked else picture


def listed(pages: Iterable[TiffPage | TiffFrame]) -> list[TiffPage]:
    """The pages. tifffile makes frames of them only where it is told to."""
    return cast("list[TiffPage]", list(pages))


def check_chain(path: Path, tiff: TiffFile) -> None:
    """Raise PictureError if a page names an earlier one as its successor, which would make the file endless."""
    seen = set()
    for page in tiff.pages:
        if page.offset in seen:
            raise PictureError(f"{path}: damaged or incomplete TIFF (its pages go in a circle)")
        seen.add(page.offset)


def check_for_raw(path: Path, pages: list[TiffPage]) -> None:
    """Raise PictureError for a camera's raw file, and for a page that is the preview of a larger one in a SubIFD."""
    for page in pages:
        found = [page, *below(page)]
        if any(DNG in each.tags or each.photometric in SENSOR for each in found):
            raise PictureError(f"{path}: {IS_RAW}")
        if max(found, key=area) is not page and area(max(found, key=area)) > area(page):
            said = "expected the pictures in the pages of the file, got previews of larger ones in SubIFDs"
            raise PictureError(f"{path}: {said}; save it as a TIFF of plain pages")


def area(page: TiffPage) -> int:
    return page.imagelength * page.imagewidth


def below(page: TiffPage) -> list[TiffPage]:
    """The pages that a page has in SubIFDs; none where they cannot be read."""
    try:
        return listed(page.pages or ())
    except Exception:  # tifffile raises what its parsing stumbles over
        return []


def whole_pages(pages: list[TiffPage]) -> list[tuple[int, TiffPage]]:
    """[(number, page)] of the pages that are neither smaller versions of others nor their masks, if there are such."""
    every = list(enumerate(pages))
    return [(number, page) for number, page in every if not page.subfiletype & (REDUCED | MASK)] or every


def not_written(pages: list[TiffPage]) -> str:
    """What of a TIFF with these pages the new file will not have, in words."""
    whole = dict(whole_pages(pages))
    lost = [page for number, page in enumerate(pages) if number not in whole]
    lost += [part for page in whole.values() for part in below(page)]
    masks = sum(bool(page.subfiletype & MASK) for page in lost)
    said = ["masks of its pages"] if masks else []
    said += ["smaller versions of its pages (a pyramid, previews)"] if len(lost) > masks else []
    return f"written without the {' and '.join(said)}; make them anew from the result" if said else ""


def pages_of(path: Path) -> Iterator[torch.Tensor]:
    """Yield the pages: through tifffile, or through Pillow what needs a codec that tifffile does not bring."""
    with opened(path) as tiff:
        for number, page in whole_pages(listed(tiff.pages)):
            made = tiff_page(path, page) if plain(page) else stored_page(path, number)
            yield from made.split(1 if planes(tiff, page) else made.shape[2], 2)


def stored_page(path: Path, number: int) -> torch.Tensor:
    """A page through Pillow as it is stored: Pillow turns those of a TIFF upright."""
    with pillow.opened(path) as image:
        image.seek(number)
        seen = image.getexif().get(ORIENTATION, 1)
    page = pillow.read(path, number)
    return turned(page, {6: 8, 8: 6}.get(seen) or seen) if seen in range(2, 9) else page


def tiff_page(path: Path, page: TiffPage) -> torch.Tensor:
    """One page through tifffile -> (H, W, C)."""
    if page.dtype is None or page.dtype.name not in TYPES or (page.photometric == 2 and page.samplesperpixel > 4):
        found = f"{page.samplesperpixel} channels of {page.dtype}"
        raise PictureError(f"{path}: expected grey or RGB of 8 to 32 bits or floating point, got {found}; convert it")
    pixels = torch.from_numpy(page.asarray())
    separate = page.samplesperpixel > 1 and page.planarconfig == 2
    pixels = pixels.permute(1, 2, 0) if separate else pixels
    pixels = pixels.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    return straight(pixels) if tuple(page.extrasamples) == (1,) else pixels


def straight(page: torch.Tensor) -> torch.Tensor:
    """The page, whose colours are multiplied by alpha, with its colours themselves: as other formats have them, and as
    Pillow reads it."""
    page, white = page.clone(), own(page.dtype)[1]
    for band in page.split(BAND):
        values = band.to(torch.float64)
        colours = (values[..., :-1] * (white / values[..., -1:].clamp_min(1e-9))).clamp_max(white)
        band[..., :-1] = colours if page.is_floating_point() else colours.round().to(page.dtype)
    return page


def write(file: IO[bytes], picture: Picture, path: Path | str) -> None:
    about: list[dict[str, Any]] = picture.about.get("tiff") or [from_others(picture.about)]
    pages = iter(picture.pages)
    with tifffile_module().TiffWriter(file, bigtiff=picture.size > BIG) as writer:
        for number in itertools.count():
            said = dict(about[min(number, len(about) - 1)])
            parts = list(itertools.islice(pages, said.pop("planes", 1)))
            if not parts:
                break
            channels = sum(page.shape[2] for page in parts)
            said = {"photometric": "rgb" if channels > 2 else "minisblack"} | said
            said |= {"extrasamples": ["unassalpha"]} if channels in (2, 4) and "extrasamples" not in said else {}
            said |= {"planarconfig": said.get("planarconfig", "contig") if channels > 1 else None}
            page = torch.cat(parts, 2) if len(parts) > 1 else parts[0]
            shaped = page.permute(2, 0, 1) if said["planarconfig"] == "separate" else page
            shaped = page.squeeze(2) if channels == 1 else shaped
            writer.write(shaped.contiguous().numpy(), metadata=None, contiguous=False, **said)
