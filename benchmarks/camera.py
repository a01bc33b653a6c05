"""Measure the camera weights on photographs, beside filters without learning: docs/results/camera.md and a figure.

    python benchmarks/camera.py --photos PHOTOS [--every 12] [--filters none|quick|all] [--out FILE] [--picture FILE]

Of every twelfth photograph the centre of 256 x 256 is corrupted. All networks are blind and take one pass, the camera
weights two, with the limit that `denoise` has (`diagnose.noise.limited`). BM3D (the package `bm3d`, all channels
together) is told sigma where the noise is Gaussian, elsewhere the best of three on the mean of all photographs;
scikit-image's filters estimate it. PSNR A in dB. What the filters give is kept in out/camera-filters.json, by
photograph, noise and filter: they take most of the time. Needs the extra `filters`.
"""

import argparse
import json
import sys
from math import inf
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.quality import decibel, table
from others import data
from others.data import cameras, noises
from others.data.camera_pairs import compressed
from others.data.pixels import centre
from others.diagnose import noise
from others.evaluation import baselines, figures, metrics
from others.model import Model, denoisers

SIZE = 256
SIGMAS = {"weak": (3, 5, 8), "medium": (8, 12, 18), "strong": (25, 35, 50)}  # of the camera's noise, for BM3D
KEPT = Path("out/camera-filters.json")
SHOWN = ("Gaussian, sigma 25", "camera, strong")
CROP = 128


def conditions(clean):
    """Yield (name, noisy, clean, what BM3D is told, one sigma or several) of each row: pixels (N, 3, SIZE, SIZE)."""
    generator = torch.Generator().manual_seed(0)
    grey = clean.mean(1, keepdim=True).round().expand_as(clean)
    for sigma in (5, 15, 25, 50):
        yield f"Gaussian, sigma {sigma}", as_files(noises.gaussian(clean, sigma, generator)), clean, (sigma,)
    one = 25 * torch.randn(clean[:, :1].shape, generator=generator)
    yield "grey, sigma 25", as_files(grey + one), grey, (25,)
    yield "Poisson, 30 photons at white", as_files(noises.poisson(clean, 30, generator)), clean, (18, 25, 35)
    for name, sigmas in SIGMAS.items():
        yield f"camera, {name}", *by_camera(clean, name, generator), sigmas
    shared = 15 * torch.randn(clean[:, :1].shape, generator=generator)
    yield "common to the channels, sigma 15", as_files(clean + shared), clean, (15,)
    plain = by_camera(clean, "strong", generator, bilinear=True)
    yield "camera, strong, bilinear interpolation", *plain, (12, 20, 30)
    width = torch.full((len(clean), 1, 1, 1), 0.8)
    grain = noises.grained(torch.randn(clean.shape, generator=generator), width)
    yield "grain of 2 pixels, sigma 15", as_files(clean + 15 * grain), clean, (8, 15, 25)
    yield "JPEG, quality 90", torch.stack([compressed(image, 90) for image in as_bytes(clean)]).float(), clean, ()
    yield "clean", clean, clean, ()


def by_camera(clean, name, generator, bilinear=False):
    """(noisy, clean) of photographs as a camera takes them."""
    taken = cameras.counting(cameras.PHOTONS[name], len(clean), generator)
    taken = taken._replace(bilinear=torch.full_like(taken.bilinear, bilinear))
    noisy, still = (cameras.photographed(clean / 255, taken, generator, n) * 255 for n in (1, None))
    return as_files(noisy), as_files(still)


def as_bytes(images):
    return images.round().clamp(0, 255).to(torch.uint8)


def as_files(images):
    """As a file of 8 bits holds them, as floats."""
    return as_bytes(images).float()


def bm3d(pixels, sigma):
    """(1, 3, H, W) in 0-255, as `baselines` has it. (Dabov et al. 2007)"""
    import bm3d

    image = pixels[0].permute(1, 2, 0).double().numpy()
    grey = (pixels == pixels[:, :1]).all()
    output = bm3d.bm3d(image[..., 0], sigma)[..., None] if grey else bm3d.bm3d_rgb(image, sigma)
    return torch.from_numpy(output).float().expand(-1, -1, 3).permute(2, 0, 1).unsqueeze(0).clamp(0, 255)


def limited(noisy, denoised):
    """Pixels (N, 3, H, W) as `denoise` leaves them: each image with its limit on what is taken away."""
    return torch.cat(list(map(noise.limited, noisy.split(1), denoised.split(1))))


def psnr(output, clean):
    return metrics.psnr_per_image(output.float() / 255, clean / 255)


def filtered(name, noisy, clean, sigmas, which, names):
    """{filter: PSNR of each image, a list} from what is kept, or computed and kept."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    runs = {method: (run, None) for method, run in baselines.METHODS.items()}
    if which == "all":
        runs |= {f"BM3D, sigma {s}": (bm3d, s) for s in sigmas}
    for method, (run, given) in runs.items():
        for number, photo in enumerate(names):
            key = f"{photo}; {name}; {method}"
            if key not in kept:
                image = noisy[number : number + 1]
                output = run(image) if given is None else run(image, given)
                kept[key] = min(200.0, float(psnr(output, clean[number : number + 1])))
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(kept, indent=0))
    found = {method: [kept[f"{photo}; {name}; {method}"] for photo in names] for method in runs}
    best = max((m for m in found if m.startswith("BM3D")), key=lambda m: sum(found[m]), default=None)
    plain = {method: values for method, values in found.items() if not method.startswith("BM3D")}
    return plain | ({"BM3D": found[best] if best else []} if which == "all" else {})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--every", type=int, default=12)
    parser.add_argument("--filters", choices=("none", "quick", "all"), default="all")
    parser.add_argument("--weights", type=Path, help="of the camera denoiser, instead of the shipped ones")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path, help="draw noisy, denoised and clean crops at 100 %%")
    args = parser.parse_args()
    files = data.photo_files(args.photos)[:: args.every]
    names = [file.name for file in files]
    clean = torch.stack([centre(data.load_photo(file, SIZE), SIZE) for file in files]).float()
    models = {name: Model(name, device="cpu") for name in denoisers()}
    for name, model in models.items():
        model.load_pretrained_model(*[args.weights] * bool(args.weights and name == "camera"))
    header, rows, shown = [], [], []
    for name, noisy, truth, sigmas in conditions(clean):
        before, outputs = psnr(noisy, truth), {m: model.predict(noisy, on_tile=False) for m, model in models.items()}
        outputs["camera"] = limited(noisy, outputs["camera"])
        found = {method: psnr(output, truth) for method, output in outputs.items()}
        worst = min(0.0, float((found["camera"] - before).min()))
        if args.filters != "none":
            found |= {m: torch.tensor(v) for m, v in filtered(name, noisy, truth, sigmas, args.filters, names).items()}
        header = ["noise", "noisy", *found, "camera, worst image's change"]
        means = [decibel(float(value.mean())) if len(value) else "" for value in (before, *found.values())]
        rows.append([name, *means, f"{worst:.2f}" if worst > -inf else ""])
        print(" | ".join(rows[-1]), flush=True)
        if name in SHOWN:
            crop = slice((SIZE - CROP) // 2, (SIZE + CROP) // 2)
            shown += [tuple(images[number, :, crop, crop] for images in (noisy, outputs["camera"], truth))
                      for number in (0, len(files) // 2)]  # fmt: skip
    text = f"""# The camera weights on photographs

PSNR A in dB of {len(files)} photographs of {SIZE} x {SIZE} that nothing was trained on; how: `benchmarks/camera.py`.
The last column is what the image gains for which the camera weights do least, where that is a loss.

{table(rows, header)}
"""
    if args.out:
        args.out.write_text(text)
    if args.picture:
        figures.comparison(args.picture, *map(torch.stack, zip(*shown)))


if __name__ == "__main__":
    main()
