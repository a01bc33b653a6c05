"""Noisy pairs of one's own: patches cut on the fly, and whether the pairs are what Noise2Noise needs.

Noise2Noise learns from two pictures of one scene whose noise is independent and has mean zero. A pair that is shifted
teaches blur; a pair of equal pictures, or with the same noise in both, teaches to keep the noise.
"""

import torch

from .noise import BLOCK, detail

FAR = 0.75  # pixels of shift from which a pair counts as not aligned
CLEAR = 12, 18  # standard deviations that the correlation's peak has to reach: for a shift of more than a pixel, of one
SMALLEST = 8 * BLOCK  # pixels of a side, to tell whether a pair is aligned and shares its noise
COMMON = 0.7  # share of the noise in flat blocks from which two pictures count as sharing it


class Patches:
    """Calling it with an epoch's number gives that epoch's (noisy_1, noisy_2): pixels (count, 3, size, size) cut at
    random from scenes. The same seed and epoch give the same patches.

    scenes: lists of two or more pictures (3, H, W) in 0-255 of one scene; two different ones are drawn for each patch.
    """

    def __init__(self, scenes, count=5000, size=64, seed=0):
        self.scenes, self.count, self.seed = scenes, count, seed
        self.size = min([size, *(n for scene in scenes for n in scene[0].shape[1:])])

    def __call__(self, epoch):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        cuts = [self.cut(generator) for _ in range(self.count)]
        return tuple(torch.stack(versions) for versions in zip(*cuts))

    def cut(self, generator):
        scene = self.scenes[draw(len(self.scenes), generator)]
        first, second = torch.randperm(len(scene), generator=generator)[:2].tolist()
        top, left = (draw(n - self.size + 1, generator) for n in scene[0].shape[1:])
        place = slice(None), slice(top, top + self.size), slice(left, left + self.size)
        return scene[first][place], scene[second][place]


def draw(n, generator):
    return int(torch.randint(n, (), generator=generator))


# ------------------------------------------------------------------------------------------------------ checking


def problem(first, second):
    """What is wrong with a pair of pictures (3, H, W) of one scene, in plain words; None if nothing was found. Whether
    they are aligned and share their noise is not looked for where a side is below `SMALLEST`."""
    if first.shape != second.shape:
        return f"they have different sizes, {size_of(first)} and {size_of(second)}"
    first, second = (middle(image) for image in (first, second))
    if torch.equal(first, second):
        return "they are the same picture; each needs noise of its own"
    if min(first.shape) < SMALLEST:
        return None
    down, right = shift(first, second)
    if max(abs(down), abs(right)) > FAR:
        return f"the second is shifted by {down:+.0f} rows and {right:+.0f} columns; align them first"
    if shared_noise(first, second) > COMMON:
        return "they have the same noise; each needs noise of its own, as from two exposures"
    return None


def size_of(image):
    return f"{image.shape[1]} x {image.shape[2]}"


def middle(image, side=512):
    """The central part of a picture as grey floats (H, W)."""
    top, left = (max(0, (n - side) // 2) for n in image.shape[1:])
    return image[:, top : top + side, left : left + side].float().mean(0)


def shift(first, second):
    """(down, right): where the content of `first` is found in `second`, in whole pixels: the highest peak of the
    phase correlation, smoothed by a pixel for the noise; (0, 0) unless it stands out, as with little but noise it does
    not. (Kuglin & Hines 1975)"""
    spectra = [torch.fft.rfft2(windowed(image)) for image in (first, second)]
    cross = spectra[1] * spectra[0].conj()
    cross = cross / cross.abs().clamp_min(1e-9) * low_pass(first.shape)
    surface = torch.fft.irfft2(cross, s=first.shape)
    peak = divmod(int(surface.argmax()), first.shape[1])
    found = tuple(p - n if p > n // 2 else p for p, n in zip(peak, first.shape))
    clear = surface.max() > CLEAR[max(map(abs, found)) == 1] * surface.std()
    return found if clear else (0, 0)


def windowed(image):
    """Without its mean, faded out to the border, where a picture does not go on as the transform assumes."""
    rows, columns = (torch.hann_window(n, periodic=False) for n in image.shape)
    return (image - image.mean()) * rows.unsqueeze(1) * columns


def low_pass(shape):
    """A Gaussian over frequencies: rows as fft2, columns as rfft2 has them."""
    rows, columns = torch.fft.fftfreq(shape[0]), torch.fft.rfftfreq(shape[1])
    return (-20 * (rows.unsqueeze(1).square() + columns.square())).exp()


def shared_noise(first, second):
    """The correlation of the two pictures' finest detail in the flattest blocks, where it is noise: 0 for independent
    noise, 1 for the same. 0 when there is no noise in flat blocks."""
    details = [detail(image) for image in (first, second)]
    power = details[0].pow(2).mean((2, 3)) + details[1].pow(2).mean((2, 3))
    flattest = power.flatten().argsort()[: max(1, power.numel() // 10)]
    one, two = (blocks.flatten(2).flatten(0, 1)[flattest] for blocks in details)
    size = (one.pow(2).mean() * two.pow(2).mean()).sqrt()
    return float((one * two).mean() / size) if size > 1 else 0.0
