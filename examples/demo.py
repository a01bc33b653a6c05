"""Watch a Noise2Noise denoiser learn: train one from scratch for a minute on generated noisy pairs, then denoise with
the shipped weights and write a picture. Downloads nothing.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from Miniproject_2.model import Model
from others import data
from others.evaluation import figures, metrics


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, default=Path("out/demo.png"), help="to write (default: out/demo.png)")
    parser.add_argument("--pairs", type=int, default=3000, help="noisy pairs to train on (default: 3000)")
    parser.add_argument("--images", type=int, default=100, help="noisy and clean images to measure on (default: 100)")
    parser.add_argument("--epochs", type=int, default=4, help="over the pairs (default: 4)")
    args = parser.parse_args()

    print(f"Generating {args.pairs:,} noisy pairs and {args.images} noisy and clean images to measure on ...")
    pairs, (noisy, clean) = data.generated_pairs(args.pairs), data.generated_validation(args.images)

    print(f"Training {Model().module.NAME!r} from scratch. It never sees a clean image; PSNR is against clean images.")
    torch.manual_seed(0)
    model = Model()
    model.train(*pairs, args.epochs, validation=(noisy, clean))

    model = Model()
    model.load_pretrained_model()
    denoised = model.predict(noisy)
    for name, images in (("noisy", noisy), ("denoised by the shipped weights", denoised)):
        print(f"PSNR A, {name}: {metrics.psnr_a(images.float() / 255, clean.float() / 255):.2f} dB")
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    figures.comparison(args.picture, noisy[:6], denoised[:6], clean[:6])
    print(f"Picture: {args.picture.resolve()}")


if __name__ == "__main__":
    main()
