"""What is told of a training from noisy pairs alone: its time, the PSNR it gains, and what is held out for that."""

import math
import re

import pytest
import torch
from torch.nn import functional as F

from others import data
from others.model import Model
from others.training import estimates
from others.training.estimates import Errors


@pytest.mark.parametrize(
    "seconds, words",
    [(0, "1 s"), (0.2, "1 s"), (89.4, "89 s"), (90, "2 min"), (719, "12 min"), (5399, "90 min"), (5400, "1.5 h")],
)
def test_times_in_words(seconds, words):
    assert estimates.spoken(seconds) == words


@pytest.mark.parametrize("count, epochs, steps", [(64, 5, 10), (65, 5, 15), (1, 1, 1), (0, 3, 0)])
def test_the_number_of_steps(small, count, epochs, steps):
    assert estimates.steps(count, epochs, Model("prescribed", "cpu").recipe()._replace(batch_size=32)) == steps


@pytest.mark.parametrize("micro, workers, images", [(4, 1, [1, 4]), (32, 1, [1, 10]), (32, 3, [1, 4]), (3, 4, [1, 3])])
def test_the_time_of_a_step_is_that_of_its_micro_batches(small, pixels, monkeypatch, micro, workers, images):
    """A minibatch of 10 images, shared out, at 1 s an image."""
    clock, seen = [0.0], []

    def step(network, optimizer, first, second, *rest):
        seen.append(len(first))
        clock[0] += len(first)

    monkeypatch.setattr(estimates, "train_step", step)
    monkeypatch.setattr(estimates.time, "perf_counter", lambda: clock[0])
    model = Model("prescribed", "cpu")
    recipe = model.recipe()._replace(batch_size=10, micro_batch=micro)
    first, second = pixels(12, 3, 8, 8), pixels(12, 3, 8, 8, seed=1)
    found = estimates.step_seconds(model.network, first, second, recipe, workers=workers)
    assert seen == images and found == math.ceil(10 / workers)
    assert estimates.step_seconds(model.network, first[:0], second[:0], recipe) == 0


@pytest.mark.parametrize("name", ["prescribed", "rednet"])
def test_timing_a_step_changes_nothing(small, pixels, name):
    network = Model(name, "cpu").network
    for _, gradient in network.param():
        gradient.fill_(3.0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images, state = pixels(4, 3, 18, 18), torch.get_rng_state()
    kept = images.clone()
    modes = [module.training for module in network.modules()]
    with torch.no_grad():
        assert estimates.step_seconds(network, images, pixels(4, 3, 18, 18, seed=1), Model(name, "cpu").recipe()) > 0
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all((gradient == 3).all() for _, gradient in network.param())
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(images, kept)
    assert [module.training for module in network.modules()] == modes


# -------------------------------------------------------------------------------------------------------- the gain


def blurred(network, images):
    """A denoiser whose error has noise and lost detail."""
    return F.avg_pool2d(F.pad(images.float(), (1, 1, 1, 1), mode="replicate"), 3, 1)


def shown(sigmas, count=32, size=64, seed=0):
    """(clean, two noisy versions) of smooth pictures: pixels (count, 3, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 40 + 160 * torch.rand(count, 3, size // 8, size // 8, generator=generator)
    clean = F.interpolate(coarse, size=(size, size), mode="bilinear")
    return clean, *(clean + sigma * torch.randn(clean.shape, generator=generator) for sigma in sigmas)


@pytest.mark.parametrize("sigmas", [(10, 10), (25, 25), (15, 20), (20, 10)])
def test_the_error_against_clean_images_is_known_without_them(monkeypatch, sigmas):
    """Within 0.1 dB, with versions that are not equally noisy too, which is noticed."""
    monkeypatch.setattr(estimates, "denoise", blurred)
    clean, first, second = shown(sigmas)
    found = estimates.errors(None, first, second)
    truth = sum(float((blurred(None, version) - clean).square().mean()) for version in (first, second)) / 2 / 255**2
    assert abs(estimates.decibels(found.denoised) - estimates.decibels(truth)) < 0.1
    noise = sum(sigma**2 for sigma in sigmas) / 2 / 255**2
    assert abs(estimates.decibels(found.noisy) - estimates.decibels(noise)) < 0.05
    assert found.alike == (sigmas[0] == sigmas[1])


@pytest.mark.parametrize("case", ["equal", "restored", "few"])
def test_what_cannot_be_told_is_no_number(monkeypatch, case):
    """Without noise; where the denoised are the clean ones, up to what so many pixels tell."""
    clean, first, second = shown((20, 20), count=1 if case == "few" else 16, size=16)
    monkeypatch.setattr(estimates, "denoise", blurred if case == "equal" else lambda *_: clean)
    found = estimates.errors(None, first, first if case == "equal" else second)
    assert found.denoised is None
    told = Errors(1e-3, 1e-4, True)
    for pair in ((found, told), (told, found)):
        said = estimates.gained(*pair)
        assert said == "held-out patches: too little noise, or too few pixels, to tell what PSNR was gained"
    assert "after" not in estimates.figures(told, found) and estimates.figures(told, found)["before"] == 40


@pytest.mark.parametrize("alike, even", [(True, True), (False, True), (True, False)])
def test_what_was_gained_in_words(alike, even):
    said = estimates.gained(Errors(10**-2.41, 1e-3, True), Errors(10**-2.41, 10**-3.09, alike), even)
    about = "" if alike and even else "about "
    assert said == (
        f"held-out patches: noisy {about}24.10 dB, denoised {about}30.00 dB before this training, "
        f"{about}30.90 dB after (estimated from noisy pictures alone)"
    )
    same = estimates.gained(Errors(10**-2.41, 1e-3, True), Errors(10**-2.41, 0.999e-3, True))
    assert same.endswith("; the weights it started from are as good: more pairs or epochs may help")
    worse = estimates.gained(Errors(10**-2.41, 1e-3, True), Errors(10**-2.41, 1.1e-3, True))
    assert worse.endswith("; the weights it started from are better: train again, with a lower --lr or more pairs")
    assert re.search(r"[\d.]+ dB after", said)


# ---------------------------------------------------------------------------------------------------- what is held out


def scenes_of(count, height, width=40, shots=3):
    """Pictures whose pixels tell scene and row."""
    rows = torch.arange(height).view(1, -1, 1).expand(3, height, width)
    return [[rows + 1000 * scene] * shots for scene in range(count)]


@pytest.mark.parametrize("count, held", [(10, [9]), (11, [9]), (25, [9, 19])])
def test_of_many_scenes_every_tenth_is_held_out(count, held):
    scenes = scenes_of(count, 20)
    kept, measured = data.held_out(scenes, 16)
    assert [int(shots[0].min()) // 1000 for shots in measured] == held
    assert len(kept) == count - len(held) and all(shots is not other for shots in kept for other in measured)


@pytest.mark.parametrize(
    "height, size, strip", [(48, 16, 16), (47, 16, 0), (400, 16, 40), (20, 16, 0), (639, 64, 64), (640, 64, 64)]
)
def test_of_few_scenes_the_lowest_rows_are(height, size, strip):
    """A tenth, at least a patch, if two patches are left."""
    kept, measured = data.held_out(scenes_of(3, height), size)
    assert len(kept) == 3 and len(measured) == (3 if strip else 0)
    assert all(shot.shape[1] == height - strip for shots in kept for shot in shots)
    assert all(shot.shape[1] == strip for shots in measured for shot in shots)


@pytest.mark.parametrize("count", [3, 12])
def test_nothing_held_out_is_trained_on(count):
    kept, measured = data.held_out(scenes_of(count, 60), 16)
    patches = data.Patches(kept, count=200, size=16)
    trained = {int(value) for epoch in range(3) for version in patches(epoch) for value in version.unique()}
    held = {int(value) for version in data.side_by_side(measured, 16, 100) for value in version.unique()}
    assert held and trained and not held & trained


def test_patches_to_measure_with():
    """Side by side, each of two shots in turn, as many as asked for; nothing of nothing."""
    shots = [torch.arange(40 * 50.0).view(1, 40, 50).expand(3, -1, -1) + 10_000 * shot for shot in range(3)]
    first, second = data.side_by_side([shots], 16, 100)
    assert first.shape == second.shape == (6, 3, 16, 16) and first.dtype == torch.float32
    assert (first // 10_000).amax((1, 2, 3)).tolist() == [0, 1, 2, 0, 1, 2]
    assert (second // 10_000).amax((1, 2, 3)).tolist() == [1, 2, 0, 1, 2, 0]
    places = (first % 10_000).flatten()
    assert torch.equal(places, (second % 10_000).flatten()) and len(places.view(6, 3, -1)[:, 0].unique()) == 6 * 256
    assert len(data.side_by_side([shots], 16, 4)[0]) == 4
    assert data.side_by_side([], 16, 4) is None
