"""The course's noise on photographs (the extra `images`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from .. import pictures
from . import noises
from .noises import CELL, SIZE
from .patches import generator_of
from .pixels import Pair

BILINEAR = 2  # among Pillow's ways to resize


class PhotoPairs:
    """Noisy pairs cut freshly from photographs: calling it with an epoch's number gives that epoch's
    (noisy_1, noisy_2), uint8 (count, 3, 32, 32). The same seed and epoch give the same pairs.

    `files` are the photographs (needs Pillow); those smaller than 32 cells are enlarged first. `gaussian` of the
    pairs, on average, carry Gaussian noise instead, of a standard deviation between 0 and `SIGMA`: a network that
    never saw a clean image takes its edges for noise. With `targets` more than one, noisy_2 is the mean of so many
    versions: a target with less noise (Lehtinen et al. 2018, section 3), not to be swapped with the input.
    """

    SIGMA = 15  # in pixel values

    def __init__(
        self,
        files: Sequence[Path],
        count: int = 50_000,
        seed: int = 0,
        cell: int = CELL,
        gaussian: float = 0.0,
        targets: int = 1,
    ) -> None:
        self.photos = [load_photo(file, SIZE * cell) for file in files]
        self.count, self.seed, self.cell, self.gaussian, self.targets = count, seed, cell, gaussian, targets

    def __call__(self, epoch: int) -> Pair:
        generator = generator_of(self.seed, epoch)
        versions = [torch.empty(self.count, 3, SIZE, SIZE, dtype=torch.uint8) for _ in range(2)]
        for number, photo in enumerate(self.photos):
            mine = slice(number, None, len(self.photos))
            crops = len(range(self.count)[mine])
            noisy = noises.subsample_photo(photo, crops, SIZE, self.cell, generator, 1 + self.targets)
            instead = (torch.rand(crops, generator=generator) < self.gaussian).nonzero().squeeze(1)
            if len(instead):
                clean = noises.average_photo(photo, len(instead), SIZE, self.cell, generator)
                sigma = torch.rand(len(instead), 1, 1, 1, generator=generator) * self.SIGMA
                for version in noisy:
                    made = noises.gaussian(clean, sigma, generator)
                    version[instead] = made.round().clamp(0, 255).to(torch.uint8)
            versions[0][mine] = noisy[0]
            versions[1][mine] = torch.stack(noisy[1:]).float().mean(0).round().to(torch.uint8)
        return versions[0], versions[1]


def photo_validation(files: Sequence[Path], seed: int = 0, cell: int = CELL) -> Pair:
    """(noisy, clean) of the centre of each photograph: uint8 (len(files), 3, 32, 32)."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [noises.centre_pair(load_photo(file, SIZE * cell), SIZE, cell, generator) for file in files]
    noisy, clean = zip(*pairs)
    return torch.stack(noisy), torch.stack(clean)


def photo_files(folder: Path | str) -> list[Path]:
    """The photographs in a folder, sorted. Raises FileNotFoundError if there is none."""
    files = sorted(f for f in Path(folder).iterdir() if f.suffix.lower() in pictures.FORMATS and not f.is_dir())
    if not files:
        raise FileNotFoundError(f"no photographs ({', '.join(pictures.FORMATS)}) in {folder}")
    return files


def load_photo(file: Path, smallest: int) -> torch.Tensor:
    """uint8 (3, H, W), enlarged if a side is shorter than `smallest`. Raises as `pictures.read` does."""
    photo = next(pictures.pages(file))[0].round().to(torch.uint8)
    scale = smallest / min(photo.shape[1:])
    if scale > 1:
        image = pictures.as_image(photo.permute(1, 2, 0), file)
        image = image.resize([max(smallest, round(n * scale)) for n in image.size], BILINEAR)
        photo = pictures.as_pillow_reads(file, image).permute(2, 0, 1)
    return photo.contiguous()
