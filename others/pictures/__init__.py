"""Picture files in and out: PNG, JPEG, BMP, WebP and TIFF, 8 and 16 bit, with what the file says about them.

A page is a tensor (H, W, C), uint8 or uint16, or from a TIFF int16, uint32, int32 or floating point; C is 1 grey,
2 grey and alpha, 3 RGB, 4 RGBA. Channels that are neither, slices among them, are pages by themselves. What black and
white are is decided in `levels`. Needs Pillow, and tifffile for TIFF: the extra `images`.
"""

import io
import itertools
import logging
import math
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from ..storage.files import replacing
from .levels import BAND, Declared, Range, Sample, from_255, lacking, own, scaled, to_255

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
EIGHT_BITS = "JPEG", "BMP", "WEBP"
QUALITY = 95  # of JPEG and WebP, unless the file that was read or the user says another
RAW = re.compile(r"\.(3fr|arw|cr[23w]|dcr|dng|erf|fff|gpr|iiq|k25|kdc|mef|mos|mrw|nef|nrw|orf|pef|raf|raw|rw2|rwl|sr2|"
                 r"srf|srw|x3f)", re.IGNORECASE)  # fmt: skip
#: How cameras' raw files begin that are no TIFF, or a TIFF that says so at once: Fujifilm, Olympus, Panasonic, Sigma,
#: Minolta, Canon (CRW, CR3, CR2), Phase One.
RAW_START = re.compile(rb"FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM|II\x1a\0..HEAPCCDR|....ftypcrx |"
                       rb"(II\*\0|MM\0\*)....(CR|IIII)", re.DOTALL)  # fmt: skip
SENSOR = 32803, 34892  # a TIFF's photometric interpretations: a sensor's mosaic, and linear raw data
DNG = 50706  # the tag with a DNG's version
REDUCED, MASK = 1, 4  # kinds of a TIFF's pages: a smaller version of another, what of another is transparent
HEIF_START = re.compile(rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", re.DOTALL)
IS_RAW = "a camera's raw file; develop it first into a TIFF of 16 bits, for instance with RawTherapee or darktable"
IS_OTHER = "{}, which is not read here; convert it first to PNG or TIFF, for instance with ImageMagick"
OTHERS = {".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC", ".jxl": "JPEG XL", ".jxr": "JPEG XR", ".svg": "SVG",
          ".xcf": "XCF", ".exr": "OpenEXR", ".hdr": "HDR"}  # fmt: skip
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how such files begin: both byte orders, and BigTIFF
BIG = 2**32 - 2**25  # bytes of pixels from which on a TIFF has places of 64 bits, as tifffile has it
LARGEST = 178_956_970  # pixels of a page: where Pillow stops too, for larger ones are mostly made to fill the memory
ORIENTATION = 274  # the tag, in EXIF data and in TIFF
XMP = 700
SEPARATED = 5  # a TIFF's photometric interpretation: inks
NODATA = 42113  # the tag of a TIFF with GDAL's value for pixels that have none
GDAL = 42112  # GDAL's XML
LIMITS = (340, 341), (280, 281)  # tags with a TIFF's least and greatest value, of any type and of 16 bits
KEPT_BY_PILLOW = ("icc_profile", "exif", "dpi", "xmp", "comment")
# Tags of a TIFF that stay true of its denoised pixels: names, makers, dates, XMP, rights, IPTC; GeoTIFF's and GDAL's.
KEPT_TAGS = (269, 271, 272, ORIENTATION, 285, 306, 315, XMP, 33432, 33723, 33550, 33922, 34264, 34735, 34736, 34737,
             GDAL, NODATA, *LIMITS[0], *LIMITS[1])  # fmt: skip
SIGNATURE = b"\x89PNG\r\n\x1a\n"
INSTALL = '{} needs {}: pip install ".[images]" in the folder of the project'


class PictureError(ValueError):
    """A file that cannot be read as a picture, or a picture that its format cannot hold."""


class Picture(NamedTuple):
    """`pages` can be gone through once: a page is read when it is asked for. `about` is what goes into the new file as
    it came: icc_profile, exif, dpi, xmp, comment, duration, loop, chunks of a PNG, and for TIFF the arguments of
    tifffile's writer, page by page. `note` says what cannot stay as it is. `size` is that of a TIFF's pages, in bytes.
    `deep` tells whether there are types other than uint8, `declared` what the file says of its values.
    """

    format: str
    pages: Iterable
    about: dict
    note: str = ""
    size: int = 0
    deep: bool = False
    declared: Declared = Declared()


def picture_files(folder):
    """All pictures in a folder and the folders in it, sorted; hidden ones are left out."""
    return sorted(path for path, reason in content_of(folder) if not reason)


def left_out(folder):
    """{reason: files} of what is in a folder and the folders in it and is not among its `picture_files`, sorted; hidden
    ones are not listed."""
    found = {}
    for path, reason in sorted(content_of(folder)):
        if reason:
            found.setdefault(reason, []).append(path)
    return found


def content_of(folder):
    """Yield (path, why it is left out or "") of every file in a folder and the folders in it, but for hidden ones."""
    closed = []
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


def unread(suffix):
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


def format_of(path, read_as):
    """The format in which `path` is written: that of its suffix; of another suffix, if no format is known by it, that
    in which the picture was read. Raises PictureError for a suffix of pictures that are not written here."""
    suffix = Path(path).suffix.lower()
    if unread(suffix):
        raise PictureError(f"{path}: expected a name in {', '.join(FORMATS)} for what is written; choose one with -o")
    return FORMATS.get(suffix, read_as)


def at_quality(picture, quality):
    """The picture, to be written as JPEG or WebP at a quality of 1 to 100 instead of that of the file it comes from."""
    about = {key: value for key, value in picture.about.items() if key not in ("qtables", "lossless", "exact")}
    return picture._replace(about={**about, "quality": quality})


class Ranges(dict):
    """{type: Range}; a type that no page has been seen of has its own, or that which was `given`."""

    given, nodata = None, ()

    def __missing__(self, dtype):
        return Range(*(self.given or own(dtype)), self.nodata, "given" if self.given else "type")

    def note(self):
        """The ranges that are not the types' own, in words."""
        said = {str(each) for each in self.values() if each.source not in ("type", "given")}
        return "; ".join(sorted(said)) + "; --range LOW HIGH sets it" if said else ""


def range_of(*paths, given=None):
    """The Ranges that all pages of all these files have in common. given: (black, white) instead.

    Raises as `read` does.
    """
    ranges, samples, declared = Ranges(), {}, set()
    ranges.given = given
    for picture in map(read, paths):
        declared.add(picture.declared[:2])
        ranges.nodata += tuple(value for value in picture.declared.nodata if value not in ranges.nodata)
        for page in picture.pages if picture.deep and not given else ():
            if page.dtype != torch.uint8:
                samples.setdefault(page.dtype, Sample()).add(colours_of(page), picture.declared.nodata)
    said = Declared(*(declared.pop() if len(declared) == 1 else (None, None)), ranges.nodata)
    ranges.update({dtype: sample.range(dtype, said) for dtype, sample in samples.items()})
    return ranges


def pages(path, ranges=None):
    """Yield every page of a file, upright, as pixels (1, 3, H, W) in 0-255: uint8 of 8 bits, float32 of other types.

    ranges: `range_of` this file by default; of all files together for what is to be compared. Values beyond are black
    and white. Raises as `read` does, and PictureError for pixels that are NaN, infinite or stand for no value.
    """
    ranges, picture = range_of(path) if ranges is None else ranges, read(path)
    for page in picture.pages:
        colours, range = colours_of(page), ranges[page.dtype]
        if page.dtype != torch.uint8 or range[:3] != (0, 255, ()):
            colours = scaled(colours, range, clamped=True)
            if lacking(colours):
                said = "expected a value in every pixel, got NaN, infinity or no data; replace them first"
                raise PictureError(f"{path}: {said}")
        if picture.about.get("tiff", [{}])[0].get("photometric") == "miniswhite":
            colours = 255 - colours
        yield as_batch(upright(colours, picture.about))


def as_batch(colours):
    """(H, W, C) -> (1, 3, H, W). Grey is repeated."""
    return colours.permute(2, 0, 1).unsqueeze(0).expand(1, 3, -1, -1)


def colours_of(page):
    """(H, W, C) without alpha."""
    return page[..., : 3 if page.shape[2] > 2 else 1]


def page_range(page):
    """The range of a page by itself."""
    if page.dtype == torch.uint8:
        return Range(*own(page.dtype))
    sample = Sample()
    sample.add(colours_of(page))
    return sample.range(page.dtype)


def to_pixels(page, range=None):
    """(H, W, C) -> the colours as pixels (1, 3, H, W) in 0-255: uint8, or float32 for others. Pixels outside the range,
    by default the page's own, are like their surroundings. Grey is repeated."""
    range = range or page_range(page)
    as_it_is = page.dtype == torch.uint8 and range[:3] == (0, 255, ())
    return as_batch(colours_of(page) if as_it_is else to_255(colours_of(page), range))


def with_colours(page, pixels, range=None):
    """A page like `page`, with the colours of `pixels` (1, 3, H, W) in 0-255. Its alpha is kept, and what is outside
    the range."""
    made = page.clone()
    from_255(colours_of(made), pixels[0].permute(1, 2, 0), range or page_range(page))
    return made


def in_eight_bits(page, range):
    """A page of 16 bits for a format of 8, which has no other black and white than 0 and 255."""
    if page.dtype != torch.uint16:
        return page
    made = (page.to(torch.float32) / 257).round().to(torch.uint8)
    colours_of(made).copy_(scaled(colours_of(page), range, clamped=True).nan_to_num().round())
    return made


def beside(left, right, about):
    """Two pages in one that shows `left` on the left, also where the EXIF orientation has the rows and columns of the
    file shown from another side. (EXIF 2.32, 4.6.4: which side the first row and the first column are on)"""
    first, second = (right, left) if orientation(about) in (2, 3, 6, 7) else (left, right)
    return torch.cat((first, second), 0 if orientation(about) > 4 else 1)


def upright(page, about):
    """The page as the EXIF orientation has it shown, for files that hold no such data."""
    return turned(page, orientation(about))


def turned(page, number):
    """The page as orientation `number` has it shown. (EXIF 2.32, 4.6.4)"""
    page = page.transpose(0, 1) if number > 4 else page
    return page.flip([axis for axis, turned in enumerate(((3, 4, 7, 8), (2, 3, 6, 7))) if number in turned])


def orientation(about):
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


# ------------------------------------------------------------------------------------------------------- reading


def read(path):
    """The picture in a file.

    Raises FileNotFoundError, PictureError for what is damaged or no picture, ImportError if the library is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}" if not path.exists() else f"{path} is not a file")
    if path.stat().st_size == 0:
        raise PictureError(f"{path}: the file is empty")
    with path.open("rb") as file:
        start = file.read(16)
    if RAW_START.match(start) or (start[:4] in TIFF and RAW.fullmatch(path.suffix)):
        raise PictureError(f"{path}: {IS_RAW}")
    if HEIF_START.match(start):
        raise PictureError(f"{path}: {IS_OTHER.format('HEIC')}")
    if start[:4] in TIFF:
        return read_tiff(path)
    with opened(path) as image:
        phone = image.format == "MPO"  # a JPEG with more inside: a depth map, a preview, a second eye's view
        format = "JPEG" if phone else image.format
        if format not in FORMATS.values():
            raise PictureError(f"{path}: expected PNG, JPEG, TIFF, BMP or WebP, got {format}; convert it first")
        deep = "16" in raw_mode(image)  # before the texts of a PNG are asked for, which loads it
        about = {key: image.info[key] for key in KEPT_BY_PILLOW if image.info.get(key)}
        if format == "PNG":
            about["chunks"] = png_chunks(image)
        if format == "JPEG":
            about |= jpeg_about(image)
        if format == "WEBP" and lossless(path):
            about |= {"lossless": True, "exact": True}
        frames = 1 if phone else getattr(image, "n_frames", 1)
        mode = image.mode
    if frames > 1:
        about |= {"duration": durations(path, frames), "loop": image.info.get("loop", 0)}
    picture = Picture(format, (pillow_page(path, frame) for frame in range(frames)), about, deep=deep)
    return in_rgb(picture) if mode == "CMYK" else picture


def in_rgb(picture):
    """What a picture is that was CMYK: the colour profile was for inks."""
    about = {key: value for key, value in picture.about.items() if key != "icc_profile"}
    return picture._replace(about=about, note="; ".join(filter(None, (picture.note, "CMYK became RGB (sRGB)"))))


def jpeg_about(image):
    """How finely a JPEG keeps brightness and colour, as Pillow's writer is told: its tables of quantisation (of each
    component the one it uses), 4:4:4, 4:2:2 or 4:2:0, and whether it is progressive or holds R, G, B. (ITU T.81, B.2)
    """
    from PIL.JpegImagePlugin import get_sampling

    used = [image.quantization.get(number) for *_, number in image.layer[:2]]
    tables = used[:1] if len(image.layer) in (1, 4) or used[:1] == used[1:] else used
    about = {"qtables": tables} if all(tables) else {}
    about["subsampling"] = max(0, get_sampling(image))  # another than these three: all colours are kept
    about["progressive"] = bool(image.info.get("progressive"))
    about["keep_rgb"] = image.mode == "RGB" and image.info.get("adobe_transform") == 0
    return about


def lossless(path):
    """Whether a WebP's first picture is: in a chunk VP8L, not VP8. (RFC 9649, 2.5 to 2.7)"""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name in (b"VP8L", b"VP8 "):
                return name == b"VP8L"
            file.seek(16 if name == b"ANMF" else size + size % 2, 1)  # a frame's chunks are in it
    return False


def png_chunks(image):
    """[(name, content, whether after the pixels)]: texts, and how colours are meant. (PNG 3, 11.3)"""
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
    return chunks.chunks


@contextmanager
def opened(path):
    """Pillow's image, header read. What goes wrong in the block, damage for the most part, becomes a PictureError."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(INSTALL.format("reading pictures", "Pillow")) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata, and of pictures half as large as those that are an error
            with Image.open(path) as image:
                yield image
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path}: more than {LARGEST:,} pixels; cut it into parts") from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"{path}: {unread(path.suffix) or 'not a picture that can be read'}") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise PictureError(f"{path}: damaged or incomplete ({error})") from error


def pillow_page(path, frame=0):
    """One page through Pillow -> (H, W, C). Colours of 16 bits, of which Pillow keeps the upper 8, are read twice:
    the bytes of a number in the other order put the lower 8 in their place."""
    with opened(path) as image:
        image.seek(frame)
        size, raw, key = image.size, raw_mode(image), image.info.get("transparency")
        if not re.fullmatch(r"(RGBA?|LA);16[BLN]", raw):
            step = {"L;2": 85, "L;4": 17}.get(raw, 1)  # between the values that so few bits become
            key = key * step if isinstance(key, int) else key
            return with_key(as_pillow_reads(path, image), key)
    if raw.startswith("LA"):
        halves = decoded(path, frame, size, "RGBA").view(*size[::-1], 2, 2)  # upper, lower byte of grey, of alpha
        return joined(halves[..., 0], halves[..., 1])
    first, second = (decoded(path, frame, size, raw[:-1] + order) for order in "BL")
    little = raw.endswith("L") or (raw.endswith("N") and struct.pack("=H", 1) == b"\1\0")
    return with_key(joined(second, first) if little else joined(first, second), key)


def with_key(page, key):
    """The page with an alpha channel, if it has none and says of a colour, `key`, that it is transparent. (PNG 3,
    11.3.1.1)"""
    if key is None or page.shape[2] in (2, 4) or page.is_floating_point():
        return page
    key, white = torch.tensor(key, dtype=torch.int32), own(page.dtype)[1]
    made = torch.empty(*page.shape[:2], page.shape[2] + 1, dtype=page.dtype)
    for new, band in zip(made.split(BAND), page.split(BAND)):
        new[..., :-1] = band
        new[..., -1] = (band.to(torch.int32) != key).any(2).to(torch.int32) * white
    return made


def raw_mode(image):
    """How Pillow's decoder is going to unpack the pixels, such as RGB;16B."""
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments if isinstance(arguments, str) else arguments[0])


def decoded(path, frame, size, raw):
    """The bytes that the raw mode picks of each pixel: uint8 (H, W, C)."""
    with opened(path) as image:
        image.seek(frame)
        for index, tile in enumerate(image.tile):
            arguments = raw if isinstance(tile.args, str) else (raw, *tile.args[1:])
            image.tile[index] = tile._replace(args=arguments)
        return from_bytes(image.tobytes(), torch.uint8, *size)


def joined(upper, lower):
    return (upper.to(torch.int32) * 256 + lower).to(torch.uint16)


def from_bytes(data, dtype, width, height):
    return torch.frombuffer(bytearray(data), dtype=dtype).view(height, width, -1)


def as_pillow_reads(path, image):
    """(H, W, C) of what Pillow reads well: everything of 8 bits, grey of 16 and of floating point."""
    if image.mode.startswith("I;16"):
        values = from_bytes(image.tobytes(), torch.uint8, *image.size).view(*image.size[::-1], 1, 2)
        low, high = (1, 0) if image.mode.endswith("B") else (0, 1)
        return joined(values[..., high], values[..., low])
    if image.mode == "F":
        return from_bytes(image.tobytes(), torch.float32, *image.size)
    if image.mode not in MODES.values():
        image = converted(path, image)
    return from_bytes(image.tobytes(), torch.uint8, *image.size)


def converted(path, image):
    """Palettes and the like as the mode that holds the same colours."""
    transparent = "transparency" in image.info or image.mode in ("PA", "RGBa", "La")
    colours = {"1": "L", "P": "RGB", "PA": "RGB", "RGBX": "RGB", "RGBa": "RGB", "La": "L", "YCbCr": "RGB"}
    if image.mode == "CMYK":
        return from_cmyk(image)
    if image.mode not in colours:
        raise PictureError(f"{path}: expected grey or RGB of 8 or 16 bits, got {image.mode}; convert it first")
    return image.convert(colours[image.mode] + "A" * transparent)


def from_cmyk(image):
    """Inks as sRGB: as the file's colour profile says, or each ink taken from its light."""
    from PIL import ImageCms

    profile = io.BytesIO(image.info.get("icc_profile") or b"")
    try:
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")


def durations(path, frames):
    """Milliseconds that each frame of an animation is shown."""
    with opened(path) as image:
        shown = []
        for frame in range(frames):
            image.seek(frame)
            image.load()
            shown.append(image.info.get("duration", 0))
    return shown


# --------------------------------------------------------------------------------------------------------- TIFF


def tifffile_module():
    try:
        import tifffile
    except ImportError as error:
        raise ImportError(INSTALL.format("TIFF", "tifffile")) from error
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it finds in a damaged file is no news
    return tifffile


@contextmanager
def opened_tiff(path):
    tifffile = tifffile_module()
    try:
        with tifffile.TiffFile(path) as tiff:
            yield tiff
    except PictureError:
        raise
    except Exception as error:  # tifffile raises what its parsing stumbles over
        raise PictureError(f"{path}: damaged or incomplete TIFF ({error})") from error


def tiff_pages(path):
    """Yield the pages: through tifffile, or through Pillow what needs a codec that tifffile does not bring."""
    with opened_tiff(path) as tiff:
        for number, page in whole_pages(tiff.pages):
            made = tiff_page(path, page) if plain(page) else stored_page(path, number)
            yield from made.split(1 if planes(tiff, page) else made.shape[2], 2)


def whole_pages(pages):
    """[(number, page)] of the pages that are neither smaller versions of others nor their masks, if there are such."""
    every = list(enumerate(pages))
    return [(number, page) for number, page in every if not page.subfiletype & (REDUCED | MASK)] or every


def stored_page(path, number):
    """A page through Pillow as it is stored: Pillow turns those of a TIFF upright."""
    with opened(path) as image:
        image.seek(number)
        seen = image.getexif().get(ORIENTATION)
    page = pillow_page(path, number)
    return turned(page, {6: 8, 8: 6}.get(seen, seen)) if seen in range(2, 9) else page


def below(page):
    """The pages that a page has in SubIFDs; none where they cannot be read."""
    try:
        return list(page.pages or ())
    except Exception:  # tifffile raises what its parsing stumbles over
        return []


def check_for_raw(path, pages):
    """Raise PictureError for a camera's raw file, and for a page that is the preview of a larger one in a SubIFD."""
    for page in pages:
        found = [page, *below(page)]
        if any(DNG in each.tags or each.photometric in SENSOR for each in found):
            raise PictureError(f"{path}: {IS_RAW}")
        if max(found, key=area) is not page and area(max(found, key=area)) > area(page):
            said = "expected the pictures in the pages of the file, got previews of larger ones in SubIFDs"
            raise PictureError(f"{path}: {said}; save it as a TIFF of plain pages")


def area(page):
    return page.imagelength * page.imagewidth


def not_written(pages):
    """What of a TIFF with these pages the new file will not have, in words."""
    whole = dict(whole_pages(pages))
    lost = [page for number, page in enumerate(pages) if number not in whole]
    lost += [part for page in whole.values() for part in below(page)]
    masks = sum(bool(page.subfiletype & MASK) for page in lost)
    said = ["masks of its pages"] if masks else []
    said += ["smaller versions of its pages (a pyramid, previews)"] if len(lost) > masks else []
    return f"written without the {' and '.join(said)}; make them anew from the result" if said else ""


def plain(page):
    """Whether tifffile reads the page by itself: grey or RGB of whole bytes, uncompressed or deflated."""
    known = page.photometric in (0, 1, 2) and page.compression in (1, 8, 32946) and page.predictor in (1, 2)
    return known and page.bitspersample % 8 == 0


def planes(tiff, page):
    """How many pictures are in a page: its channels, unless they are R, G, B, or grey and alpha; then 0. What the
    file's axes call anything but samples, such as Z, is no colour, though tifffile has the page say so."""
    if page.samplesperpixel == 1 or not plain(page):
        return 0
    alpha = page.samplesperpixel == 2 and tuple(page.extrasamples) in ((1,), (2,))
    colours = alpha if page.photometric < 2 else sample_axis(tiff, page) in ("S", None)
    return 0 if colours else page.samplesperpixel


def sample_axis(tiff, page):
    """What a file written by tifffile calls the axis of its channels; None if it calls the axes nothing."""
    axes = tiff.shaped_metadata[0].get("axes") if tiff.is_shaped else None
    return axes and axes[-3 if page.planarconfig == 2 else -1]


def tiff_page(path, page):
    """One page through tifffile -> (H, W, C)."""
    kinds = ("uint8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
    if page.dtype is None or page.dtype.name not in kinds or (page.photometric == 2 and page.samplesperpixel > 4):
        found = f"{page.samplesperpixel} channels of {page.dtype}"
        raise PictureError(f"{path}: expected grey or RGB of 8 to 32 bits or floating point, got {found}; convert it")
    pixels = torch.from_numpy(page.asarray())
    separate = page.samplesperpixel > 1 and page.planarconfig == 2
    pixels = pixels.permute(1, 2, 0) if separate else pixels
    pixels = pixels.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    return straight(pixels) if tuple(page.extrasamples) == (1,) else pixels


def straight(page):
    """The page, whose colours are multiplied by alpha, with its colours themselves: as other formats have them, and as
    Pillow reads it."""
    page, white = page.clone(), own(page.dtype)[1]
    for band in page.split(BAND):
        values = band.to(torch.float64)
        colours = (values[..., :-1] * (white / values[..., -1:].clamp_min(1e-9))).clamp_max(white)
        band[..., :-1] = colours if page.is_floating_point() else colours.round().to(page.dtype)
    return page


def read_tiff(path):
    with opened_tiff(path) as tiff:
        check_chain(path, tiff)
        every = list(tiff.pages)
        check_for_raw(path, every)
        pages = [page for _, page in whole_pages(every)]
        about = [page_about(page, planes(tiff, page)) for page in pages]
        shapes = [(page.imagelength, page.imagewidth) for page in pages]
        inked = any(page.photometric == SEPARATED for page in pages)
        size = sum(page.nbytes for page in pages)
        deep = any(page.dtype != "uint8" for page in pages)
        said, note = (declared(pages[0]), guessed(tiff, pages[0])) if about else (Declared(), "")
        note = "; ".join(filter(None, (note, not_written(every))))
        stack = len(about) == 1 and (pages[0].is_shaped or pages[0].is_imagej) and tiff.series[0]
    if stack and stack.is_truncated:
        shape = "x".join(map(str, stack.shape))
        said = f"expected a directory for each page, got one for all {shape} numbers"
        raise PictureError(f"{path}: {said}; save it as a TIFF of several pages")
    if not about or any(0 in shape for shape in shapes):
        raise PictureError(f"{path}: damaged or incomplete TIFF (no pages, or empty ones)")
    if max(height * width for height, width in shapes) > LARGEST:
        raise PictureError(f"{path}: more than {LARGEST:,} pixels; cut it into parts")
    picture = Picture("TIFF", tiff_pages(path), {"tiff": about, **outside_tiff(about[0])}, note, size, deep, said)
    return in_rgb(picture) if inked else picture


def check_chain(path, tiff):
    """Raise PictureError if a page names an earlier one as its successor, which would make the file endless."""
    seen = set()
    for page in tiff.pages:
        if page.offset in seen:
            raise PictureError(f"{path}: damaged or incomplete TIFF (its pages go in a circle)")
        seen.add(page.offset)


def guessed(tiff, page):
    """What is not sure: three or four planes became R, G, B by tifffile's own guess."""
    if page.samplesperpixel == 1 or page.planarconfig != 2 or not tiff.is_shaped or planes(tiff, page):
        return ""
    if sample_axis(tiff, page):
        return ""
    shape = "x".join(map(str, tiff.series[0].shape))
    colours = ", ".join(["R", "G", "B", "alpha"][: page.samplesperpixel])
    return f"{shape} without names of its axes: taken as planes of {colours}; slices need them (metadata axes ZYX)"


def declared(page):
    """What a TIFF says of its values: the least and the greatest, by tags or fewer bits than the type has; GDAL's value
    for no data. Nonsense says nothing."""
    tags = {tag.code: tag.value for tag in page.tags.values()}
    nodata = tuple(number(page, value) for value in numbers(tags.get(NODATA)))
    if page.dtype is not None and page.bitspersample < page.dtype.itemsize * 8:
        return Declared(0, 2**page.bitspersample - 1, nodata)
    for least, greatest in LIMITS:
        low, high = min(numbers(tags.get(least, 0)), default=None), max(numbers(tags.get(greatest)), default=None)
        if None not in (low, high) and low < high:
            return Declared(low, high, nodata)
    return Declared(nodata=nodata)


def numbers(value):
    """The finite numbers that a tag holds, one or some, or a text of one; none if it holds anything else."""
    values = value if isinstance(value, tuple) else (value,)
    try:
        values = [float(each.strip("\0 ") if isinstance(each, str) else each) for each in values]
    except (ValueError, TypeError, OverflowError):
        return []
    return [each for each in values if math.isfinite(each)]


def number(page, value):
    """The number as the page's type has it."""
    return float(page.dtype.type(value)) if page.dtype is not None and page.dtype.kind == "f" else value


def outside_tiff(about):
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


def page_about(page, planes=0):
    """The arguments with which tifffile's writer says the same about a page; `planes` if it is made of so many."""
    tags = {tag.name: tag.value for tag in page.tags.values()}
    about = {"photometric": "miniswhite"} if page.photometric == 0 and plain(page) else {}  # Pillow makes 0 black
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
    for argument, name in (("description", "ImageDescription"), ("software", "Software")):
        if isinstance(tags.get(name), str):
            about[argument] = tags[name].encode()
    kept = [tag for tag in page.tags.values()
            if tag.code in KEPT_TAGS and (tag.code != ORIENTATION or tag.value in range(1, 9))]  # fmt: skip
    about["extratags"] = [(tag.code, int(tag.dtype), tag.count, encoded(still_true(tag)), True) for tag in kept]
    return about


def still_true(tag):
    """A tag's value; GDAL's without the statistics of the pixels, which are others now."""
    if tag.code != GDAL or not isinstance(tag.value, str):
        return tag.value
    return re.sub(r'\s*<Item name="STATISTICS_[^>]*>[^<]*</Item>', "", tag.value)


def encoded(value):
    return value.encode() if isinstance(value, str) else value


# ------------------------------------------------------------------------------------------------------- writing


def write(path, picture, force=False):
    """Write a picture in its own format, whole or not at all.

    Raises FileExistsError if `path` exists, unless `force`; PictureError if the format cannot hold the picture.
    """
    writers = {"TIFF": write_tiff, "PNG": write_png, "BMP": write_bmp}
    with replacing(path, force) as file:
        try:
            writers.get(picture.format, write_pillow)(file, picture, path)
        except struct.error as error:
            raise PictureError(f"{path}: what the picture says about itself cannot be written ({error})") from error


def write_tiff(file, picture, path):
    about, pages = picture.about.get("tiff") or [from_pillow(picture.about)], iter(picture.pages)
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


def from_pillow(about):
    """What a TIFF keeps of a picture that was none: colour profile, resolution, orientation, XMP."""
    kept = {"iccprofile": about["icc_profile"]} if "icc_profile" in about else {}
    if "dpi" in about:
        kept |= {"resolution": tuple(map(float, about["dpi"])), "resolutionunit": 2}
    tags = [(ORIENTATION, "H", 1, orientation(about), True)] if orientation(about) != 1 else []
    tags += [(XMP, "B", len(about["xmp"]), about["xmp"], True)] if "xmp" in about else []
    return {**kept, "extratags": tags}


def write_png(file, picture, path):
    """Pillow writes 8 bits, grey of 16 too; colours of 16 bits, which it does not have, are written here."""
    pages = iter(picture.pages)
    first = next(pages)
    if first.dtype != torch.uint16:
        return write_pillow(file, picture._replace(pages=[first, *pages]), path)
    if next(pages, None) is not None:
        raise PictureError(f"{path}: several pages of 16 bits fit into a TIFF, not into a PNG")
    height, width, channels = first.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    file.write(SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)))
    for name, content in png_about(picture.about):
        file.write(chunk(name, content))
    for part in deflated(first):
        file.write(chunk(b"IDAT", part))
    file.write(chunk(b"IEND", b""))


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_about(about):
    """The chunks of the colour profile, the resolution (per metre), the EXIF data and texts. (PNG 3, 11.3)"""
    if "icc_profile" in about:
        yield b"iCCP", b"icc\0\0" + zlib.compress(about["icc_profile"])
    if "dpi" in about:
        yield b"pHYs", struct.pack(">IIB", *(round(float(value) / 0.0254) for value in about["dpi"]), 1)
    if "exif" in about:
        yield b"eXIf", about["exif"].removeprefix(b"Exif\0\0")
    for name, content, _ in png_info(about).chunks:
        yield name, content


def png_info(about):
    """Pillow's list of the chunks that it does not write by itself."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.chunks = list(about.get("chunks", ()))
    if "xmp" in about:
        info.add_itxt("XML:com.adobe.xmp", about["xmp"])
    return info


def deflated(page):
    """The compressed rows of a 16-bit page, each as its difference from the row above (PNG's filter 2)."""
    compressor, above = zlib.compressobj(), None
    for band in page.split(BAND):
        numbers = band.to(torch.int32).flatten(1)
        rows = torch.stack((numbers // 256, numbers % 256), 2).flatten(1)  # upper byte first
        before = torch.cat((torch.zeros_like(rows[:1]) if above is None else above, rows[:-1]))
        above = rows[-1:]
        coded = torch.cat((torch.full((len(rows), 1), 2), (rows - before) % 256), 1).to(torch.uint8)
        yield compressor.compress(to_bytes(coded))
    yield compressor.flush()


def to_bytes(page):
    return page.contiguous().numpy().tobytes()


def write_bmp(file, picture, path):
    """Pillow writes BMP without alpha; pixels of 32 bits with masks that name it are written here, from the bottom up.
    (BITMAPFILEHEADER and BITMAPV4HEADER of Windows)"""
    pages = [upright(page, picture.about) for page in picture.pages]
    if len(pages) > 1 or pages[0].shape[2] in (1, 3):
        return write_pillow(file, picture._replace(pages=pages), path)
    pixels = to_bytes(eight_bits(pages[0], path)[..., [2, 1, 0, 3] if pages[0].shape[2] == 4 else [0, 0, 0, 1]].flip(0))
    height, width = pages[0].shape[:2]
    file.write(struct.pack("<2sIII", b"BM", 122 + len(pixels), 0, 122))
    file.write(struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0))
    file.write(struct.pack("<4I4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + pixels)


def write_pillow(file, picture, path):
    """8 bits, through Pillow. JPEG and WebP as finely as what was read, or at a quality of 95, all colours kept."""
    images = [as_image(page, picture.format, path) for page in picture.pages]
    about = {key: value for key, value in picture.about.items() if key not in ("tiff", "chunks")}
    if len(images) > 1:
        if picture.format not in ("PNG", "WEBP"):
            raise PictureError(f"{path}: {len(images)} pages fit into TIFF, PNG or WebP, not into {picture.format}")
        about |= {"save_all": True, "append_images": images[1:]}
    else:
        about = {key: value for key, value in about.items() if key not in ("duration", "loop")}
    if picture.format == "JPEG":
        about.setdefault("subsampling", 0)
    if picture.format == "WEBP" or "qtables" not in about:
        about.setdefault("quality", QUALITY)
    if picture.format == "PNG":
        about["pnginfo"] = png_info(picture.about)
    try:
        images[0].save(file, format=picture.format, **about)
    except ValueError as error:
        raise PictureError(f"{path}: what the picture says about itself cannot be written ({error})") from error


def as_image(page, format, path):
    """(H, W, C) -> Pillow's image of 8 bits."""
    from PIL import Image

    if page.shape[2] in (2, 4) and format == "JPEG":
        raise PictureError(f"{path}: JPEG keeps no alpha channel; choose PNG, WebP or TIFF")
    height, width, channels = page.shape
    return Image.frombytes(MODES[channels], (width, height), to_bytes(eight_bits(page, path)))


def eight_bits(page, path):
    """A page of 16 bits rounded to 8."""
    if page.dtype not in (torch.uint8, torch.uint16):
        kind = "floating point" if page.is_floating_point() else str(page.dtype).removeprefix("torch.")
        raise PictureError(f"{path}: {kind} fits into a TIFF alone; choose a name in .tif")
    return (page.to(torch.float32) / 257).round().to(torch.uint8) if page.dtype == torch.uint16 else page
