"""How often the note about a picture's noise is right: photographs reduced to cells, with the noise that the weights
were trained on, with others and with none; for both architectures.

python benchmarks/noise_check.py PHOTOS [--cell 9] [--every 8] [--first 1]

Of every eighth photograph, from the first on. The thresholds in others/diagnose/noise.py were chosen on the photographs
0, 8, 16 ... with the prescribed denoiser; other ones are for measuring.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from others import data
from others.data import noises
from others.diagnose import noise
from others.model import Model, architectures


def versions(photo, cell, generator):
    """{what: pixels (3, h, w) in 0-255}"""
    height, width = (n // cell for n in photo.shape[1:])
    pick = torch.randint(cell * cell, (height, width), generator=generator)
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width).view(1, -1)
    drawn = photo[:, rows * cell + pick // cell, columns * cell + pick % cell].float()
    cells = photo[:, : height * cell, : width * cell].float().reshape(3, height, cell, width, cell)
    clean = cells.mean((2, 4))

    def grain(sigma, channels=3):
        return clean + sigma * torch.randn((channels, height, width), generator=generator)

    return {
        "as in training": drawn,
        "clean": clean,
        "as the camera wrote it": photo[:, :200, :200].float(),
        **{f"Gaussian, sigma {sigma}": grain(sigma) for sigma in (5, 10, 25, 50)},
        "Gaussian, sigma 15, one for all channels": grain(15, 1),
        "Poisson, 30 photons at white": noises.poisson(clean, 30, generator),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--cell", type=int, default=9)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--first", type=int, default=1)
    args = parser.parse_args()
    files, generator = data.photo_files(args.photos)[args.first :: args.every], torch.Generator().manual_seed(0)
    photos = [data.load_photo(file, 32 * args.cell) for file in files]
    images = [versions(photo, args.cell, generator) for photo in photos]
    for name in architectures():
        model = Model(name)
        model.load_pretrained_model()
        for what in images[0]:
            pixels = [each[what].round().clamp(0, 255).unsqueeze(0) for each in images]
            found = [noise.look(each, model.predict(each)) for each in pixels]
            told = sum(noise.unlike_training(each) is not None for each in found)
            print(f"{name}, {what}: noted {told} of {len(found)}", flush=True)
            if args.first == 0:
                for entry, values in zip(noise.Noise._fields, zip(*found)):
                    print(f"   {entry}: {torch.tensor(values).quantile(torch.tensor([0.02, 0.1, 0.5, 0.9, 0.98]))}")


if __name__ == "__main__":
    main()
