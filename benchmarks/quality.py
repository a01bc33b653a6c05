"""Measure the shipped weights: the main figures, other kinds and strengths of noise, and the gain of every image.

    python benchmarks/quality.py --photos PHOTOS [--data DATA_FOLDER] [--beside FILE ...]
                                 [--out docs/results/quality.md] [--picture gains.png]

PHOTOS is a folder of photographs that no weights were trained on; every row of the table corrupts the centres of the
same photographs. --data adds val_data.pkl, in the course's format. --beside compares with the weights in other files.
PSNR is metric A, in dB. Needs Pillow, and matplotlib for the picture.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from others import data
from others.data import noises
from others.evaluation import figures, metrics
from others.model import Model
from others.storage import networks

DENOISERS = "prescribed", "rednet"


def load(files):
    """{name: model} of the shipped weights, and of those in the files under "name, file"."""
    models = {}
    for name in DENOISERS:
        models[name] = Model(name, device="cpu")
        models[name].load_pretrained_model()
    for file in files:
        for name in networks.held(file):
            models[f"{name}, {file}"] = model = Model(name, device="cpu")
            model.load_pretrained_model(file)
    return models


def subsampled(photos, size, cell, generator):
    """(noisy, clean) of the photographs that are large enough, float pixels (N, 3, size, size)."""
    pairs = [noises.centre_pair(photo, size, cell, generator) for photo in photos]
    return tuple(torch.stack(images).float() for images in zip(*filter(None, pairs)))


def conditions(photos):
    """Yield (name, noisy, clean) of every row of the table, the name alone if no photograph is large enough."""
    generator = torch.Generator().manual_seed(0)
    for cell in (5, 7, 9, 11, 13):
        yield f"subsampling, cells of {cell}x{cell}", *subsampled(photos, 32, cell, generator)
    noisy, clean = subsampled(photos, 32, 9, generator)
    for sigma in (5, 15, 25):
        yield f"Gaussian, sigma {sigma}", noises.gaussian(clean, sigma, generator).clamp(0, 255), clean
    yield "Poisson, 30 photons at white", noises.poisson(clean, 30, generator).clamp(0, 255), clean
    hit = torch.rand(clean.shape[0], 1, *clean.shape[2:], generator=generator)
    salt = torch.where(hit < 0.01, 0.0, torch.where(hit < 0.02, 255.0, clean))
    yield "salt and pepper, 2 %", salt, clean
    yield "clean image", clean, clean
    yield "grey", *(images.mean(1, keepdim=True).expand(-1, 3, -1, -1) for images in (noisy, clean))
    yield "very dark (a tenth)", noisy / 10, clean / 10
    yield "very bright (upper tenth)", 229.5 + noisy / 10, 229.5 + clean / 10
    for size, cell in ((64, 4), (128, 2), (256, 2), (512, 2)):
        yield f"{size} x {size}, cells of {cell}x{cell}", *subsampled(photos, size, cell, generator)


def table(rows, header):
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def decibel(value):
    return "exact" if value > 200 else f"{value:.2f}"


def psnr(output, clean):
    return metrics.psnr_a(output.float() / 255, clean.float() / 255)


def robustness(models, photos):
    rows = []
    for name, *pair in conditions(photos):
        if not pair:
            continue
        noisy, clean = pair
        outputs = [psnr(model.predict(noisy), clean) for model in models.values()]
        rows.append([name, str(len(clean)), decibel(psnr(noisy, clean)), *map(decibel, outputs)])
    return table(rows, ["corruption", "images", "noisy", *models])


def main_figures(models, noisy, clean):
    """PSNR A and B, one pass and with self-ensemble, on the course's validation pairs."""
    b = metrics.psnr_b(noisy.float() / 255, clean.float() / 255)
    rows = [["noisy input", f"{psnr(noisy, clean):.2f}", f"{b:.2f}"]]
    for name, model in models.items():
        for ensemble in (False, True):
            output = model.predict(noisy, self_ensemble=ensemble)
            b = metrics.psnr_b(output / 255, clean.float() / 255)
            rows.append([name + ", self-ensemble" * ensemble, f"{psnr(output, clean):.2f}", f"{b:.2f}"])
    return table(rows, ["val_data.pkl", "PSNR A", "PSNR B"])


def gains(models, noisy, clean):
    """The distribution over images of the gain in PSNR."""
    before = metrics.psnr_per_image(noisy.float() / 255, clean.float() / 255)
    rows = []
    for name, model in models.items():
        gain = metrics.psnr_per_image(model.predict(noisy) / 255, clean.float() / 255) - before
        spread = [gain.min(), *(gain.quantile(q) for q in (0.05, 0.5, 0.95)), gain.max()]
        rows.append([name, f"{gain.mean():.2f}", *(f"{value:.2f}" for value in spread), str(int((gain < 0).sum()))])
    return table(rows, ["gain per image, dB", "mean", "least", "5 %", "median", "95 %", "most", "images made worse"])


def worst(model, noisy, clean, count=10):
    """(noisy, denoised, clean) of the images that gained least."""
    output = model.predict(noisy)
    images = [images.float() / 255 for images in (noisy, output, clean)]
    gain = metrics.psnr_per_image(images[1], images[2]) - metrics.psnr_per_image(images[0], images[2])
    index = gain.argsort()[:count]
    return noisy[index], output[index], clean[index]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--beside", type=Path, nargs="+", default=[], metavar="FILE", help="other weights")
    parser.add_argument("--out", type=Path, help="write the tables here too")
    parser.add_argument("--picture", type=Path, help="draw the ten images that gain least")
    args = parser.parse_args()
    models = load(args.beside)
    photos = [data.load_photo(file, 288) for file in data.photo_files(args.photos)]
    text = [
        "# Measured quality of the shipped weights",
        "",
        "PSNR A in dB unless said otherwise; `benchmarks/quality.py`.",
        "",
    ]
    noisy, clean = subsampled(photos, 32, 9, torch.Generator().manual_seed(1))
    if args.data:
        noisy, clean = data.load_pairs(args.data / "val_data.pkl")
        text += [main_figures(models, noisy, clean), ""]
    text += [gains(models, noisy, clean), "", robustness(models, photos), ""]
    print("\n".join(text))
    if args.out:
        args.out.write_text("\n".join(text))
    if args.picture:
        figures.comparison(args.picture, *worst(models[DENOISERS[-1]], noisy, clean))


if __name__ == "__main__":
    main()
