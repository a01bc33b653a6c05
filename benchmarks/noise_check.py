"""How often `denoise` picks the right weights, and how well it tells the strength of noise: docs/results/noise.md.

    python benchmarks/noise_check.py --photos PHOTOS [--count 125] [--out docs/results/noise.md]

PHOTOS is a folder of photographs that the judge was not trained on. Of each the centre of 256 x 256 is corrupted, or,
for drawn pixels and pictures made smaller, the whole. Screens and stars are made by a program.
"""

import argparse
import random
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.camera import as_bytes
from benchmarks.train_judge import few_colours, screen, stars
from others import data
from others.data import cameras, noises
from others.data.camera_pairs import compressed
from others.data.pixels import centre
from others.diagnose import noise

SIZE = 256


def versions(photo, generator, choice):
    """{kind: (pixels (3, h, w), sigma of the noise or None)} of one photograph; kinds of drawn pixels begin so."""
    clean = centre(photo, SIZE).float()
    sigma, weak, quality = choice.uniform(5, 50), choice.uniform(3, 13), choice.randint(70, 98)
    shot = torch.full((1, 1, 1, 1), 10 ** choice.uniform(-4.5, -2))
    grey = clean.mean(0, keepdim=True).expand(3, -1, -1)
    camera = cameras.photographed(clean[None] / 255, cameras.draw_cameras(shot, generator), generator)[0] * 255
    made = {
        "clean": (clean, 0.0),
        "Gaussian, sigma 5 to 50": (noises.gaussian(clean, sigma, generator), sigma),
        "the same, grey": (noises.gaussian(grey, sigma, generator)[:1].expand(3, -1, -1), None),
        "the same, then JPEG": (compressed(as_bytes(noises.gaussian(clean, sigma, generator)), quality), None),
        "weak, sigma 3 to 13, grey": (noises.gaussian(grey, weak, generator)[:1].expand(3, -1, -1), None),
        "weak, then JPEG": (compressed(as_bytes(noises.gaussian(clean, weak, generator)), quality), None),
        "camera": (camera, None),
        "camera, then JPEG": (compressed(as_bytes(camera), choice.randint(70, 98)), None),
        "JPEG, quality 70 to 98": (compressed(as_bytes(clean), choice.randint(70, 98)), None),
        "a screen with text of hard pixels": (screen(clean, generator, choice), None),
        "stars on a dark sky": (stars(clean, generator, choice), None),
        "few colours, some dithered": (few_colours(clean, generator, choice), None),
    }
    for cell in (2, 4, 9):
        whole = photo[:, : photo.shape[1] // cell * cell, : photo.shape[2] // cell * cell]
        side = min(n // cell for n in whole.shape[1:])
        part = whole[:, : side * cell, : side * cell].contiguous()
        made[f"clean, reduced from {cell} x {cell}"] = noises.cell_means(part, cell), None
        made[f"drawn from cells of {cell} x {cell}"] = (
            noises.subsample_photo(part, 1, side, cell, generator, 1)[0][0].float(),
            None,
        )
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=125)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    generator, choice = torch.Generator().manual_seed(0), random.Random(0)
    right, errors = {}, []
    files = data.photo_files(args.photos)[: args.count]
    for file in files:
        for kind, (pixels, sigma) in versions(data.load_photo(file, 288), generator, choice).items():
            seen = noise.look(as_bytes(pixels).float().unsqueeze(0))
            drawn = seen is not None and seen.drawn
            right.setdefault(kind, []).append(drawn == kind.startswith("drawn"))
            if sigma and seen:
                errors.append(seen.sigma / sigma - 1)
    rows = [f"| {kind} | {sum(found)} of {len(found)} |" for kind, found in right.items()]
    low, middle, high = torch.tensor(errors).quantile(torch.tensor([0.05, 0.5, 0.95])).mul(100).tolist()
    text = f"""# Which weights `denoise` picks

Pictures of {len(files)} photographs for which it picks the right weights; how: `benchmarks/noise_check.py`.

| picture | right |
| --- | --- |
{chr(10).join(rows)}

Its estimate of Gaussian noise is off by {low:+.0f} % to {high:+.0f} % (5th to 95th percentile, median {middle:+.0f} %).
"""
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
