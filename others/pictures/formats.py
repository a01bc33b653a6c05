"""Which files are pictures that are read here: by their names, and by how they begin."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from .picture import PictureError

FORMATS = {
    ".png": "PNG",
    ".apng": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WEBP",
}
"""{suffix: the format it stands for}."""
EIGHT_BITS = "JPEG", "BMP", "WEBP"
"""The formats that hold 8 bits alone."""
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how such files begin: both byte orders, and BigTIFF
RAW = re.compile(r"\.(3fr|arw|cr[23w]|dcr|dng|erf|fff|gpr|iiq|k25|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw2|rwl|sr2|"
                 r"srf|srw|x3f)", re.IGNORECASE)  # fmt: skip
#: How cameras' raw files begin that are no TIFF, or a TIFF that says so at once: Fujifilm, Olympus, Panasonic, Sigma,
#: Minolta, Canon (CRW, CR3, CR2), Phase One.
RAW_START = re.compile(rb"FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM|II\x1a\0..HEAPCCDR|....ftypcrx |"
                       rb"(II\*\0|MM\0\*)....(CR|IIII)", re.DOTALL)  # fmt: skip
HEIF_START = re.compile(rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", re.DOTALL)
OTHERS = {".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC", ".jxl": "JPEG XL", ".jxr": "JPEG XR", ".svg": "SVG",
          ".xcf": "XCF", ".exr": "OpenEXR", ".hdr": "HDR"}  # fmt: skip
IS_RAW = "a camera's raw file; develop it first into a TIFF of 16 bits, for instance with RawTherapee or darktable"
IS_OTHER = "{}, which is not read here; convert it first to PNG or TIFF, for instance with ImageMagick"


def format_of(path: Path | str, read_as: str) -> str:
    """The format in which `path` is written: that of its suffix; of another suffix, if no format is known by it, that
    in which the picture was read. Raises PictureError for a suffix of pictures that are not written here."""
    suffix = Path(path).suffix.lower()
    if unread(suffix):
        raise PictureError(f"{path}: expected a name in {', '.join(FORMATS)} for what is written; choose one with -o")
    return FORMATS.get(suffix, read_as)


def unread(suffix: str) -> str:
    """Why pictures of this suffix are not read, as far as Pillow knows such pictures; "" if they are, or are none."""
    suffix = suffix.lower()
    if RAW.fullmatch(suffix):
        return IS_RAW
    try:
        from PIL import Image

        others = {**Image.registered_extensions(), **OTHERS}
    except ImportError:
        others = OTHERS
    return IS_OTHER.format(others[suffix]) if suffix in others.keys() - FORMATS.keys() else ""


def is_tiff(path: Path) -> bool:
    """Whether a file is read as a TIFF, by how it begins. Raises PictureError if it begins as what is not read here."""
    with path.open("rb") as file:
        start = file.read(16)
    if RAW_START.match(start) or (start[:4] in TIFF and RAW.fullmatch(path.suffix)):
        raise PictureError(f"{path}: {IS_RAW}")
    if HEIF_START.match(start):
        raise PictureError(f"{path}: {IS_OTHER.format('HEIC')}")
    return start[:4] in TIFF


# ------------------------------------------------------------------------------------------------------ in a folder


def picture_files(folder: Path | str) -> list[Path]:
    """All pictures in a folder and the folders in it, sorted; hidden ones are left out."""
    return sorted(path for path, reason in content_of(folder) if not reason)


def left_out(folder: Path | str) -> dict[str, list[Path]]:
    """{reason: files} of what is in a folder and the folders in it and is not among its `picture_files`, sorted; hidden
    ones are not listed."""
    found: dict[str, list[Path]] = {}
    for path, reason in sorted(content_of(folder)):
        if reason:
            found.setdefault(reason, []).append(path)
    return found


def content_of(folder: Path | str) -> Iterator[tuple[Path, str]]:
    """Yield (path, why it is left out or "") of every file in a folder and the folders in it, but for hidden ones."""
    closed: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for path in (Path(place, name) for name in (*names, *links) if not name.startswith(".")):
            known = path.suffix.lower() in FORMATS
            reason = "" if known else unread(path.suffix) or "no picture by its name"
            yield path, reason if path.is_file() else "a link to a folder or to nothing, or no file"
    for error in closed:
        if Path(error.filename) == Path(folder):
            raise error
        yield Path(error.filename), f"a folder that cannot be read ({error.strerror})"
