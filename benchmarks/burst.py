"""Measure what to do with a burst of N shots, write docs/results/burst.md.

    python benchmarks/burst.py --photos PHOTOS [--pictures 2] [--epochs 1] [--count 100] [--out FILE]

Of a few photographs, evenly chosen, the centre is taken N times with noise. PSNR A in dB of one shot denoised, of the
average of all, of that denoised, and of that denoised by weights that were first trained on these N shots, from the
shipped ones, for each photograph alone. All weights are those of camera. The average is kept in floating point.
`--shots 1 2 --size 64 --count 8 --epochs 1 --pictures 1` shows that it works.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.camera import as_files, limited, psnr
from benchmarks.quality import decibel, table
from others import data, training
from others.data import cameras, noises
from others.data.pixels import centre
from others.model import CAMERA, Model

SIGMA = 25
HEADER = ["noise", "shots", "one shot", "one shot denoised", "average", "average denoised", "trained on the burst"]


def bursts(clean, shots):
    """Yield (name, so many shots, what they are shots of) of each noise: pixels (N, 3, H, W), a list of shots."""
    for name in ("medium", "strong"):
        generator = torch.Generator().manual_seed(0)
        taken = cameras.counting(cameras.PHOTONS[name], len(clean), generator)
        exposures = (cameras.photographed(clean / 255, taken, generator, 1) * 255 for _ in range(shots))
        still = cameras.photographed(clean / 255, taken, generator, None) * 255
        yield f"camera, {name}", list(map(as_files, exposures)), as_files(still)
    generator = torch.Generator().manual_seed(0)
    yield f"Gaussian, sigma {SIGMA}", [as_files(noises.gaussian(clean, SIGMA, generator)) for _ in range(shots)], clean


def loaded(args):
    model = Model(CAMERA, device=args.device)
    model.load_pretrained_model(*[args.weights] if args.weights else [])
    return model


def trained(args, shots):
    """The camera weights, adapted to the shots (3, H, W) of one scene as `noise2noise train --burst` does."""
    model = loaded(args)
    patches = data.Patches([shots], args.count, args.patch)
    with torch.no_grad():
        training.collect(training.fit(model.network, patches, args.epochs, model.recipe(), dtype=model.training_dtype))
    return model


def denoised(model, pixels):
    return limited(pixels, model.predict(pixels, on_tile=False))


def row(args, model, name, shots, clean):
    """A line of the table for these shots, a list of pixels (N, 3, H, W)."""
    average = torch.stack(shots).mean(0)
    found = [shots[0], denoised(model, shots[0]), average, denoised(model, average)]
    if len(shots) > 1:
        each = [trained(args, [shot[number] for shot in shots]) for number in range(len(clean))]
        found.append(torch.cat([denoised(own, image[None]) for own, image in zip(each, average)]))
    cells = [decibel(float(psnr(output, clean).mean())) for output in found]
    return [name, str(len(shots)), *cells, *["-"] * (len(HEADER) - 2 - len(cells))]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=2, help="how many of the photographs")
    parser.add_argument("--size", type=int, default=256, help="side of their centres")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--epochs", type=int, default=1, help="of the training on a burst")
    parser.add_argument("--count", type=int, default=100, help="patches in an epoch")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--device")
    parser.add_argument("--weights", type=Path, help="of the camera denoiser, instead of the shipped ones")
    parser.add_argument("--out", type=Path, default=Path("docs/results/burst.md"))
    args = parser.parse_args(arguments)
    files = data.photo_files(args.photos)
    files = files[:: max(1, len(files) // args.pictures)][: args.pictures]
    clean = torch.stack([centre(data.load_photo(file, args.size), args.size) for file in files]).float()
    model, rows = loaded(args), []
    for name, shots, truth in bursts(clean, max(args.shots)):
        for count in args.shots:
            rows.append(row(args, model, name, shots[:count], truth))
            print(" | ".join(rows[-1]), flush=True)
    args.out.write_text(f"""# A burst of shots

PSNR A in dB of the centres, {args.size} x {args.size}, of {len(files)} photographs that nothing was trained on, each
taken several times; the last two columns denoise the average, with the camera weights as shipped and after
{args.epochs * args.count:,} patches of the burst; how: `benchmarks/burst.py`.

{table(rows, HEADER)}
""")


if __name__ == "__main__":
    main()
