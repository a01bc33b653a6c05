"""Make training and validation data in the course's format from a folder of photographs.

examples:
  noise2noise simulate photos data                                  the course's noise, 5,000 pairs and 200 images
  noise2noise simulate photos data --noise gaussian --sigma 25 --pairs 50000
  noise2noise simulate photos data --noise poisson --photons 30 --seed 1
  noise2noise simulate photos data --noise camera --photons 100     strong noise; 1,000 is medium, 10,000 weak

OUT/train_data.pkl holds (noisy, noisy), OUT/val_data.pkl (noisy, clean): two uint8 tensors (N, 3, 32, 32) each, for
torch.load. A pixel of the clean image is the mean of a cell of 9 x 9 pixels of the photograph. `subsampling` draws one
of them instead; `gaussian` and `poisson` add noise to the mean. `camera` is a simulated camera that looks at the mean:
a mosaic of red, green and blue pixels with shot and read noise, interpolated, with white balance and tone curve; clean
is its image without noise. Grey images stay grey. Validation images come from photographs of their own: a tenth of
them. The same seed gives the same data.

Photographs that cannot be read do not stop the others; the exit status is then 1.

Reading the photographs takes longest; 5,000 pairs of four photographs take 3 s."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from .. import data, pictures
from ..data import cameras, noises
from ..storage import checkpoint
from ..storage.files import replacing
from .common import check_ignored, check_outputs, complain, counted, positive, say, seed, status
from .streams import program

NAMES = "train_data.pkl", "val_data.pkl"
MOST = 10**9  # images in a file
FEWEST = 1e-3  # photons: less overflows
PHOTONS = {"poisson": 30, "camera": cameras.PHOTONS["medium"]}  # unless they are given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of photographs")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the data")
    parser.add_argument("--noise", choices=("subsampling", "gaussian", "poisson", "camera"), default="subsampling",
                        help="what makes the images noisy")  # fmt: skip
    parser.add_argument("--sigma", type=positive(float, 10**6), help="of Gaussian noise, of 255 (default: 25)")
    usual = " and ".join(f"{count:,} for {noise}" for noise, count in PHOTONS.items())
    parser.add_argument(
        "--photons", type=positive(float, 10**6, FEWEST), help=f"at white; fewer is noisier (default: {usual})"
    )
    parser.add_argument("--pairs", type=positive(int, MOST), default=5000, help="to train on")
    parser.add_argument("--images", type=positive(int, MOST), default=200, help="to validate on")
    largest = math.isqrt(pictures.LARGEST) // noises.SIZE  # of larger cells no photograph holds 32 x 32
    parser.add_argument("--cell", type=positive(int, largest), default=noises.CELL, help="side of a cell in pixels")
    parser.add_argument("--seed", type=seed, default=0, help="of what is drawn")
    parser.add_argument("--force", action="store_true", help="replace data that are there already")


def run(args: argparse.Namespace) -> int:
    for noises_of, option in ((("gaussian",), "sigma"), (PHOTONS, "photons")):
        if args.noise not in noises_of:
            check_ignored(args, [option], f"with --noise {args.noise}")
    args.sigma, args.photons = args.sigma or 25.0, args.photons or PHOTONS.get(args.noise)
    targets = [args.out / name for name in NAMES]
    check_outputs(targets, [], args.force)
    if not args.photos.is_dir():
        raise FileNotFoundError(f"no folder {args.photos}{'; it is a file' * args.photos.exists()}")
    files = data.photo_files(args.photos)
    left = [file for file in args.photos.iterdir() if file not in files and not file.name.startswith(".")]
    if left:
        say(f"left out: {', '.join(map(str, sorted(left)))}: no photograph by its name, or a folder")
    if len(files) < 2:
        raise ValueError(f"{args.photos}: expected two photographs or more, one for validation; got {len(files)}")
    held = max(1, len(files) // 10)
    rooms = [room(args.pairs), room(args.images)]
    asked = f"{counted(args.pairs, 'pair')} and {counted(args.images, 'image')}"
    print(f"Drawing {asked} from {len(files):,} photographs ...", flush=True)
    failed: list[Path] = []
    fill(rooms[0], loaded(files[:-held], args, failed), args, args.seed, clean=False)
    fill(rooms[1], loaded(files[-held:], args, failed), args, args.seed + 1, clean=True)
    for target, tensors in zip(targets, rooms):
        with replacing(target, args.force) as file:
            file.write(checkpoint.serialised(tensors))
        print(f"{target}: 2 x {tuple(tensors[0].shape)}")
    weights = "" if args.noise == "subsampling" else " --noise camera"
    print(f"The denoiser on it: {program()} evaluate {shlex.quote(str(targets[1]))}{weights}")
    return status("simulate", failed, "left out")


def room(count: int) -> data.Pair:
    """Memory for two versions of so many images: uint8 (count, 3, 32, 32) twice."""
    try:
        first, second = (torch.empty(count, 3, noises.SIZE, noises.SIZE, dtype=torch.uint8) for _ in range(2))
        return first, second
    except RuntimeError as error:
        size = count * 6 * noises.SIZE**2 / 2**30
        raise MemoryError(
            f"{count:,} images take {size:,.0f} GiB of memory, more than there is; ask for fewer"
        ) from error


def loaded(files: Sequence[Path], args: argparse.Namespace, failed: list[Path]) -> list[torch.Tensor]:
    """The photographs; those that cannot be read are said and go into `failed`. Raises as the first does if all."""
    photos: list[torch.Tensor] = []
    broken: dict[Path, Exception] = {}
    for file in files:
        try:
            photos.append(data.load_photo(file, noises.SIZE * args.cell))
        except (OSError, pictures.PictureError) as error:
            broken[file] = error
    if not photos:
        raise next(iter(broken.values()))
    for problem in broken.values():
        complain("simulate", problem)
    failed += broken
    return photos


def fill(made: data.Pair, photos: Sequence[torch.Tensor], args: argparse.Namespace, seed: int, clean: bool) -> None:
    """Fill (noisy, noisy), or (noisy, clean), with images."""
    generator = torch.Generator().manual_seed(seed)
    side = noises.SIZE * args.cell
    for i in range(len(made[0])):
        crop = noises.random_crop(photos[i % len(photos)], side, generator).contiguous()
        mean = noises.cell_means(crop, args.cell)
        first, second, still = versions(crop, mean, args, generator)
        for version, image in zip(made, (first, still if clean else second)):
            version[i] = image.round().clamp(0, 255).to(torch.uint8)


def versions(
    crop: torch.Tensor, mean: torch.Tensor, args: argparse.Namespace, generator: torch.Generator
) -> list[torch.Tensor]:
    """Two noisy versions and a clean one of a crop whose cells have these means, in 0-255."""
    if args.noise == "subsampling":
        drawn = noises.subsample_photo(crop, 1, noises.SIZE, args.cell, generator)
        return [version[0].float() for version in drawn] + [mean]
    if args.noise == "gaussian":
        return [noises.gaussian(mean, args.sigma, generator) for _ in range(2)] + [mean]
    if args.noise == "poisson":
        return [noises.poisson(mean, args.photons, generator) for _ in range(2)] + [mean]
    taken, scene = cameras.counting(args.photons, 1, generator), mean.unsqueeze(0) / 255
    return [cameras.photographed(scene, taken, generator, frames)[0] * 255 for frames in (1, 1, None)]
