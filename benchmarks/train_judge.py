"""Train the small network that tells drawn pixels from the noise of sensors, JPEG and clean pictures.

    python benchmarks/train_judge.py --photos PHOTOS [PHOTOS ...] [--out others/diagnose/judge.pth]   (6 min, one core)

A third of the images are drawn from cells of 2 x 2 to 9 x 9 pixels of photographs; the others are the means of such
cells, or photographs as they are: four of ten without noise, the others with that of sensors, some of each as JPEG. A
quarter of all is grey.
"""

import argparse
import random
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from others import data
from others.data import noises
from others.data.camera_pairs import QUALITY, compressed, corrupted
from others.diagnose.noise import JUDGE, Judge
from others.nn import MSE, Muon, OneCycleLR
from others.storage import networks

SIZE, LARGEST = 64, 9
GREY, NOISY, JPEG = 0.25, 0.6, 0.4  # shares: of all, and of what is not drawn
RATE = 4e-3


def example(photos, generator, choice):
    """(pixels (3, SIZE, SIZE), 1 if they are drawn, else -1)"""
    photo, grey = choice.choice(photos), choice.random() < GREY
    cell = choice.choice([1, 1, *range(2, min(LARGEST, min(photo.shape[1:]) // SIZE) + 1)])
    if cell > 1 and choice.random() < 0.45:
        return coloured(noises.subsample_photo(photo, 1, SIZE, cell, generator, 1)[0][0].float(), grey), 1.0
    mean = coloured(noises.cell_means(noises.random_crop(photo, SIZE * cell, generator), cell), grey)
    noisy = choice.random() < NOISY
    pixels = corrupted(mean[None] / 255, 1, generator)[0][0] if noisy else mean.round().to(torch.uint8)
    return (compressed(pixels, choice.randint(*QUALITY)) if choice.random() < JPEG else pixels).float(), -1.0


def coloured(image, grey):
    """(3, H, W), with its mean in every channel if it is to be grey."""
    return image.mean(0, keepdim=True).expand(3, -1, -1).contiguous() if grey else image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--every", type=int, default=1, help="use every n-th photograph")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=JUDGE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    generator, choice = torch.Generator().manual_seed(args.seed), random.Random(args.seed)
    files = [file for folder in args.photos for file in data.photo_files(folder)][:: args.every]
    photos = [data.load_photo(file, 2 * SIZE) for file in files]
    network, criterion = Judge(), MSE()
    optimizer = Muon(network.param(), RATE, 0.0, 0.95, adjust_lr_fn="match_rms_adamw")
    schedule = OneCycleLR(optimizer, RATE, args.steps, pct_start=0.1)
    average = 1.0
    for step in range(1, args.steps + 1):
        images, labels = zip(*(example(photos, generator, choice) for _ in range(args.batch_size)))
        optimizer.zero_grad()
        scores = network.forward(torch.stack(images) / 255 - 0.5)
        loss = criterion.forward(scores.mean((1, 2, 3)), torch.tensor(labels))
        gradient = criterion.backward().view(-1, 1, 1, 1) / scores[0].numel()
        network.backward(gradient.expand_as(scores).contiguous())
        optimizer.step()
        if step < args.steps:
            schedule.step()
        average += 0.02 * (float(loss) - average)
        if step % 200 == 0:
            print(f"step {step}: loss {average:.3f}", flush=True)
    info = {"data": f"{len(files)} photographs", "command": f"train_judge.py --steps {args.steps} --seed {args.seed}"}
    networks.save(args.out, "judge", network, info, alone=True, dtype=torch.float16)


if __name__ == "__main__":
    main()
