"""Pixels through Pillow: 8 bits both ways, and 16 bits read."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch

from .formats import unread
from .levels import BAND, own
from .picture import INSTALL, ORIENTATION, Picture, PictureError, has_alpha, rounded, to_bytes, too_large, unwritable

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.ImageFile import ImageFile

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
QUALITY = 95  # of JPEG and WebP, unless the file that was read or the user says another


@contextmanager
def opened(path: Path) -> Iterator[ImageFile]:
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
        raise too_large(path) from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(
            f"{path}: {unread(path.suffix) or 'not a picture that can be read; PNG, JPEG, TIFF, BMP and WebP are'}"
        ) from error
    except (OSError, SyntaxError, ValueError, LookupError, EOFError, struct.error, zlib.error) as error:
        raise PictureError(f"{path}: damaged or incomplete ({error}); copy it anew") from error


def read(path: Path, frame: int = 0) -> torch.Tensor:
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


def with_key(page: torch.Tensor, key: Any) -> torch.Tensor:
    """The page with an alpha channel, if it has none and says of a colour, `key`, that it is transparent. (PNG 3,
    11.3.1.1)"""
    if key is None or has_alpha(page) or page.is_floating_point():
        return page
    key, white = torch.tensor(key, dtype=torch.int32), own(page.dtype)[1]
    made = torch.empty(*page.shape[:2], page.shape[2] + 1, dtype=page.dtype)
    for new, band in zip(made.split(BAND), page.split(BAND)):
        new[..., :-1] = band
        new[..., -1] = (band.to(torch.int32) != key).any(2).to(torch.int32) * white
    return made


def raw_mode(image: ImageFile) -> str:
    """How Pillow's decoder is going to unpack the pixels, such as RGB;16B."""
    arguments = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else str((arguments or ("",))[0])


def decoded(path: Path, frame: int, size: tuple[int, int], raw: str) -> torch.Tensor:
    """The bytes that the raw mode picks of each pixel: uint8 (H, W, C)."""
    with opened(path) as image:
        image.seek(frame)
        for index, tile in enumerate(image.tile):
            arguments = raw if isinstance(tile.args, str) else (raw, *(tile.args or ())[1:])
            image.tile[index] = tile._replace(args=arguments)
        return from_bytes(image.tobytes(), torch.uint8, *size)


def joined(upper: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    return (upper.to(torch.int32) * 256 + lower).to(torch.uint16)


def from_bytes(data: bytes, dtype: torch.dtype, width: int, height: int) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=dtype).view(height, width, -1)


def as_pillow_reads(path: Path | str, image: PillowImage) -> torch.Tensor:
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


def converted(path: Path | str, image: PillowImage) -> PillowImage:
    """Palettes and the like as the mode that holds the same colours."""
    transparent = "transparency" in image.info or image.mode in ("PA", "RGBa", "La")
    colours = {"1": "L", "P": "RGB", "PA": "RGB", "RGBX": "RGB", "RGBa": "RGB", "La": "L", "YCbCr": "RGB"}
    if image.mode == "CMYK":
        return from_cmyk(image)
    if image.mode not in colours:
        raise PictureError(f"{path}: expected grey or RGB of 8 or 16 bits, got {image.mode}; convert it first")
    return image.convert(colours[image.mode] + "A" * transparent)


def from_cmyk(image: PillowImage) -> PillowImage:
    """Inks as sRGB: as the file's colour profile says, or each ink taken from its light."""
    from PIL import ImageCms

    profile = io.BytesIO(image.info.get("icc_profile") or b"")
    try:
        made = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        made = None
    return made or image.convert("RGB")


def turns_only(exif: bytes) -> bool:
    """Whether EXIF data say no more than which way is up."""
    from PIL import Image

    found = Image.Exif()
    found.load(exif)
    return not set(found) - {ORIENTATION}


def durations(path: Path, frames: int) -> list[float]:
    """Milliseconds that each frame of an animation is shown."""
    with opened(path) as image:
        shown = []
        for frame in range(frames):
            image.seek(frame)
            image.load()
            shown.append(image.info.get("duration", 0))
    return shown


# --------------------------------------------------------------------------------------------------------- writing


def write(file: IO[bytes], picture: Picture, path: Path | str, **defaults: Any) -> None:
    """Write 8 bits. defaults: arguments of Pillow's writer, for what the picture does not say of itself."""
    images = [as_image(page, path) for page in picture.pages]
    about = {key: value for key, value in picture.about.items() if key not in ("tiff", "chunks")}
    if len(images) > 1:
        if picture.format not in ("PNG", "WEBP"):
            raise PictureError(f"{path}: {len(images)} pages fit into TIFF, PNG or WebP, not into {picture.format}")
        if len({image.size for image in images}) > 1:
            raise PictureError(f"{path}: pages of different sizes fit into TIFF alone; choose a name in .tif")
        about |= {"save_all": True, "append_images": images[1:]}
    else:
        about = {key: value for key, value in about.items() if key not in ("duration", "loop")}
    try:
        images[0].save(file, format=picture.format, **{**defaults, **about})
    except ValueError as error:
        raise unwritable(path, error) from error


def at_quality(picture: Picture, quality: int) -> Picture:
    """The picture, to be written as JPEG or WebP at a quality of 1 to 100 instead of that of the file it comes from."""
    about = {key: value for key, value in picture.about.items() if key not in ("qtables", "lossless", "exact")}
    return picture._replace(about={**about, "quality": quality})


def as_image(page: torch.Tensor, path: Path | str) -> PillowImage:
    """(H, W, C) -> Pillow's image of 8 bits."""
    from PIL import Image

    height, width, channels = page.shape
    return Image.frombytes(MODES[channels], (width, height), to_bytes(eight_bits(page, path)))


def eight_bits(page: torch.Tensor, path: Path | str) -> torch.Tensor:
    """A page of 16 bits rounded to 8."""
    if page.dtype not in (torch.uint8, torch.uint16):
        kind = "floating point" if page.is_floating_point() else str(page.dtype).removeprefix("torch.")
        raise PictureError(f"{path}: {kind} fits into a TIFF alone; choose a name in .tif")
    return rounded(page) if page.dtype == torch.uint16 else page
