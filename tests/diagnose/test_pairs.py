"""Pairs of one's own: whether they show one scene, alike exposed, with noise of their own; what is cut from them."""

import io
from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

from others import data
from others.diagnose import belonging, pairs

PHOTOGRAPHS = ["astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass", "gravel",
               "hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"]  # fmt: skip


def photograph(name, side=160):
    """The centre of a photograph that comes with scikit-image, (3, side, side), enlarged where it is smaller."""
    photos = pytest.importorskip("skimage.data")
    image = torch.tensor(getattr(photos, name)()).float()
    image = image.permute(2, 0, 1)[:3] if image.dim() == 3 else image.expand(3, -1, -1)
    if min(image.shape[1:]) < side:
        image = F.interpolate(image[None], scale_factor=side / min(image.shape[1:]) + 0.01, mode="bilinear")[0]
    top, left = ((n - side) // 2 for n in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def gaussian(sigma, width=0.0):
    """Adds noise of that standard deviation, smoothed over so many pixels."""

    def add(clean, generator):
        noise = torch.randn(clean.shape, generator=generator)
        if width:
            reach = torch.arange(-9.0, 10)
            kernel = (-reach.square() / (2 * width**2)).exp()
            noise = F.conv2d(F.pad(noise[:, None], (9, 9, 9, 9), mode="circular"), kernel.view(1, 1, 1, -1))
            noise = F.conv2d(noise, kernel.view(1, 1, -1, 1))[:, 0]
        return (clean + sigma * noise / noise.std()).round().clamp(0, 255)

    return add


def poisson(photons):
    return lambda clean, generator: (
        (torch.poisson(clean * (photons / 255), generator=generator) * (255 / photons)).round().clamp(0, 255)
    )


def shots(clean, noise, seed=0, count=2):
    generator = torch.Generator().manual_seed(seed)
    return [noise(clean, generator) for _ in range(count)]


def recompressed(image, quality):
    image_module = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image_module.fromarray(image.to(torch.uint8).permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.frombuffer(bytearray(image_module.open(file).tobytes()), dtype=torch.uint8).view_as(
        image.permute(1, 2, 0)
    ).permute(2, 0, 1).float()  # fmt: skip


# ------------------------------------------------------------------------------------------------------- one scene


def test_of_272_ordered_pairs_of_different_photographs_none_passes():
    noisy = [shots(photograph(name, 192), gaussian(10), number) for number, name in enumerate(PHOTOGRAPHS)]
    found = [pairs.compare(noisy[i][0], noisy[j][1]).wrong for i, j in permutations(range(len(noisy)), 2)]
    assert len(found) == 272 and all(found)
    assert found.count(belonging.DIFFERENT) > 260


VIEWS = {
    "negative": (lambda image: 255 - image, "negative"),
    "left for right": (lambda image: image.flip(2), "mirrored or turned"),
    "upside down": (lambda image: image.flip(1), "mirrored or turned"),
    "turned by 180": (lambda image: image.flip(1, 2), "mirrored or turned"),
    "turned by 90": (lambda image: image.mT.flip(1), "mirrored or turned"),
    "black": (lambda image: 0 * image, belonging.DIFFERENT),
    "white": (lambda image: 0 * image + 255, belonging.DIFFERENT),
    "shifted": (lambda image: image.roll((-3, 5), (1, 2)), "shifted by -3 rows and +5 columns"),
}


@pytest.mark.parametrize("view", VIEWS)
def test_what_was_done_to_the_second_is_refused_and_said(view):
    change, said = VIEWS[view]
    for number, name in enumerate(PHOTOGRAPHS):
        first, second = shots(photograph(name), gaussian(10), number)
        wrong = pairs.compare(first, change(second)).wrong
        assert wrong, name
        assert said in wrong or name in ("brick", "cell", "moon")  # periodic, or little but noise: for another reason


def plain_scenes(height=128, width=160):
    """{name: (3, H, W)}: walls, skies, what little is to be seen on them."""
    down, right = torch.arange(height).view(-1, 1) / height, torch.arange(width) / width
    flat, blue = torch.ones(3, height, width), torch.tensor([90.0, 130, 200]).view(3, 1, 1)
    scenes = {f"wall {value}": value * flat for value in (8, 60, 128, 200, 250)}
    scenes |= {"sky": blue + 40 * down + 0 * right, "pale sky": 150 + 3 * down + 2 * right + 0 * flat}
    scenes["vignette"] = 170 - 60 * ((down - 0.5) ** 2 + (right - 0.5) ** 2) + 0 * flat
    scenes["horizon"] = 120 + 6 * (down > 0.5) + 0 * right + 0 * flat
    scenes["too bright"] = 240 + 15 * (right > 0.5) + 0 * down + 0 * flat
    scenes["switch"] = 120 * flat
    scenes["switch"][:, 40:48, 40:60] = 140
    return scenes


NOISES = [gaussian(sigma) for sigma in (1, 5, 15, 25, 50)] + [poisson(5), poisson(30)]
SMOOTH = [gaussian(sigma, width) for sigma, width in ((5, 1), (10, 1), (10, 2), (20, 1.5), (5, 3))]


def test_walls_and_skies_are_never_refused():
    """Little but noise is to be seen: it cannot be told, and that is said. 132 pairs."""
    unknown = 0
    for seed, clean in enumerate(plain_scenes().values()):
        for noise in NOISES + SMOOTH:
            found = pairs.compare(*shots(clean, noise, seed))
            assert not found.wrong
            unknown += found.unknown == pairs.SCENE
    assert unknown > 90


def test_walls_of_different_brightness_are_refused():
    for noise in (gaussian(5), gaussian(25), gaussian(10, 2)):
        first, second = shots(plain_scenes()["wall 128"], noise)
        assert "exposed differently (1.00 times the first, +20)" in pairs.compare(first, second + 20).wrong
        assert pairs.compare(first, second + 20).wrong.endswith("expose both alike, if they show one scene")


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_two_shots_of_a_photograph_are_not_refused(name):
    clean = photograph(name)
    for noise in [*NOISES[1:4], *SMOOTH[:3]]:
        assert not pairs.compare(*shots(clean, noise, 1)).wrong


def test_small_pictures_cannot_be_told():
    first, second = (torch.rand(3, 63, 90) * 255 for _ in range(2))
    assert pairs.compare(first, second) == pairs.Finding("", pairs.SCENE, belonging.Relation())


# -------------------------------------------------------------------------------------------------------- exposure


@pytest.mark.parametrize("gain, offset", [(0.5, 0), (0.7, 12), (1.0, 40)])
def test_other_exposure_is_recognised_and_corrected(gain, offset):
    clean = 20 + photograph("chelsea") * 0.7  # neither black nor white at any exposure
    first, second = shots(clean, gaussian(8))
    changed = (gain * second + offset).round()
    found = pairs.compare(first, changed)
    assert not found.wrong and not found.unknown
    assert found.relation.gain == pytest.approx(gain, abs=0.02)
    assert found.relation.offset == pytest.approx(offset, abs=2)
    (one, two, three), scene = pairs.check_scene([first, changed, second])
    assert torch.equal(one, first) and torch.equal(three, second) and scene.relation == found.relation
    assert (two - second).abs().mean() < 1.5 and abs(float((two - second).mean())) < 0.5


def test_exposure_that_cannot_be_undone_is_refused():
    """White beyond 255, and tones that a factor and an offset do not undo."""
    first, second = shots(photograph("coffee"), gaussian(8))
    for changed in ((2.5 * second).clamp(0, 255), 255 * (second / 255) ** 0.4):
        assert "cannot be corrected" in pairs.compare(first, changed).wrong


def test_corrected_shots_and_others_are_cut_into_one_batch():
    scenes = [
        [torch.zeros(3, 9, 9, dtype=torch.uint8)] * 2,
        [torch.zeros(3, 9, 9), torch.zeros(3, 9, 9).to(torch.uint8)],
    ]
    assert data.Patches(scenes, 20, 4)(0)[0].shape == (20, 3, 4, 4)


# ----------------------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("name", ["grass", "gravel", "brick", "hubble_deep_field"])
def test_weak_noise_on_texture_is_not_called_the_same(name):
    """Two exposures have texture in common as well: nothing, or that it cannot be told."""
    clean = photograph(name, 256)
    noises = [gaussian(sigma, width) for sigma in (1, 2, 5) for width in (0, 0.7, 1, 2)] + [poisson(300)]
    for seed, noise in enumerate(noises):
        found = pairs.compare(*shots(clean, noise, seed))
        assert not found.wrong and found.unknown in ("", pairs.NOISE)


def copies(clean):
    """{name: (first, second)} with equal noise."""
    generator = torch.Generator().manual_seed(0)
    noise, *own = (torch.randn(clean.shape, generator=generator) for _ in range(3))
    first = (clean + 25 * noise).round().clamp(0, 255)
    yield "more noise in one", first, (first + 3 * own[0]).round().clamp(0, 255)
    yield "compressed", first, recompressed(first, 95)
    yield "compressed more", first, recompressed(first, 75)
    yield "other exposure", first, 0.7 * first + 10
    yield "most of it", *(clean + 25 * (0.9**0.5 * noise + 0.1**0.5 * each) for each in own)


@pytest.mark.parametrize("name", ["astronaut", "camera", "chelsea", "coffee", "wall"])
def test_equal_noise_is_found(name):
    clean = plain_scenes()["wall 128"] if name == "wall" else photograph(name, 256)
    for kind, first, second in copies(clean):
        assert "same noise" in pairs.compare(first, second).wrong, kind
        first, second = shots(clean, gaussian(25))
        assert not pairs.compare(first, second).wrong
        assert pairs.compare(first, first.clone()).wrong.startswith("they are the same picture")


# ---------------------------------------------------------------------------------------------------------- scenes


def test_shots_are_grouped_by_what_they_show():
    names = ("astronaut", "astronaut", "coffee", "camera", "camera", "camera")
    taken = [shots(photograph(name, 96), gaussian(10), seed, 1)[0] for seed, name in enumerate(names)]
    assert pairs.groups(taken) == [[0, 1], [2], [3, 4, 5]]
    assert pairs.groups([*taken[:1], taken[1][:, :, :80]]) == [[0], [1]]
    wall = shots(plain_scenes()["wall 60"], gaussian(10), count=3)
    assert pairs.groups(wall) == [[0, 1, 2]]  # nothing speaks against their names


def test_every_shot_is_compared(monkeypatch):
    taken = shots(photograph("chelsea", 96), gaussian(10), count=8)
    assert not pairs.check_scene(taken)[1].wrong
    for wrong in range(1, 8):
        changed = [*taken[:wrong], taken[wrong].flip(2), *taken[wrong + 1 :]]
        assert "mirrored" in pairs.check_scene(changed)[1].wrong


@pytest.mark.parametrize(
    "sides, wanted, side", [([256, 256, 4], 64, 64), ([256, 4], 64, 64), ([32, 32], 64, 32), ([50, 60, 300], 64, 60)]
)
def test_one_strip_does_not_make_all_patches_small(sides, wanted, side):
    assert pairs.patch_side([[torch.zeros(3, n, 300)] * 2 for n in sides], wanted) == side
