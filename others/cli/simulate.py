"""Make training and validation data in the course's format from a folder of photographs.

examples:
  noise2noise simulate photos data                                  the course's noise, 5,000 pairs and 200 images
  noise2noise simulate photos data --noise gaussian --sigma 25 --pairs 50000
  noise2noise simulate photos data --noise poisson --photons 30 --seed 1

OUT/train_data.pkl holds (noisy, noisy), OUT/val_data.pkl (noisy, clean): two uint8 tensors (N, 3, 32, 32) each, for
torch.load. A pixel of the clean image is the mean of a cell of 9 x 9 pixels of the photograph. `subsampling` draws one
of them instead; `gaussian` and `poisson` add noise to the mean. Validation images come from photographs of their own: a
tenth of them. The same seed gives the same data."""

from math import inf
from pathlib import Path

import torch

from .. import checkpoint, data, simulation
from ..files import replacing
from .common import check_outputs

NAMES = "train_data.pkl", "val_data.pkl"


def add_arguments(parser):
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of JPEG, PNG or WebP photographs")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the data")
    parser.add_argument("--noise", choices=("subsampling", "gaussian", "poisson"), default="subsampling")
    parser.add_argument("--sigma", type=positive(float), default=25.0, help="of Gaussian noise, of 255 (default: 25)")
    parser.add_argument("--photons", type=positive(float), default=30.0, help="at white, for Poisson (default: 30)")
    parser.add_argument("--pairs", type=positive(int), default=5000, help="to train on (default: 5000)")
    parser.add_argument("--images", type=positive(int), default=200, help="to validate on (default: 200)")
    parser.add_argument("--cell", type=positive(int), default=simulation.CELL, help="side of a cell (default: 9)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="replace data that are there already")


def positive(kind):
    def number(text):
        if not 0 < kind(text) < inf:
            raise ValueError
        return kind(text)

    number.__name__ = f"positive {kind.__name__}"
    return number


def run(args):
    targets = [args.out / name for name in NAMES]
    check_outputs(targets, [], args.force)
    if not args.photos.is_dir():
        raise FileNotFoundError(f"no folder {args.photos}")
    files = data.photo_files(args.photos)
    if len(files) < 2:
        raise ValueError(f"{args.photos}: expected two photographs or more, one for validation; got {len(files)}")
    held = max(1, len(files) // 10)
    print(f"Drawing {args.pairs:,} pairs and {args.images:,} images from {len(files):,} photographs ...", flush=True)
    pairs = versions(files[:-held], args.pairs, args, args.seed, clean=False)
    images = versions(files[-held:], args.images, args, args.seed + 1, clean=True)
    for target, tensors in zip(targets, (pairs, images)):
        with replacing(target, args.force) as file:
            file.write(checkpoint.serialised(tensors))
        print(f"{target}: 2 x {tuple(tensors[0].shape)}")


def versions(files, count, args, seed, clean):
    """(noisy, noisy), or (noisy, clean): uint8 (count, 3, 32, 32) twice."""
    generator = torch.Generator().manual_seed(seed)
    side = simulation.SIZE * args.cell
    photos = [data.load_photo(file, side) for file in files]
    made = [torch.empty(count, 3, simulation.SIZE, simulation.SIZE, dtype=torch.uint8) for _ in range(2)]
    for i in range(count):
        crop = simulation.random_crop(photos[i % len(photos)], side, generator).contiguous()
        mean = simulation.cell_means(crop, args.cell)
        pair = noisy_pair(crop, mean, args, generator)
        for version, image in zip(made, (pair[0], mean) if clean else pair):
            version[i] = image.round().clamp(0, 255).to(torch.uint8)
    return tuple(made)


def noisy_pair(crop, mean, args, generator):
    """Two noisy versions of a crop whose cells have these means, in 0-255."""
    if args.noise == "subsampling":
        drawn = simulation.subsample_photo(crop, 1, simulation.SIZE, args.cell, generator)
        return [version[0].float() for version in drawn]
    if args.noise == "gaussian":
        return [mean + args.sigma * torch.randn(mean.shape, generator=generator) for _ in range(2)]
    scale = args.photons / 255
    return [torch.poisson(mean * scale, generator) / scale for _ in range(2)]
