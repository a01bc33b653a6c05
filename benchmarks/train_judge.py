"""Train the small network that tells drawn pixels from the noise of sensors, JPEG, clean pictures and what is none.

    python benchmarks/train_judge.py --photos PHOTOS [PHOTOS ...] [--out others/diagnose/judge.pth]   (10 min, one core)

A third of the images are drawn from cells of 2 x 2 to 9 x 9 pixels of photographs; the others are the means of such
cells, or photographs as they are: four of ten without noise, the others with that of sensors, some of each as JPEG. A
quarter of all is grey. Of those that are not drawn one in seven is made by a program: screens with text of hard pixels,
stars, few colours with and without dithering.
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
from others.pictures import as_image, as_pillow_reads
from others.pictures.pixels import as_batch
from others.storage import networks

SIZE, LARGEST = 64, 9
GREY, NOISY, JPEG, MADE = 0.25, 0.6, 0.4, 0.15  # shares: of all, and of what is not drawn
RATE = 4e-3


def example(photos, generator, choice):
    """(pixels (3, SIZE, SIZE), 1 if they are drawn, else -1)"""
    photo, grey = choice.choice(photos), choice.random() < GREY
    cell = choice.choice([1, 1, *range(2, min(LARGEST, min(photo.shape[1:]) // SIZE) + 1)])
    if cell > 1 and choice.random() < 0.45:
        return coloured(noises.subsample_photo(photo, 1, SIZE, cell, generator, 1)[0][0].float(), grey), 1.0
    mean = coloured(noises.cell_means(noises.random_crop(photo, SIZE * cell, generator), cell), grey)
    if choice.random() < MADE:
        return choice.choice((screen, stars, few_colours))(mean, generator, choice), -1.0
    noisy = choice.random() < NOISY
    pixels = corrupted(mean[None] / 255, 1, generator)[0][0] if noisy else mean.round().to(torch.uint8)
    return (compressed(pixels, choice.randint(*QUALITY)) if choice.random() < JPEG else pixels).float(), -1.0


def screen(image, generator, choice):
    """Boxes and rows of letters, random dots of 3 x 5 once or twice as large, in the size of an image (3, H, W)."""
    height, width = image.shape[1:]
    made = paint(generator, choice).expand(3, height, width).clone()
    for _ in range(choice.randint(0, 6)):
        top, left = choice.randrange(height), choice.randrange(width)
        made[:, top : top + choice.randint(1, height), left : left + choice.randint(1, width)] = paint(
            generator, choice
        )
    ink, scale, top = paint(generator, choice), choice.choice((1, 1, 2)), 0
    while top < height - 8:
        if choice.random() < 0.7:
            dots = torch.zeros(5, width // (4 * scale), 4)
            dots[:, :, :3] = (torch.rand(5, width // (4 * scale), 3, generator=generator) < 0.55).float()
            dots *= (torch.rand(1, width // (4 * scale), 1, generator=generator) < 0.85).float()
            dots = dots.flatten(1).repeat_interleave(scale, 0).repeat_interleave(scale, 1)[: height - top]
            place = made[:, top : top + dots.shape[0], : dots.shape[1]]
            place.copy_(torch.where(dots > 0, ink, place))
        top += choice.randint(6, 9) * scale
    return weak_noise(made, generator, choice)


def paint(generator, choice):
    """A colour (3, 1, 1): half of them black, white or grey."""
    if choice.random() < 0.5:
        return torch.full((3, 1, 1), float(choice.choice((0, 255, choice.randrange(256)))))
    return torch.randint(256, (3, 1, 1), generator=generator).float()


def stars(image, generator, choice):
    """Single bright pixels, sometimes with a soft edge, on a dark sky that is a little brighter below."""
    sky = torch.linspace(0, 1, image.shape[1])[:, None] * image.mean((1, 2), keepdim=True) * choice.uniform(0, 0.3)
    shown = torch.rand(1, *image.shape[1:], generator=generator) < 10 ** choice.uniform(-3, -1.5)
    light = torch.rand(1, *image.shape[1:], generator=generator) * 235 + 20
    colour = 1 - choice.choice((0, 0.5)) * torch.rand(3, 1, 1, generator=generator)
    points = shown * light * colour
    if choice.random() < 0.5:
        edges = [points.roll(step, axis) for step in (-1, 1) for axis in (1, 2)]
        points = points.maximum(torch.stack(edges).amax(0) * choice.uniform(0, 0.8))
    return weak_noise(sky.maximum(points), generator, choice)


def few_colours(image, generator, choice):
    """2 to 12 values of each channel, plain or with dithering, ordered or random; or a palette of 2 to 32 colours."""
    if choice.random() < 0.4:
        picture = as_image(image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0), "").quantize(
            choice.randint(2, 32), dither=choice.choice((0, 3))
        )
        return as_batch(as_pillow_reads("", picture))[0].float()
    levels, kind = choice.randint(1, 11), choice.random()
    order = torch.tensor([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16 - 15 / 32
    ordered = order.repeat(image.shape[1] // 4 + 1, image.shape[2] // 4 + 1)[: image.shape[1], : image.shape[2]]
    drawn = torch.rand(choice.choice((1, 3)), *image.shape[1:], generator=generator) - 0.5
    offset = 0 if kind < 0.3 else ordered if kind < 0.65 else drawn
    image = image.mean(0, keepdim=True).expand(3, -1, -1) if choice.random() < 0.3 else image
    return (image / 255 * levels + offset).round().clamp(0, levels) / levels * 255


def weak_noise(image, generator, choice):
    """With nothing, noise of up to sigma 4, or JPEG."""
    kind = choice.random()
    if kind < 0.6:
        return image.round().clamp(0, 255)
    if kind < 0.85:
        return noises.gaussian(image, choice.uniform(0.5, 4), generator).round().clamp(0, 255)
    return compressed(image.round().clamp(0, 255).to(torch.uint8), choice.randint(*QUALITY)).float()


def coloured(image, grey):
    """(3, H, W), with its mean in every channel if it is to be grey."""
    return image.mean(0, keepdim=True).expand(3, -1, -1).contiguous() if grey else image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=5000)
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
