"""Images in, images out: the course's pickles, generated pairs, pairs from photographs, and the border between pixels
and the numbers that networks work on.

Pixels are (N, 3, H, W), uint8 or float in 0-255. Inside, images are float32 in [0, 1] with channels-last strides.
"""

from math import isfinite
from pathlib import Path
from warnings import warn

import torch

from . import checkpoint, pictures, simulation
from .simulation import CELL, SIZE

WHITE = 255
LARGEST = 1000  # of pixels that are floats: beyond any noise, and far below what overflows inside a network
DEEP = (1023, 4095, 16383, 65535)  # white in 10, 12, 14 and 16 bits
BILINEAR = 2  # among Pillow's ways to resize


def to_unit(pixels, device=None, dtype=torch.float32):
    """(N, C, H, W) pixels in 0-255 of any dtype -> floats in 0-1 on `device`, channels last."""
    images = pixels.detach().to(device=device, dtype=torch.float32).div(255)
    return images.to(dtype=dtype, memory_format=torch.channels_last)


def to_pixels(images):
    """(N, C, H, W) in 0-1 -> float32 pixels clamped to 0-255, contiguous."""
    return images.to(torch.float32).clamp(0, 1).mul(255).contiguous()


def check_images(images, what):
    """Raise TypeError or ValueError unless `images` are pixels (N, 3, H, W): integers in 0-255, or floats that noise
    may have moved out of it, within `LARGEST`. Warn where floats look like another scale, but may be pixels."""
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"{what}: expected a tensor (N, 3, H, W) with values in 0-255, got {type(images).__name__}")
    if images.dim() != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        got = tuple(images.shape)
        raise ValueError(f"{what}: expected shape (N, 3, H, W), got {got}{shape_advice(got)}")
    if images.dtype == torch.bool or images.is_complex():
        raise TypeError(f"{what}: expected uint8 or floating point in 0-255, got {images.dtype}")
    if images.dtype == torch.uint8 or not images.numel():
        return
    least, greatest = map(float, computable(images.detach()).aminmax())  # NaN if there is one
    if not (isfinite(least) and isfinite(greatest)):
        raise ValueError(f"{what}: expected finite values in 0-255, got NaN or infinity")
    check_range(least, greatest, images.is_floating_point(), what)


def check_range(least, greatest, floats, what):
    """Raise ValueError for values that are no pixels, warn of those that may be none."""
    said = f"{what}: expected values in 0-255, got {least:.5g} to {greatest:.5g}"
    if max(-least, greatest) > LARGEST or not (floats or 0 <= least <= greatest <= WHITE):
        white = next((white for white in DEEP if greatest <= white), f"{greatest:.5g}")
        scale = f"scale them, as images.float() * (255 / {white}) where {white} is white; " if greatest > WHITE else ""
        raise ValueError(f"{said}; {scale}clamp(0, 255) removes what is only noise")
    if floats and 0 < greatest <= 1:
        warn(f"{said}: nearly black; multiply by 255 if they are images in 0-1", stacklevel=4)
    elif greatest > 2 * WHITE:
        warn(f"{said}: what is above 255 comes out white; scale them if it is not noise", stacklevel=4)


def shape_advice(shape):
    """What to do with images of another shape, or nothing."""
    if len(shape) == 3:
        return "; a single image needs a first dimension of 1, as images.unsqueeze(0)"
    if len(shape) == 4 and shape[1] not in (1, 4) and shape[3] == 3:
        return "; channels come second, as images.permute(0, 3, 1, 2)"
    advice = {1: "; repeat grey with images.expand(-1, 3, -1, -1)", 4: "; drop alpha with images[:, :3]"}
    return advice.get(shape[1], "") if len(shape) == 4 else ""


def computable(images):
    """The same, but unsigned integers of 16 bits and more as floats: torch neither flips nor compares them."""
    return images.float() if images.dtype in (torch.uint16, torch.uint32, torch.uint64) else images


def check_pairs(first, second, what):
    """Raise TypeError or ValueError unless both are pixels, of one shape."""
    check_images(first, f"{what}, first of the pair")
    check_images(second, f"{what}, second of the pair")
    if first.shape != second.shape:
        raise ValueError(f"{what}: the two versions have different shapes, {tuple(first.shape)} and "
                         f"{tuple(second.shape)}")  # fmt: skip


# -------------------------------------------------------------------------------------------- the course's files


def load_pairs(path, mmap=False):
    """(noisy_1, noisy_2) of train_data.pkl or (noisy, clean) of val_data.pkl: two uint8 tensors (N, 3, H, W).

    With mmap the pixels stay on the disk until they are used: for data larger than the memory. No code in the file is
    run. Raises FileNotFoundError, or ValueError or TypeError for anything that is not a pair of equal image tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no data file {path}: expected a pair of image tensors written by torch.save")
    try:
        content = checkpoint.read(path, mmap=mmap, old=True)
    except checkpoint.CheckpointError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: not a file of tensors written by torch.save: {reason}") from error
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise TypeError(f"{path}: expected a pair of tensors, got {described(content)}")
    check_pairs(*content, str(path))
    return tuple(content)


def described(content):
    length = f" of {len(content)}" if isinstance(content, (tuple, list)) else ""
    return f"a {type(content).__name__}{length}"


# ---------------------------------------------------------------------------------------------- generated images


def generated(count, versions, clean, seed=0, start=0):
    """So many noisy versions of `count` generated images, then the clean ones if wanted: uint8 (count, 3, 32, 32) each.
    Image i depends on seed and i alone."""
    scenes = [simulation.Scene(seed, start + i) for i in range(count)]
    noisy = [simulation.stack([scene.noisy() for scene in scenes]) for _ in range(versions)]
    return (*noisy, simulation.stack([scene.clean() for scene in scenes])) if clean else tuple(noisy)


def generated_pairs(count, seed=0, start=0):
    """(noisy_1, noisy_2) of `count` generated images."""
    return generated(count, 2, False, seed, start)


def generated_validation(count, seed=0, start=10**9):
    """(noisy, clean) of `count` generated images, by default others than the training ones."""
    return generated(count, 1, True, seed, start)


# --------------------------------------------------------------------------------------------- from photographs


class PhotoPairs:
    """Noisy pairs cut freshly from photographs: calling it with an epoch's number gives that epoch's
    (noisy_1, noisy_2), uint8 (count, 3, 32, 32). The same seed and epoch give the same pairs.

    `folder` holds the photographs (needs Pillow); those smaller than 32 cells are enlarged first. `gaussian` of the
    pairs, on average, carry Gaussian noise instead, of a standard deviation between 0 and `SIGMA`: a network that
    never saw a clean image takes its edges for noise. With `targets` more than one, noisy_2 is the mean of so many
    versions: a target with less noise (Lehtinen et al. 2018, section 3), not to be swapped with the input.
    """

    SIGMA = 15  # in pixel values

    def __init__(self, folder, count=50_000, seed=0, cell=CELL, files=None, gaussian=0.0, targets=1):
        self.photos = [load_photo(file, SIZE * cell) for file in (files or photo_files(folder))]
        self.count, self.seed, self.cell, self.gaussian, self.targets = count, seed, cell, gaussian, targets

    def __call__(self, epoch):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        versions = [torch.empty(self.count, 3, SIZE, SIZE, dtype=torch.uint8) for _ in range(2)]
        for number, photo in enumerate(self.photos):
            mine = slice(number, None, len(self.photos))
            crops = len(range(self.count)[mine])
            noisy = simulation.subsample_photo(photo, crops, SIZE, self.cell, generator, 1 + self.targets)
            instead = (torch.rand(crops, generator=generator) < self.gaussian).nonzero().squeeze(1)
            if len(instead):
                clean = simulation.average_photo(photo, len(instead), SIZE, self.cell, generator)
                sigma = torch.rand(len(instead), 1, 1, 1, generator=generator) * self.SIGMA
                for version in noisy:
                    grain = torch.randn(clean.shape, generator=generator)
                    version[instead] = (clean + sigma * grain).round().clamp(0, 255).to(torch.uint8)
            versions[0][mine] = noisy[0]
            versions[1][mine] = torch.stack(noisy[1:]).float().mean(0).round().to(torch.uint8)
        return tuple(versions)


def photo_validation(files, seed=0, cell=CELL):
    """(noisy, clean) of the centre of each photograph: uint8 (len(files), 3, 32, 32)."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [simulation.centre_pair(load_photo(file, SIZE * cell), SIZE, cell, generator) for file in files]
    return tuple(map(torch.stack, zip(*pairs)))


def photo_files(folder):
    """The photographs in a folder, sorted. Raises FileNotFoundError if there is none."""
    files = sorted(f for f in Path(folder).iterdir() if f.suffix.lower() in pictures.FORMATS and not f.is_dir())
    if not files:
        raise FileNotFoundError(f"no photographs ({', '.join(pictures.FORMATS)}) in {folder}")
    return files


def load_photo(file, smallest):
    """uint8 (3, H, W), enlarged if a side is shorter than `smallest`. Raises as `pictures.read` does."""
    photo = next(pictures.pages(file))[0].round().to(torch.uint8)
    scale = smallest / min(photo.shape[1:])
    if scale > 1:
        image = pictures.as_image(photo.permute(1, 2, 0), "PNG", file)
        image = image.resize([max(smallest, round(n * scale)) for n in image.size], BILINEAR)
        photo = pictures.as_pillow_reads(file, image).permute(2, 0, 1)
    return photo.contiguous()
