"""Model: the fixed interface, and every mistake of earlier submissions that can be made behind it."""

import copy
import inspect
import pickle
import random
import re
import shutil
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from Miniproject_2 import model as model_module
from Miniproject_2.model import SGD, Model
from others import data, denoiser, denoiser_bonus, inference, training
from others.evaluation import metrics
from others.model import FINE_TUNING, has_bf16_products
from others.storage import networks
from others.storage.checkpoint import CheckpointError
from others.training import loop
from others.training.run import Diverged

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("prescribed", "rednet")
each = pytest.mark.parametrize("name", NAMES)
CLOSE = {"rtol": 1e-5, "atol": 1e-3}  # of 0-255


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.network.named_parameters()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def train(model, *arguments, **options):
    return model.train(*arguments, **{"progress": False, **options})


@pytest.fixture
def pairs(pixels):
    return pixels(6, 3, 8, 8), pixels(6, 3, 8, 8, seed=1)


def variants(images):
    """The same uint8 pixels in other dtypes and memory layouts."""
    n, c, h, w = images.shape
    wide = torch.zeros(2 * n, c, h + 3, w + 5)
    wide[::2, :, 2:-1, 1:-4] = images.float()
    return {
        "float32": images.float(),
        "float64": images.double(),
        "float16": images.half(),
        "bfloat16": images.bfloat16(),
        "requires grad": images.float().requires_grad_(),
        "channels last": images.to(memory_format=torch.channels_last),
        "channels last float": images.float().to(memory_format=torch.channels_last),
        "transposed": images.transpose(2, 3).contiguous().transpose(2, 3),
        "sliced": wide[::2, :, 2:-1, 1:-4],
        "list of channels": torch.stack(images.float().unbind(1), 1),
    }


VARIANTS = tuple(variants(torch.zeros(1, 3, 1, 1, dtype=torch.uint8)))

# ------------------------------------------------------------------------------------------------------- predict


@each
@pytest.mark.parametrize("variant", VARIANTS)
def test_predict_takes_any_dtype_and_layout_and_leaves_it_alone(small, pixels, name, variant):
    images = pixels(3, 3, 9, 8)
    model, other = Model(name), variants(images)[variant]
    before, version = other.detach().clone(), other._version
    output = model.predict(other)
    assert torch.equal(output, model.predict(images))
    assert torch.equal(other.detach(), before) and other._version == version
    assert output.dtype == torch.float32 and output.is_contiguous()
    assert output.shape == images.shape and output.device == images.device
    assert not output.requires_grad and output.grad_fn is None and other.grad is None


@each
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (31, 33), (5, 64), (512, 512)], ids=str)
def test_untrained_prediction_of_any_size(small, name, size):
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 255
    output = Model(name).predict(images)
    assert output.shape == images.shape
    assert output.is_floating_point() and output.isfinite().all()
    assert output.min() >= 0 and output.max() <= 255


def test_the_graders_prediction_with_the_real_network():
    output = Model().predict(torch.rand(1, 3, 512, 512) * 255)
    assert output.shape == (1, 3, 512, 512)
    assert output.min() >= 0 and output.max() <= 255


@each
@pytest.mark.filterwarnings("ignore:Model.predict. expected values in 0-255, got 990 to 990")
def test_range_holds_for_wild_weights_and_pixels(small, pixels, name):
    model = Model(name)
    for parameter in model.network.parameters():
        parameter.mul_(30)
    for images in (pixels(2, 3, 8, 8), torch.full((1, 3, 8, 8), 990.0), torch.full((1, 3, 8, 8), -300.0)):
        output = model.predict(images)
        assert output.isfinite().all() and output.min() >= 0 and output.max() <= 255


@each
@pytest.mark.parametrize("shape", [(0, 3, 32, 32), (1, 3, 32, 32)])
def test_empty_and_single_batches(small, name, shape):
    output = Model(name).predict(torch.zeros(shape, dtype=torch.uint8))
    assert output.shape == shape and output.dtype == torch.float32


@each
def test_every_split_of_a_batch_gives_the_same(small, pixels, name):
    model, images = Model(name), pixels(120, 3, 32, 32)  # more than are computed at once
    whole = model.predict(images)
    for size in (1, 7, 100):
        parts = torch.cat([model.predict(part) for part in images[:14].split(size)])
        torch.testing.assert_close(parts, whole[:14], **CLOSE)
    torch.testing.assert_close(model.predict(images[105:]), whole[105:], **CLOSE)


@each
def test_predict_repeats_and_changes_nothing(small, pixels, name):
    model, images = Model(name), pixels(2, 3, 8, 8)
    before = weights(model)
    assert torch.equal(model.predict(images), model.predict(images))
    assert same(before, weights(model))
    assert not torch.equal(model.predict(images)[0], model.predict(images)[1])


SCALE = (torch.arange(384) * 65535 // 383).view(2, 3, 8, 8)
WRONG_IMAGES = {
    "a list": ([[1.0]], TypeError, ["tensor (N, 3, H, W)", "got list"]),
    "None": (None, TypeError, ["tensor (N, 3, H, W)", "got NoneType"]),
    "an image without batch": (torch.zeros(3, 8, 8), ValueError, ["(N, 3, H, W)", "got (3, 8, 8)"]),
    "five dimensions": (torch.zeros(1, 1, 3, 8, 8), ValueError, ["(N, 3, H, W)", "got (1, 1, 3, 8, 8)"]),
    "grey": (torch.zeros(2, 1, 8, 8), ValueError, ["(N, 3, H, W)", "got (2, 1, 8, 8)"]),
    "channels at the end": (torch.zeros(2, 8, 8, 3), ValueError, ["(N, 3, H, W)", "got (2, 8, 8, 3)"]),
    "no pixels": (torch.zeros(2, 3, 8, 0), ValueError, ["(N, 3, H, W)", "got (2, 3, 8, 0)"]),
    "bool": (torch.zeros(2, 3, 8, 8).bool(), TypeError, ["uint8 or floating point", "got torch.bool"]),
    "NaN": (torch.full((2, 3, 8, 8), torch.nan), ValueError, ["finite values in 0-255", "got NaN"]),
    "infinity": (torch.full((2, 3, 8, 8), torch.inf), ValueError, ["finite values in 0-255", "infinity"]),
    "images without pixels": (torch.zeros(2, 3, 0, 8), ValueError, ["(N, 3, H, W)", "got (2, 3, 0, 8)"]),
    "grey, what to do": (torch.zeros(2, 1, 8, 8), ValueError, ["images.expand(-1, 3, -1, -1)"]),
    "alpha, what to do": (torch.zeros(2, 4, 8, 8), ValueError, ["got (2, 4, 8, 8)", "images[:, :3]"]),
    "channels last, what to do": (torch.zeros(2, 8, 8, 3), ValueError, ["images.permute(0, 3, 1, 2)"]),
    "no batch, what to do": (torch.zeros(3, 8, 8), ValueError, ["images.unsqueeze(0)"]),
    "uint16": (SCALE.to(torch.uint16), ValueError, ["got 0 to 65535", "images.float() * (255 / 65535)"]),
    "int32": (SCALE.int(), ValueError, ["got 0 to 65535", "images.float() * (255 / 65535)"]),
    "float 0-65535": (SCALE.float(), ValueError, ["got 0 to 65535", "images.float() * (255 / 65535)"]),
    "float 0-4095": (SCALE / 16.1, ValueError, ["got 0 to 4070.5", "images.float() * (255 / 4095)"]),
    "negative integers": (-SCALE // 10**4, ValueError, ["got -7 to 0; clamp(0, 255)"]),
    "what overflows": (torch.full((2, 3, 8, 8), 3e38), ValueError, ["values in 0-255", "got 3e+38 to 3e+38"]),
    "what float32 lacks": (
        torch.full((2, 3, 8, 8), -1e300, dtype=torch.float64),
        ValueError,
        ["values in 0-255", "got -1e+300"],
    ),
}
wrong_images = pytest.mark.parametrize("images, error, parts", WRONG_IMAGES.values(), ids=WRONG_IMAGES)


@wrong_images
def test_predict_says_what_it_expected_and_what_came(small, images, error, parts):
    with pytest.raises(error) as raised:
        Model().predict(images)
    assert all(part in str(raised.value) for part in ["Model.predict: expected", *parts])


NO_SCALE = {
    "the graders'": lambda: torch.rand(1, 3, 512, 512) * 255,
    "uint8": lambda: torch.randint(0, 256, (4, 3, 9, 9), dtype=torch.uint8),
    "dark uint8": lambda: torch.randint(0, 2, (4, 3, 9, 9), dtype=torch.uint8),
    "float 0-255": lambda: torch.randint(0, 256, (4, 3, 9, 9)).float(),
    "noise beyond": lambda: torch.rand(4, 3, 9, 9) * 255 + 40 * torch.randn(4, 3, 9, 9),
    "dark": lambda: torch.rand(4, 3, 9, 9) * 3,
    "black": lambda: torch.zeros(4, 3, 9, 9),
    "long": lambda: torch.randint(0, 256, (4, 3, 9, 9)),
    "dark uint16": lambda: torch.randint(0, 256, (4, 3, 9, 9)).to(torch.uint16),
}  # fmt: skip


@pytest.mark.parametrize("make", NO_SCALE.values(), ids=NO_SCALE)
def test_pixels_are_taken_without_a_word(small, make):
    images, model = make(), Model("prescribed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output = model.predict(images, self_ensemble=len(images) > 1)
        if len(images) > 1:
            train(model, images, images, 1, validation=(images, images))
    assert output.shape == images.shape and output.isfinite().all()


@pytest.mark.parametrize("wrong, got", [(3, "3"), ((torch.zeros(1, 3, 8, 8),), "1 of them")], ids=["number", "one"])
def test_a_validation_that_is_no_pair_is_refused(wrong, got):
    images = torch.zeros(1, 3, 8, 8)
    with pytest.raises(TypeError, match=rf"Model\.train: expected validation to be a pair \(noisy, clean\), got {got}"):
        train(Model("prescribed"), images, images, 1, validation=wrong)


@pytest.mark.parametrize("name", ["prescribed", "camera"])
def test_autocast_around_it_changes_nothing(name):
    images = torch.randint(256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    outputs = []
    for enabled in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Model(name, device="cpu", precision="fp32")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            train(model, *images, 1)
            outputs.append(model.predict(images[0]))
            assert torch.is_autocast_enabled("cpu") == enabled
    assert torch.equal(*outputs)


MAYBE = {
    "float 0-1": (lambda: torch.rand(2, 3, 8, 8), "multiply by 255 if they are images in 0-1"),
    "noise added to float 0-1": (lambda: torch.rand(2, 3, 8, 8) * 1.6, "multiply by 255 if they are images in 0-1"),
    "normalised": (lambda: torch.randn(2, 3, 8, 8), "or undo normalising"),
    "mean subtracted": (lambda: torch.rand(2, 3, 8, 8) * 255 - 127.5, "if a mean was subtracted, add it"),
    "twice white": (lambda: torch.rand(2, 3, 8, 8) * 900, "scale them if it is not noise"),
}


@pytest.mark.parametrize("make, advice", MAYBE.values(), ids=MAYBE)
def test_what_may_be_another_scale_is_said_and_done(small, make, advice):
    images, model = make(), Model("prescribed")
    with pytest.warns(UserWarning, match=rf"Model\.predict: expected values in 0-255, .*{advice}"):
        output = model.predict(images)
    assert torch.equal(output, inference.denoise(model.network, images))  # as the pixels that they are
    with pytest.warns(UserWarning, match=rf"Model\.train, second of the pair: expected values in 0-255, .*{advice}"):
        train(model, images.mul(0).byte(), images, 1)
    with (pytest.warns(UserWarning, match=rf"Model\.train, validation, first of the pair: .*{advice}"),
          pytest.warns(UserWarning, match=rf"Model\.train, validation, second of the pair: .*{advice}")):  # fmt: skip
        train(model, *[images.mul(0).byte()] * 2, 1, validation=[images] * 2)


def test_uint16_is_turned_as_uint8(small, pixels):
    """torch turns no tensor of that type."""
    model, images = Model(), pixels(2, 3, 9, 8)
    deep = images.to(torch.uint16)
    assert torch.equal(model.predict(deep, self_ensemble=True), model.predict(images, self_ensemble=True))
    twin = copy.deepcopy(model)
    train(model, images, images, 1, validation=(images, images))
    train(twin, deep, deep, 1, validation=(deep, deep))
    assert same(weights(model), weights(twin))


@each
@pytest.mark.parametrize("value", [1e30, 1e38, torch.nan], ids=str)
def test_numbers_that_overflow_are_no_pictures(small, pixels, name, value):
    model = Model(name)
    for parameter in model.network.parameters():
        parameter.mul_(value)
    for images, options in ((pixels(2, 3, 8, 8), {}), (pixels(1, 3, 400, 400), {"self_ensemble": True})):
        with pytest.raises(RuntimeError, match="expected finite numbers from the network, got NaN or infinity"):
            model.predict(images, **options)


# --------------------------------------------------------------------------------------------------------- train


@each
@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("optimizer", ["SGD", "Muon"])
def test_a_rate_that_overflows_is_an_error(small, pairs, name, epochs, optimizer):
    """Also after a single step, whose loss was finite; the network keeps the weights that it had."""
    model = Model(name)
    before, recipe = weights(model), model.recipe()._replace(lr=1e30, optimizer=optimizer)
    for validation in (None, pairs):
        with pytest.raises(Diverged, match="Train with a lower rate"):
            train(model, *pairs, epochs, recipe=recipe, validation=validation)
        assert same(weights(model), before)


def test_validation_that_overflows_gives_the_training_up(small, pairs, monkeypatch):
    """Weights below the limit, of many layers."""
    model, found = Model("rednet"), {}
    step = training.train_step

    def train_step(network, *rest):
        found["loss"] = step(network, *rest)
        for parameter in network.parameters():
            parameter.fill_(9e5)
        network.forward = lambda x: x * torch.inf
        return found["loss"]

    monkeypatch.setattr(loop, "train_step", train_step)
    with pytest.raises(Diverged, match="expected finite numbers from the network"):
        train(model, *pairs, 1, validation=pairs)


@each
@pytest.mark.parametrize("variant", VARIANTS)
def test_train_takes_any_dtype_and_layout_and_leaves_it_alone(small, pairs, name, variant):
    models = Model(name), Model(name)
    models[1].network.load_state_dict(models[0].network.state_dict())
    others = [variants(version)[variant] for version in pairs]
    before = [(other.detach().clone(), other._version) for other in others]
    untrained = weights(models[0])
    train(models[0], *pairs, 2)
    train(models[1], *others, 2)
    assert not same(weights(models[0]), untrained)
    if variant != "bfloat16":  # has not all of 0-255
        assert same(weights(models[0]), weights(models[1]))
    for other, (copied, version) in zip(others, before):
        assert torch.equal(other.detach(), copied) and other._version == version and other.grad is None


@each
def test_train_changes_every_weight_and_returns_records(small, pairs, name):
    with torch.random.fork_rng():
        torch.manual_seed(1)  # an initialisation in which every layer learns
        model = Model(name)
    before = weights(model)
    records = train(model, *pairs, 3)
    after = weights(model)
    assert [record.epoch for record in records] == [1, 2, 3]
    assert all(not torch.equal(before[key], after[key]) for key in before)
    assert all(value.isfinite().all() and not value.requires_grad for value in after.values())


@each
def test_train_twice_goes_on_from_where_it_was(small, pairs, name):
    model = Model(name)
    first = train(model, *pairs, 1)
    between = weights(model)
    second = train(model, *pairs, 1)
    assert not same(between, weights(model))
    assert len(first) == len(second) == 1


@each
def test_no_epochs_change_nothing(small, pairs, name):
    model = Model(name)
    before = weights(model)
    assert train(model, *pairs, 0) == []
    assert same(before, weights(model))


@each
@pytest.mark.parametrize("count, sizes", [(1, [1]), (2, [2]), (4, [4]), (5, [4, 1]), (11, [4, 4, 3])])
def test_every_batch_is_used_the_last_short_one_too(small, pixels, monkeypatch, name, count, sizes):
    seen, step = [], training.train_step
    monkeypatch.setattr(loop, "train_step", lambda n, o, x, *rest: (seen.append(len(x)), step(n, o, x, *rest))[1])
    model = Model(name)
    before = weights(model)
    recipe = model.recipe()._replace(batch_size=4)
    train(model, pixels(count, 3, 8, 8), pixels(count, 3, 8, 8, seed=1), 1, recipe=recipe)
    assert seen == sizes
    assert not same(before, weights(model))


@each
def test_the_short_batch_counts(small, pairs, name):
    """Other pixels in one image of five, whatever batch it falls into, give other weights."""
    results = []
    for changed in (None, 0, 1, 2, 3, 4):
        noisy = pairs[0][:5].clone()
        if changed is not None:
            noisy[changed] = 255 - noisy[changed]
        model = Model(name)
        train(model, noisy, pairs[1][:5], 1, recipe=model.recipe()._replace(batch_size=2))
        results.append(weights(model))
    assert not any(same(first, second) for i, first in enumerate(results) for second in results[:i])


@each
def test_train_on_no_pairs_changes_nothing(small, name):
    model = Model(name)
    before = weights(model)
    train(model, torch.empty(0, 3, 32, 32), torch.empty(0, 3, 32, 32), 1)
    assert same(before, weights(model))


@each
@pytest.mark.parametrize("size", [(1, 1), (31, 33), (5, 64)], ids=str)
def test_train_on_any_size(small, pixels, name, size):
    model = Model(name)
    before = weights(model)
    (record,) = train(model, pixels(3, 3, *size), pixels(3, 3, *size, seed=1), 1)
    assert 0 < record.loss < 1
    assert not same(before, weights(model))
    assert model.predict(pixels(1, 3, *size)).isfinite().all()


@each
def test_training_repeats_bit_by_bit(small, pairs, name):
    models = [Model(name) for _ in range(2)]
    models[1].network.load_state_dict(models[0].network.state_dict())
    for noise, model in enumerate(models):
        torch.manual_seed(noise)
        train(model, *pairs, 2, recipe=model.recipe()._replace(batch_size=4))
    assert same(*map(weights, models))


def test_validation_is_measured_after_each_epoch(small, pairs, pixels):
    model, (noisy, clean) = Model(), (pixels(4, 3, 9, 7), pixels(4, 3, 9, 7, seed=1))
    recipe = model.recipe()._replace(batch_size=2)
    first, second = train(model, *pairs, 2, validation=(noisy, clean.float()), recipe=recipe)
    assert first.psnr != second.psnr
    expected = metrics.psnr_a(model.predict(noisy) / 255, clean / 255)
    assert second.psnr == pytest.approx(expected, abs=1e-5)
    assert train(model, *pairs, 1)[0].psnr is None


def test_progress(small, pairs, capsys):
    model, seen = Model(), []
    model.train(*pairs, 2, progress=seen.append)
    assert [record.epoch for record in seen] == [1, 2]
    model.train(*pairs, 1, progress=False)
    assert capsys.readouterr().out == ""
    for shown in (None, True):
        (record,) = model.train(*pairs, 1, progress=shown)
        assert str(record) in capsys.readouterr().out
    before = weights(model)
    with pytest.raises(
        TypeError, match=r"Model\.train: expected progress to be a function, True, False or None, got 3"
    ):
        model.train(*pairs, 1, progress=3)
    assert same(before, weights(model))
    assert torch.equal(model.predict(pairs[0], on_tile=True), model.predict(pairs[0]))


@wrong_images
@pytest.mark.parametrize("place", [0, 1], ids=["input", "target"])
def test_train_says_what_it_expected_and_what_came(small, images, error, parts, place):
    model, pair = Model(), [torch.zeros(2, 3, 8, 8)] * 2
    before, pair[place] = weights(model), images
    with pytest.raises(error) as raised:
        train(model, *pair, 1)
    start = f"Model.train, {('first', 'second')[place]} of the pair: expected"
    assert all(part in str(raised.value) for part in [start, *parts])
    assert same(before, weights(model))


@pytest.mark.parametrize("shape", [(3, 3, 8, 8), (2, 3, 8, 9)])
def test_train_refuses_unequal_pairs(small, shape):
    with pytest.raises(
        ValueError, match=re.escape(f"Model.train: the two versions have different shapes, (2, 3, 8, 8) and {shape}")
    ):
        train(Model(), torch.zeros(2, 3, 8, 8), torch.zeros(shape), 1)
    with pytest.raises(ValueError, match=r"Model\.train, validation: the two versions have different shapes"):
        train(Model(), *[torch.zeros(2, 3, 8, 8)] * 2, 1, validation=(torch.zeros(2, 3, 8, 8), torch.zeros(shape)))


@pytest.mark.parametrize("epochs", [-1, 1.5, "3", None, True, torch.tensor(1.5), torch.ones(2)])
def test_train_refuses_other_numbers_of_epochs(small, pairs, epochs):
    model = Model()
    before = weights(model)
    with pytest.raises(ValueError, match=re.escape(f"expected num_epochs to be an integer >= 0, got {epochs!r}")):
        train(model, *pairs, epochs)
    assert same(before, weights(model))


def test_numbers_of_other_libraries_train_and_resume_as_pythons_own(small, pairs, tmp_path):
    """numpy's go into no checkpoint."""
    numpy, found = pytest.importorskip("numpy"), []
    double = partial(torch.tensor, dtype=torch.float64)
    for kind, whole in ((float, int), (numpy.float64, numpy.int64), (double, torch.tensor)):
        recipe = training.Recipe(*map(kind, (2.0, 0.9, 0.02)), *map(whole, (4, 3, 5)))
        model = Model("prescribed")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model._build(**model.network.arguments)
        train(model, *pairs, whole(2), recipe=recipe, checkpoint=tmp_path / "state")
        found.append(weights(model))
        assert train(model, *pairs, 2, recipe=recipe, checkpoint=tmp_path / "state") == []  # finished
        (tmp_path / "state").unlink()
    assert same(found[0], found[1]) and same(found[0], found[2])


@pytest.mark.parametrize("recipe", [
    (2.0, 0.9), training.Recipe(lr="much"), training.Recipe(batch_size=2.5), training.Recipe(seed=None),
], ids=str)  # fmt: skip
def test_train_refuses_other_recipes(small, pairs, recipe):
    message = f"Model.train: expected a training.Recipe of numbers, got {recipe!r}"
    with pytest.raises(TypeError, match=re.escape(message)):
        train(Model("prescribed"), *pairs, 1, recipe=recipe)


@pytest.mark.parametrize("change", [
    {"clip": -1.0}, {"clip": 0.0}, {"clip": float("nan")}, {"batch_size": 0}, {"batch_size": -1}, {"micro_batch": 0},
], ids=str)  # fmt: skip
def test_train_refuses_numbers_that_are_too_small(small, pairs, change):
    model = Model("prescribed")
    before = weights(model)
    with pytest.raises(ValueError, match="expected a recipe's clip > 0, batch_size and micro_batch >= 1, got Recipe"):
        train(model, *pairs, 1, recipe=model.recipe()._replace(**change))
    assert same(before, weights(model))


def test_train_refuses_other_optimizers(small, pairs):
    model = Model("prescribed")
    before = weights(model)
    with pytest.raises(ValueError, match="expected optimizer to be SGD or Muon, got 'Adam'"):
        train(model, *pairs, 1, recipe=model.recipe()._replace(optimizer="Adam"))
    assert same(before, weights(model))


@each
def test_bf16(small, pairs, name):
    full, half = Model(name), Model(name, precision="bf16")
    half.network.load_state_dict(full.network.state_dict())
    assert (full.predict(pairs[0]) - half.predict(pairs[0])).abs().max() < 4
    before = weights(half)
    train(half, *pairs, 1)
    after = weights(half)
    assert not same(before, after) and all(value.dtype == torch.float32 for value in after.values())


# -------------------------------------------------------------------------------------------------- global state


def state():
    """Everything of torch's and Python's that a library could change behind its user's back."""
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.mkldnn.deterministic,
        torch.get_float32_matmul_precision(),
    )


MODES = {
    "grad": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


@each
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_every_gradient_mode_gives_the_same_and_is_left_alone(small, pairs, tmp_path, name, mode):
    reference = Model(name)
    networks.save(tmp_path / "w.pth", name, reference.network, {})
    reference.load_pretrained_model(tmp_path / "w.pth")
    train(reference, *pairs, 1)
    with mode():
        before = state()
        model = Model(name)
        model.load_pretrained_model(tmp_path / "w.pth")
        inside = [version.float() for version in pairs]  # inference tensors, in that mode
        train(model, *inside, 1)
        output = model.predict(inside[0])
        assert state() == before
    assert same(weights(model), weights(reference))
    assert torch.equal(output, reference.predict(pairs[0]))
    assert not output.requires_grad and output.grad_fn is None
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert torch.equal(model.predict(inside[0]), output)
    train(model, *inside, 1)
    train(reference, *pairs, 1)
    assert same(weights(model), weights(reference))


@each
def test_another_default_dtype(small, pairs, name):
    reference = Model(name)
    torch.set_default_dtype(torch.float64)
    try:
        before = state()
        model = Model(name)
        model.network.load_state_dict(reference.network.state_dict())
        train(model, *pairs, 2, validation=pairs)
        output = model.predict(pairs[0].double())
        assert state() == before
    finally:
        torch.set_default_dtype(torch.float32)
    assert output.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in weights(model).values())
    train(reference, *pairs, 2)
    for key, value in weights(reference).items():
        torch.testing.assert_close(weights(model)[key], value)


def test_nothing_global_changes_from_import_to_prediction(run_python):
    script = f"""
import random, sys, torch
torch.set_num_threads(1)
torch.manual_seed(3)
random.seed(3)
path, modules = list(sys.path), set(sys.modules)
{inspect.getsource(state)}
before = state()
from Miniproject_2.model import Model
assert state() == before, "import"
assert sys.path == path
for name in {NAMES}:
    model = Model(name)
    assert state() == before, "Model"
    images = torch.arange(3 * 64).view(1, 3, 8, 8).float()
    before = state()
    model.train(images, images, 1, validation=(images, images))
    assert state() == before, "train"
    model.predict(images)
    assert state() == before, "predict"
print("unchanged")
"""
    assert run_python(script, ROOT).endswith("unchanged\n")


@each
def test_models_are_independent(small, pairs, name):
    first, second = Model(name), Model(name)
    tensors = [{t.data_ptr() for pair in model.network.param() for t in pair} for model in (first, second)]
    assert not tensors[0] & tensors[1]
    before, images = weights(second), pairs[0]
    output = second.predict(images)
    train(first, *pairs, 1)
    assert same(before, weights(second)) and torch.equal(second.predict(images), output)


@each
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_independent_models(small, pairs, name, copied):
    model = Model(name)
    before = weights(model)
    twin = copied(model)
    assert torch.equal(twin.predict(pairs[0]), model.predict(pairs[0]))
    train(twin, *pairs, 1)
    assert same(weights(model), before) and not same(weights(twin), before)
    train(model, *pairs, 1)
    assert same(weights(model), weights(twin))


# ------------------------------------------------------------------------------------------------- construction


def test_without_arguments_it_is_the_prescribed_network():
    assert isinstance(Model().network, denoiser.Denoiser)
    assert list(weights(Model())) == [f"{layer}.{kind}" for layer in (0, 2, 4, 6) for kind in ("weight", "bias")]


@pytest.mark.parametrize("name, module", list(zip(NAMES, (denoiser, denoiser_bonus))))
def test_names_select_the_network(name, module):
    assert isinstance(Model(name).network, module.Denoiser)
    assert isinstance(Model(denoiser=name, device="cpu").network, module.Denoiser)


@pytest.mark.parametrize("name", ["unet", "", 3])
def test_unknown_networks_are_refused_with_the_known_ones(name):
    with pytest.raises(
        ValueError, match=f"expected denoiser to be one of 'prescribed', 'rednet', 'camera', got {name!r}"
    ):
        Model(name)


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="expected precision to be one of fp32, bf16, got 'fp8'"):
        Model(precision="fp8")


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99", torch.device("meta"), ""])
def test_a_device_that_cannot_compute_is_refused(device):
    said = re.escape(f"Model: expected a device that torch can compute on here, got {device!r} (")
    with pytest.raises(ValueError, match=said):
        Model(device=device)


def test_device_argument(small, pixels):
    for device in ("cpu", torch.device("cpu"), None):
        model = Model(device=device)
        if device is not None:
            assert {p.device.type for p in model.network.parameters()} == {"cpu"}
        assert model.predict(pixels(1, 3, 8, 8)).device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@each
def test_gpu(small, pairs, tmp_path, name):
    model, cpu = Model(name), Model(name, device="cpu")
    assert {p.device.type for p in model.network.parameters()} == {"cuda"}
    cpu.network.load_state_dict(model.network.state_dict())
    for images in (pairs[0], pairs[0].cuda()):
        output = model.predict(images)
        assert output.device == images.device
        torch.testing.assert_close(output.cpu(), cpu.predict(pairs[0]), rtol=1e-2, atol=0.5)
    train(model, *pairs, 1)
    train(model, *(version.cuda() for version in pairs), 1)
    networks.save(tmp_path / "w.pth", name, model.network, {})
    cpu.load_pretrained_model(tmp_path / "w.pth")
    assert all(torch.equal(value, weights(model)[key].cpu()) for key, value in weights(cpu).items())


# ------------------------------------------------------------------------------------------------------- weights


@pytest.fixture
def saved(small, tmp_path):
    """A file with weights of both small networks, which no fresh Model has."""
    for name in NAMES:
        network = Model(name).network
        for parameter in network.parameters():
            parameter.mul_(1.5).add_(0.01)
        networks.save(tmp_path / "saved.pth", name, network, {})
    return tmp_path / "saved.pth"


@each
def test_loading_takes_the_files_weights(saved, pairs, name):
    model = Model(name)
    before = model.predict(pairs[0])
    model.load_pretrained_model(saved)
    assert same(weights(model), networks.load(saved, name)["state"])
    assert not torch.equal(model.predict(pairs[0]), before)


def test_loading_takes_the_files_architecture(small, tmp_path, pixels):
    network = denoiser.Denoiser((5, 7), (2, 4))
    networks.save(tmp_path / "w.pth", "prescribed", network, {})
    model = Model()
    model.load_pretrained_model(str(tmp_path / "w.pth"))
    assert model.network.arguments == network.arguments
    assert same(weights(model), dict(network.state_dict()))
    assert model.predict(pixels(1, 3, 9, 9)).shape == (1, 3, 9, 9)


@each
def test_training_after_loading_changes_the_weights_gently(saved, pairs, name):
    fresh, model = Model(name), Model(name)
    train(model, *pairs, 1)
    model.load_pretrained_model(saved)
    loaded = weights(model)
    assert model.recipe().lr == pytest.approx(FINE_TUNING * fresh.recipe().lr)
    assert model.recipe().batch_size == 2 * fresh.recipe().batch_size
    train(model, *pairs, 1)
    change = {key: (value - loaded[key]).abs().max() for key, value in weights(model).items()}
    assert all(0 < value < 0.02 for value in change.values())
    model.load_pretrained_model(saved)
    assert same(weights(model), loaded)
    train(model, *pairs, 1)
    assert not same(weights(model), loaded)


def test_default_path_is_beside_the_model():
    path = inspect.signature(Model.load_pretrained_model).parameters["path"].default
    assert path == ROOT / "Miniproject_2" / "bestmodel.pth" and path.is_absolute()


def test_missing_weights(small, tmp_path):
    model = Model()
    before = weights(model)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none.pth"))):
        model.load_pretrained_model(tmp_path / "none.pth")
    assert same(before, weights(model)) and not model.pretrained


def spoil(path, change):
    """Rewrite the prescribed network's entry of a checkpoint."""
    content = torch.load(path)
    change(content["denoisers"])
    torch.save(content, path)


SPOILED = {
    "damaged": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "not a checkpoint": lambda path: path.write_bytes(b"hello"),
    "foreign": lambda path: torch.save({"0.weight": torch.zeros(2)}, path),
    "of another network": lambda path: spoil(path, lambda entries: entries.pop("prescribed")),
    "a missing weight": lambda path: spoil(path, lambda entries: entries["prescribed"]["state"].popitem()),
    "a weight too many": lambda path: spoil(
        path, lambda entries: entries["prescribed"]["state"].update({"9.weight": torch.ones(2)})
    ),
    "a wrong shape": lambda path: spoil(
        path, lambda entries: entries["prescribed"]["state"].update({"0.weight": torch.ones(8, 3, 3, 2)})
    ),
    "other arguments": lambda path: spoil(
        path, lambda entries: entries["prescribed"]["arguments"].update(channels=(8, 13))
    ),
    "unknown arguments": lambda path: spoil(path, lambda entries: entries["prescribed"]["arguments"].update(depth=3)),
    "impossible arguments": lambda path: spoil(
        path, lambda entries: entries["prescribed"]["arguments"].update(channels=(0, -1))
    ),
    "arguments of another kind": lambda path: spoil(path, lambda entries: entries["prescribed"].update(arguments=[3])),
    "NaN": lambda path: spoil(
        path, lambda entries: entries["prescribed"]["state"]["0.weight"].mul_(torch.nan)
    ),
    "more than 32 bits hold": lambda path: spoil(
        path, lambda entries: entries["prescribed"]["state"].update({"0.bias": torch.ones(8).double() * -1e300})
    ),
    "what overflows": lambda path: spoil(
        path, lambda entries: entries["prescribed"]["state"]["2.weight"].fill_(1e38)
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", SPOILED.values(), ids=SPOILED)
def test_weights_that_do_not_fit_leave_the_model_as_it_was(saved, pairs, damage):
    model = Model("prescribed")
    before, output, network = weights(model), model.predict(pairs[0]), model.network
    damage(saved)
    with pytest.raises(CheckpointError, match=re.escape(str(saved))):
        model.load_pretrained_model(saved)
    assert model.network is network and same(before, weights(model)) and not model.pretrained
    assert torch.equal(model.predict(pairs[0]), output)
    train(model, *pairs, 1)
    assert not same(before, weights(model))


def test_training_writes_no_file(saved, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def files():
        folders = (ROOT / "Miniproject_2", tmp_path)
        return {path: path.read_bytes() for folder in folders for path in folder.iterdir() if path.is_file()}

    before = files()
    model = Model()
    train(model, *pairs, 2, validation=pairs)
    model.load_pretrained_model(saved)
    train(model, *pairs, 2)
    model.predict(pairs[0])
    assert files() == before


# ----------------------------------------------------------------------------------------------- where it is run


def test_import_from_inside_the_folder(run_python):
    script = """
import torch
from model import Conv2d, MSE, Model, Module, NearestUpsampling, ReLU, SGD, Sequential, Sigmoid, TransposeConv2d
import model, others.nn
assert Conv2d is others.nn.Conv2d
assert set(others.nn.__all__) < set(model.__all__)
print(Sequential(Conv2d(3, 3, 3), Sigmoid()).forward(torch.rand(2, 3, 9, 8)).shape)
print(Model().predict(torch.zeros(1, 3, 5, 7, dtype=torch.uint8)).shape, others.__file__)
"""
    shapes = "torch.Size([2, 3, 7, 6])\ntorch.Size([1, 3, 5, 7])"
    assert run_python(script, ROOT / "Miniproject_2") == f"{shapes} {ROOT / 'others' / '__init__.py'}\n"


@pytest.mark.parametrize("decoy", ["package", "folder", None])
def test_import_by_path_from_another_folder_that_may_have_its_own_others(run_python, tmp_path, decoy):
    if decoy:
        (tmp_path / "others").mkdir()
    if decoy == "package":
        (tmp_path / "others" / "__init__.py").write_text("raise ImportError('the others of somebody else')")
    script = """
import importlib.util, sys, torch
spec = importlib.util.spec_from_file_location("model", sys.argv[1])
model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model)
for name in ("prescribed", "rednet"):
    print(model.Model(name).predict(torch.zeros(1, 3, 5, 7)).shape)
"""
    output = run_python(script, tmp_path, ROOT / "Miniproject_2" / "model.py")
    assert output == "torch.Size([1, 3, 5, 7])\n" * 2


def test_model_has_every_block():
    for name in ("Module", "Conv2d", "TransposeConv2d", "NearestUpsampling", "ReLU", "Sigmoid", "MSE", "SGD",
                 "Sequential", "LeakyReLU", "Linear", "MaxPool2d", "Skip", "Adam", "Model"):  # fmt: skip
        assert name in model_module.__all__ and isinstance(getattr(model_module, name), type)


# ---------------------------------------------------------------------------------------------- shipped weights


@pytest.fixture(scope="module")
def generated():
    return data.generated_pairs(64), data.generated_validation(16)


@each
def test_shipped_weights_denoise_and_an_epoch_does_not_spoil_them(name, generated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = ROOT / "Miniproject_2" / "bestmodel.pth"
    content, model, (pairs, (noisy, clean)) = shipped.read_bytes(), Model(name), generated
    model.load_pretrained_model()
    assert model.pretrained and not any(tmp_path.iterdir())

    def psnr(pixels):
        return metrics.psnr_a(pixels / 255, clean / 255)

    before = psnr(model.predict(noisy))
    assert before > psnr(noisy) + 1
    train(model, *pairs, 1)
    assert psnr(model.predict(noisy)) > before - 0.05
    assert shipped.read_bytes() == content


def test_any_integers_are_pixels(small, pixels):
    model, images = Model(), pixels(2, 3, 9, 8)
    assert torch.equal(model.predict(images.long()), model.predict(images))


def test_an_optimiser_keeps_working_after_weights_are_loaded():
    model = Model()
    optimizer = SGD(model.network.param(), lr=1.0)
    model.load_pretrained_model()
    before = [parameter.clone() for parameter in model.network.parameters()]
    for _, gradient in model.network.param():
        gradient.fill_(1.0)
    optimizer.step()
    for parameter, old in zip(model.network.parameters(), before):
        torch.testing.assert_close(parameter, old - 1)


def test_another_others_that_is_already_imported(run_python, tmp_path):
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "__init__.py").write_text("")
    script = f"""
import sys, types
sys.path.insert(0, {str(tmp_path)!r})
import others
sys.path.insert(0, {str(ROOT)!r})
from Miniproject_2.model import Model
print(Model().module.__file__)
del sys.modules["Miniproject_2.model"], sys.modules["Miniproject_2"]
sys.modules["others"] = types.ModuleType("others")
from Miniproject_2.model import Model
print(Model().module.__file__)
"""
    assert run_python(script, tmp_path).splitlines() == [str(ROOT / "others" / "denoiser.py")] * 2


OWN_AND_ANOTHER = """
import sys, torch
from Miniproject_2.model import Model
ours, model = sys.path[0], Model("rednet")
for name in [name for name in sys.modules if name.split(".")[0] in ("Miniproject_2", "others")]:
    del sys.modules[name]
sys.path.insert(0, sys.argv[1])
import others.denoiser
from Miniproject_2.model import Model as Another
images = torch.arange(4 * 3 * 64).remainder(256).view(4, 3, 8, 8)
for mine in (model, Model(), Model("prescribed")):
    mine.train(images, images, 1, progress=False)
    mine.load_pretrained_model()
    mine.train(images, images, 1, progress=False)
    mine.predict(images)
    print(mine.module.__file__, mine.module.NAME)
print(Another().module.__file__, Another().module.NAME, others.denoiser is Another().module)
"""


def test_two_submissions_in_one_process(run_python, tmp_path):
    """The other one has the networks swapped, and is loaded when this one is in use."""
    for folder in ("Miniproject_2", "others"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "others" / "denoiser_bonus.py").replace(tmp_path / "others" / "denoiser.py")
    ours, theirs = ROOT / "others", tmp_path / "others"
    prescribed = f"{ours / 'denoiser.py'} prescribed"
    expected = [f"{ours / 'denoiser_bonus.py'} rednet", prescribed, prescribed, f"{theirs / 'denoiser.py'} rednet True"]
    assert run_python(OWN_AND_ANOTHER, ROOT, tmp_path).splitlines() == expected


# ------------------------------------------------------------------------------------------------------ precision


@pytest.mark.parametrize("able, chosen", [
    ({}, "fp32"), ({"avx512_bf16": False, "amx_bf16": False}, "fp32"),
    ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"),
])  # fmt: skip
def test_training_takes_bf16_where_the_processor_multiplies_it(small, monkeypatch, pixels, capsys, able, chosen):
    """Predictions stay in 32 bits; what is asked for is taken whatever the processor."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    seen, step = [], loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda *args: seen.append(args[5]) or step(*args))
    for asked in (None, "fp32", "bf16"):
        model = Model("prescribed", "cpu", asked)
        assert model.training_precision == (asked or chosen)
        assert model.dtype == (torch.bfloat16 if asked == "bf16" else torch.float32)
        model.train(pixels(4, 3, 8, 8), pixels(4, 3, 8, 8, seed=1), 1)
        assert seen.pop() == (torch.bfloat16 if (asked or chosen) == "bf16" else torch.float32) and not seen
        assert f"Activations are in {asked or chosen}." in capsys.readouterr().out


def test_a_gpu_is_asked_whether_it_multiplies_bf16(monkeypatch):
    device = torch.device("cuda")
    for there, able in ((False, True), (True, False), (True, True)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, able=able: able)
        assert has_bf16_products(device) == (there and able)
