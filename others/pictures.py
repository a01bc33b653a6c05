"""Picture files in and out: PNG, JPEG, BMP, WebP and TIFF, 8 and 16 bit, with what the file says about them.

A page is a tensor (H, W, C), uint8 or uint16; C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA. Needs Pillow, and tifffile
for TIFF: the extra `images`.
"""

import re
import struct
import warnings
import zlib
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from .files import replacing

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WEBP",
}
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how such files begin: both byte orders, and BigTIFF
LARGEST = 178_956_970  # pixels of a page: where Pillow stops too, for larger ones are mostly made to fill the memory
BAND = 64  # rows that are worked on at once, for results that need no other copy of the picture
ORIENTATION = 274  # the tag, in EXIF data and in TIFF
SIGNATURE = b"\x89PNG\r\n\x1a\n"
INSTALL = '{} needs {}: pip install "noise2noise-scratch[images]"'


class PictureError(ValueError):
    """A file that cannot be read as a picture, or a picture that its format cannot hold."""


class Picture(NamedTuple):
    """`pages` can be gone through once: a page is read when it is asked for. `about` is what goes into the new file as
    it came: icc_profile, exif, dpi, duration, loop, and for TIFF the arguments of tifffile's writer, page by page."""

    format: str
    pages: Iterable
    about: dict


def picture_files(folder):
    """All pictures in a folder and the folders in it, sorted; hidden ones are left out."""
    found = (path for path in Path(folder).rglob("*") if path.suffix.lower() in FORMATS and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def white(dtype):
    """The value of white: 255 or 65535."""
    return 65535 if dtype == torch.uint16 else 255


def to_pixels(page):
    """(H, W, C) -> the colours as pixels (1, 3, H, W) in 0-255: uint8, or float32 for 16 bits. Grey is repeated."""
    colours = page[..., : 3 if page.shape[2] > 2 else 1].permute(2, 0, 1).unsqueeze(0)
    if page.dtype == torch.uint16:
        colours = colours.to(torch.float32) / 257
    return colours.expand(1, 3, -1, -1)


def with_colours(page, pixels):
    """A page like `page`, its alpha included, with the colours of `pixels` (1, 3, H, W) in 0-255."""
    made = page.clone()
    for new, colours in zip(made.split(BAND), pixels[0].permute(1, 2, 0).split(BAND)):
        if page.shape[2] < 3:
            colours = colours.mean(2, keepdim=True)
        new[..., : colours.shape[2]] = (colours * (white(page.dtype) / 255)).round().to(page.dtype)
    return made


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
        if file.read(4) in TIFF:
            return read_tiff(path)
    with opened(path) as image:
        format = image.format
        about = {key: image.info[key] for key in ("icc_profile", "exif", "dpi") if image.info.get(key)}
        if format not in FORMATS.values():
            raise PictureError(f"{path}: expected PNG, JPEG, TIFF, BMP or WebP, got {format}")
        frames = getattr(image, "n_frames", 1)
    if frames > 1:
        about |= {"duration": durations(path, frames), "loop": image.info.get("loop", 0)}
    return Picture(format, (pillow_page(path, frame) for frame in range(frames)), about)


@contextmanager
def opened(path):
    """Pillow's image, header read. What goes wrong in the block, damage for the most part, becomes a PictureError."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(INSTALL.format("reading pictures", "Pillow")) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error, at twice the size, stays
            with Image.open(path) as image:
                yield image
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path}: more than {LARGEST:,} pixels; cut it into parts") from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"{path}: not a picture that can be read") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise PictureError(f"{path}: damaged or incomplete ({error})") from error


def pillow_page(path, frame=0):
    """One page through Pillow -> (H, W, C). Colours of 16 bits, of which Pillow keeps the upper 8, are read twice:
    the bytes of a number in the other order put the lower 8 in their place."""
    with opened(path) as image:
        image.seek(frame)
        size, raw = image.size, raw_mode(image)
        if not re.fullmatch(r"(RGBA?|LA);16[BLN]", raw):
            return eight_bits(path, image)
    if raw.startswith("LA"):
        halves = decoded(path, frame, size, "RGBA").view(*size[::-1], 2, 2)  # upper, lower byte of grey, of alpha
        return joined(halves[..., 0], halves[..., 1])
    first, second = (decoded(path, frame, size, raw[:-1] + order) for order in "BL")
    little = raw.endswith("L") or (raw.endswith("N") and struct.pack("=H", 1) == b"\1\0")
    return joined(second, first) if little else joined(first, second)


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


def eight_bits(path, image):
    """(H, W, C) of what Pillow reads well: everything of 8 bits, and grey of 16."""
    if image.mode.startswith("I;16"):
        values = from_bytes(image.tobytes(), torch.uint8, *image.size).view(*image.size[::-1], 1, 2)
        low, high = (1, 0) if image.mode.endswith("B") else (0, 1)
        return joined(values[..., high], values[..., low])
    if image.mode not in MODES.values():
        image = converted(path, image)
    return from_bytes(image.tobytes(), torch.uint8, *image.size)


def converted(path, image):
    """Palettes and the like as the mode that holds the same colours."""
    transparent = "transparency" in image.info or image.mode in ("PA", "RGBa", "La")
    colours = {"1": "L", "P": "RGB", "PA": "RGB", "RGBX": "RGB", "RGBa": "RGB", "La": "L", "YCbCr": "RGB"}
    if image.mode not in colours:
        raise PictureError(f"{path}: expected grey or RGB of 8 or 16 bits, got {image.mode}; convert it first")
    return image.convert(colours[image.mode] + "A" * transparent)


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
        for number, page in enumerate(tiff.pages):
            yield tiff_page(path, page) if plain(page) else pillow_page(path, number)


def plain(page):
    """Whether tifffile reads the page by itself: grey or RGB, uncompressed or deflated."""
    return page.photometric in (0, 1, 2) and page.compression in (1, 8, 32946)


def tiff_page(path, page):
    """One page through tifffile -> (H, W, C)."""
    if page.dtype is None or page.dtype.name not in ("uint8", "uint16") or page.samplesperpixel > 4:
        found = f"{page.samplesperpixel} channels of {page.dtype}"
        raise PictureError(f"{path}: expected grey or RGB of 8 or 16 bits, got {found}; convert it first")
    pixels = torch.from_numpy(page.asarray())
    separate = page.samplesperpixel > 1 and page.planarconfig == 2
    pixels = pixels.permute(1, 2, 0) if separate else pixels
    return pixels.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def read_tiff(path):
    with opened_tiff(path) as tiff:
        about = [page_about(page) for page in tiff.pages]
        shapes = [(page.imagelength, page.imagewidth) for page in tiff.pages]
    if not about or any(0 in shape for shape in shapes):
        raise PictureError(f"{path}: damaged or incomplete TIFF (no pages, or empty ones)")
    if max(height * width for height, width in shapes) > LARGEST:
        raise PictureError(f"{path}: more than {LARGEST:,} pixels; cut it into parts")
    return Picture("TIFF", tiff_pages(path), {"tiff": about, **outside_tiff(about[0])})


def outside_tiff(about):
    """What other formats keep of a TIFF: the colour profile and the orientation."""
    kept = {"icc_profile": about["iccprofile"]} if "iccprofile" in about else {}
    if "extratags" in about:
        from PIL import Image

        exif = Image.Exif()
        exif[ORIENTATION] = about["extratags"][0][3]
        kept["exif"] = exif.tobytes()
    return kept


def page_about(page):
    """The arguments with which tifffile's writer says the same about a page."""
    tags = {tag.name: tag.value for tag in page.tags.values()}
    about = {"photometric": "miniswhite"} if page.photometric == 0 else {}
    if page.compression != 1:
        about["compression"] = "zlib"
    if "XResolution" in tags and "YResolution" in tags:
        about["resolution"] = tuple(a / max(1, b) for a, b in (tags["XResolution"], tags["YResolution"]))
        about["resolutionunit"] = tags.get("ResolutionUnit", 2)
    if isinstance(tags.get("InterColorProfile"), bytes):
        about["iccprofile"] = tags["InterColorProfile"]
    if "Orientation" in tags:
        about["extratags"] = [(ORIENTATION, "H", 1, int(tags["Orientation"]), True)]
    if isinstance(tags.get("ImageDescription"), str) and tags["ImageDescription"].isascii():
        about["description"] = tags["ImageDescription"]
    return about


# ------------------------------------------------------------------------------------------------------- writing


def write(path, picture, force=False):
    """Write a picture in its own format, whole or not at all.

    Raises FileExistsError if `path` exists, unless `force`; PictureError if the format cannot hold the picture.
    """
    writers = {"TIFF": write_tiff, "PNG": write_png}
    with replacing(path, force) as file:
        writers.get(picture.format, write_pillow)(file, picture, path)


def write_tiff(file, picture, path):
    about = picture.about.get("tiff") or [from_pillow(picture.about)]
    with tifffile_module().TiffWriter(file) as writer:
        for number, page in enumerate(picture.pages):
            channels = page.shape[2]
            said = {"photometric": "rgb" if channels > 2 else "minisblack", **about[min(number, len(about) - 1)]}
            said |= {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
            said |= {"planarconfig": "contig"} if channels > 1 else {}
            shaped = page.squeeze(2) if channels == 1 else page
            writer.write(shaped.contiguous().numpy(), metadata=None, contiguous=False, **said)


def from_pillow(about):
    """What a TIFF keeps of a picture that was none: colour profile, resolution, orientation."""
    from PIL import Image

    kept = {"iccprofile": about["icc_profile"]} if "icc_profile" in about else {}
    if "dpi" in about:
        kept |= {"resolution": tuple(map(float, about["dpi"])), "resolutionunit": 2}
    exif = Image.Exif()
    exif.load(about.get("exif", b""))
    if ORIENTATION in exif:
        kept["extratags"] = [(ORIENTATION, "H", 1, exif[ORIENTATION], True)]
    return kept


def write_png(file, picture, path):
    """Pillow writes 8 bits, grey of 16 too; colours of 16 bits, which it does not have, are written here."""
    pages = iter(picture.pages)
    first = next(pages)
    if first.dtype == torch.uint8:
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
    """The chunks of the colour profile, the resolution (per metre) and the EXIF data. (PNG 3, 11.3)"""
    if "icc_profile" in about:
        yield b"iCCP", b"icc\0\0" + zlib.compress(about["icc_profile"])
    if "dpi" in about:
        yield b"pHYs", struct.pack(">IIB", *(round(float(value) / 0.0254) for value in about["dpi"]), 1)
    if "exif" in about:
        yield b"eXIf", about["exif"].removeprefix(b"Exif\0\0")


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


def write_pillow(file, picture, path):
    """8 bits, through Pillow. JPEG and WebP at quality 95."""
    images = [as_image(page, picture.format, path) for page in picture.pages]
    about = {key: value for key, value in picture.about.items() if key != "tiff"}
    if len(images) > 1:
        if picture.format not in ("PNG", "WEBP"):
            raise PictureError(f"{path}: {len(images)} pages fit into TIFF, PNG or WebP, not into {picture.format}")
        about |= {"save_all": True, "append_images": images[1:]}
    else:
        about = {key: value for key, value in about.items() if key not in ("duration", "loop")}
    if picture.format in ("JPEG", "WEBP"):
        about["quality"] = 95
    images[0].save(file, format=picture.format, **about)


def as_image(page, format, path):
    """(H, W, C) -> Pillow's image of 8 bits."""
    from PIL import Image

    if page.shape[2] in (2, 4) and format in ("JPEG", "BMP"):
        raise PictureError(f"{path}: {format} keeps no alpha channel; choose PNG, WebP or TIFF")
    if page.dtype == torch.uint16:
        page = (page.to(torch.float32) / 257).round().to(torch.uint8)
    height, width, channels = page.shape
    return Image.frombytes(MODES[channels], (width, height), to_bytes(page))
