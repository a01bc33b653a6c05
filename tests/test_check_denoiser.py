"""The public suite: our Model and others that are right pass it, and each of many broken ones is caught with a one-line
reason."""

import copy
import os
import subprocess
import sys
import time
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from torch import nn

from Miniproject_2.model import Model
from others import check_denoiser as suite
from others import data, inference
from others.check_denoiser import CHECKS, check_denoiser, failures, main
from others.evaluation import metrics

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:.*expected values in 0-255, got 0 to ")  # of dark floats


def ours():
    """Each network with each check; those that work with the shipped weights, which are not small, with one of them."""
    for name in ("prescribed", "rednet"):
        for number, check in enumerate(CHECKS):
            large = {"loaded", "denoised"} & {*check.__code__.co_names} and not check.__name__.endswith("spoil_them")
            if name == "prescribed" or not large:
                yield pytest.param(name, number, id=f"{name}-{check.__name__}")


@pytest.mark.parametrize("name, number", list(ours()))
def test_our_model_passes(small, name, number):
    check_denoiser(partial(Model, name))[number]()


@pytest.mark.parametrize("name", ["prescribed", "rednet"])
def test_training_does_not_spoil_our_weights_by_a_tenth_of_a_decibel(name):
    """Where the check, which is for any optimiser, allows half of the gain."""
    (noisy, clean), model = data.generated_validation(20), Model(name)
    model.load_pretrained_model()
    before = metrics.psnr_a(model.predict(noisy) / 255, clean / 255)
    model.train(*data.generated_pairs(32), 1, progress=False)
    assert metrics.psnr_a(model.predict(noisy) / 255, clean / 255) > before - 0.1


# -------------------------------------------------------------------------------- right, and not ours: no false alarm


class Plain:
    """The interface on torch.nn and Adam: a network that adds what it computes to the image."""

    multiple, rate, epochs = 1, 1e-3, 15
    batch, side = 16, None  # side: of random crops in training
    kind = property(type)

    def __init__(self):
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            torch.manual_seed(1)
            self.network = self.layers().float().eval()

    def layers(self):
        wide = {"padding_mode": "replicate"}
        return nn.Sequential(nn.Conv2d(3, 12, 5, 1, 2, **wide), nn.ReLU(), nn.Conv2d(12, 3, 3, 1, 1, **wide))

    def residual(self, pixels):
        return self.network(pixels)

    def forward(self, pixels):
        height, width = pixels.shape[2:]
        whole = inference.extend(pixels, *((0, -n % self.multiple) for n in pixels.shape[2:]))
        return (whole + self.residual(whole))[:, :, :height, :width]

    def predict(self, test_input):
        data.check_images(test_input, "predict")
        with torch.inference_mode(False), torch.no_grad():
            unit = test_input.detach().clone().float().contiguous() / 255
            return torch.cat([self.forward(part).clamp(0, 1) * 255 for part in unit.split(100)])

    def train(self, train_input, train_target, num_epochs):
        data.check_pairs(train_input, train_target, "train")
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode(False), torch.enable_grad():
            pair = [version.detach().clone().float().contiguous() / 255 for version in (train_input, train_target)]
            optimizer = torch.optim.Adam(self.network.parameters(), self.rate)
            self.network.train()
            for _ in range(num_epochs):
                for index in torch.randperm(len(pair[0]), generator=generator).split(self.batch):
                    noisy, other = self.cropped([version[index] for version in pair], generator)
                    optimizer.zero_grad()
                    (self.forward(noisy) - other).square().mean().backward()
                    optimizer.step()
            self.network.eval()

    def cropped(self, pair, generator):
        height, width = pair[0].shape[2:]
        if self.side is None or min(height, width) <= self.side:
            return pair
        top, left = (int(torch.randint(n - self.side + 1, (), generator=generator)) for n in (height, width))
        return [version[:, :, top : top + self.side, left : left + self.side] for version in pair]

    def load_pretrained_model(self):
        self.network.load_state_dict(weights(self.kind))


@cache
def weights(kind):
    """Trained for a few steps."""
    model = kind()
    model.train(*suite.scenes()[:2], kind.epochs)
    return model.network.state_dict()


class BatchNorm(Plain):
    """A small DnCNN: zeros around the image, statistics of batches in training."""

    epochs = 30

    def layers(self):
        middle = nn.Sequential(nn.Conv2d(12, 12, 3, 1, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        return nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1), nn.ReLU(), *middle, nn.Conv2d(12, 3, 3, 1, 1))


class UNet(Plain):
    """Trained on random crops."""

    multiple, side = 4, 12

    def layers(self):
        def twice(inside, outside):
            return nn.Sequential(
                nn.Conv2d(inside, outside, 3, 1, 1), nn.ReLU(), nn.Conv2d(outside, outside, 3, 1, 1), nn.ReLU()
            )

        sizes = {"first": (3, 8), "second": (8, 16), "third": (16, 16), "up": (32, 8), "top": (16, 8)}
        network = nn.ModuleDict({name: twice(*channels) for name, channels in sizes.items()})
        network["last"] = nn.Conv2d(8, 3, 1)
        return network

    def residual(self, pixels):
        net, half, double = self.network, nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        first = net["first"](pixels)
        second = net["second"](half(first))
        up = net["up"](torch.cat((second, double(net["third"](half(second)))), 1))
        return net["last"](net["top"](torch.cat((first, double(up)), 1)))


@pytest.mark.parametrize("right", [Plain, BatchNorm, UNet])
def test_a_right_model_passes(right, monkeypatch):
    monkeypatch.setattr(suite, "CHECKS", [check for check in CHECKS if not check.__name__.startswith("importing")])
    assert [(name, reason) for name, reason in failures(right) if reason] == []


def test_checks_go_by_their_names():
    names = [check.__name__ for check in check_denoiser(Model)]
    assert len(set(names)) == len(names) >= 40
    assert all(name.islower() for name in names)


# ------------------------------------------------------------------------------------------- each breaks a promise


class TooBright(Model):
    def predict(self, test_input):
        return super().predict(test_input) * 2 + 100


class Negative(Model):
    def predict(self, test_input):
        return super().predict(test_input) - 300


class Bytes(Model):
    def predict(self, test_input):
        return super().predict(test_input).to(torch.uint8)


class Cropped(Model):
    """Sizes that 4 does not divide come back smaller."""

    def predict(self, test_input):
        height, width = (n // 4 * 4 for n in test_input.shape[2:])
        return super().predict(test_input)[:, :, :height, :width]


class FloatsAreUnit(Model):
    """Takes floats for values in 0-1."""

    def predict(self, test_input):
        return super().predict((test_input * 255).clamp(0, 255) if test_input.is_floating_point() else test_input)


class WritesInput(Model):
    def predict(self, test_input):
        output = super().predict(test_input)
        if test_input.is_contiguous():
            test_input.detach().mul_(0)
        return output


class BatchStatistics(Model):
    def predict(self, test_input):
        return (super().predict(test_input) + test_input.float().mean().item()) / 2 if len(test_input) else test_input


class Noisy(Model):
    def predict(self, test_input):
        output = super().predict(test_input)
        return (output + 0.01 * torch.rand(output.shape)).clamp(0, 255)


class Seeds(Model):
    def __init__(self):
        torch.manual_seed(5)
        super().__init__()


class SwitchesGradients(Model):
    def train(self, *arguments):
        super().train(*arguments, progress=False)
        torch.set_grad_enabled(not torch.is_grad_enabled())


class Graph(Model):
    def predict(self, test_input):
        return super().predict(test_input) * torch.ones(1, requires_grad=True)


class NoEmptyBatch(Model):
    def predict(self, test_input):
        return super().predict(test_input) * (1 / len(test_input))


class Guesses(Model):
    """Takes an image without a batch for a batch of one."""

    def predict(self, test_input):
        return super().predict(test_input[None] if test_input.dim() == 3 else test_input)


class Vague(Model):
    def predict(self, test_input):
        try:
            return super().predict(test_input)
        except (TypeError, ValueError):
            raise ValueError("wrong input") from None


class PassesNaN(Model):
    def predict(self, test_input):
        clean = super().predict(test_input.nan_to_num() if test_input.is_floating_point() else test_input)
        return torch.where(test_input.isnan(), test_input, clean) if test_input.is_floating_point() else clean


class SharedBuffer(Model):
    """One buffer for all results."""

    buffer = torch.empty(4, 3, 40, 40)

    def predict(self, test_input):
        output = super().predict(test_input)
        if output.shape != self.buffer.shape:
            return output
        return self.buffer.copy_(output)


class FullBatchesOnly(Model):
    def train(self, train_input, train_target, num_epochs):
        count = len(train_input) // 16 * 16
        train_input[:count].view(-1, 16, *train_input.shape[1:])[0]
        super().train(train_input, train_target, num_epochs, progress=False)


class Forgets(Model):
    """Trains a copy."""

    def train(self, *arguments):
        pass


class AlwaysTrains(Model):
    def train(self, train_input, train_target, num_epochs):
        super().train(train_input, train_target, max(1, num_epochs), progress=False)


class TakesAnyPairs(Model):
    def train(self, train_input, train_target, num_epochs):
        count = min(len(train_input), len(train_target))
        super().train(train_input[:count], train_target[:count], num_epochs, progress=False)


class Shared(Model):
    """All Models have one network."""

    networks = []  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.networks.append(self.network)
        self.network = self.networks[0]


class DoesNotPickle(Model):
    def __init__(self):
        super().__init__()
        self.hook = lambda: None


class RelativeWeights(Model):
    def load_pretrained_model(self):
        super().load_pretrained_model(os.path.relpath(ROOT / "Miniproject_2" / "bestmodel.pth", ROOT))


class HighRate(Model):
    def recipe(self):
        return super().recipe()._replace(lr=50.0, clip=1.0)


class Slow(Model):
    def train(self, train_input, train_target, num_epochs):
        started = time.process_time()
        while time.process_time() < started + 0.006 * len(train_input):
            pass
        super().train(train_input, train_target, num_epochs, progress=False)


class WholeFloats(Model):
    def predict(self, test_input):
        floats = isinstance(test_input, torch.Tensor) and test_input.is_floating_point()
        return super().predict(test_input.floor() if floats else test_input)


class FloatsAreUnitInTraining(Model):
    def train(self, *images_and_epochs):
        *versions, epochs = images_and_epochs
        versions = [version / 255 if version.is_floating_point() else version for version in versions]
        super().train(*versions, epochs, progress=False)


class LearnsTheIdentity(Model):
    def train(self, train_input, train_target, num_epochs):
        super().train(train_input, train_input, num_epochs, progress=False)


class FirstBatchOnly(Model):
    def train(self, train_input, train_target, num_epochs):
        super().train(train_input[:32], train_target[:32], num_epochs, progress=False)


class OneEpoch(Model):
    def train(self, train_input, train_target, num_epochs):
        super().train(train_input, train_target, min(num_epochs, 1), progress=False)


class Overflows(Model):
    def predict(self, test_input):
        if not test_input.is_floating_point() or not test_input.isfinite().all():
            return super().predict(test_input)
        return super().predict(test_input.clamp(0, 255)) + 0 * (test_input.float() * 10)


class Hungry(Model):
    def predict(self, test_input):
        torch.ones(test_input.numel() * 400 if test_input.numel() > 500_000 else 1)
        return super().predict(test_input)


BROKEN = [
    (TooBright, "predict_gives_pixels_of_the_same_shape", "expected values in [0, 255], got ["),
    (Negative, "predict_takes_the_graders_image", "predict of 512 x 512: expected values in [0, 255], got [-"),
    (Bytes, "predict_takes_a_batch_of_one", "expected floating point, got torch.uint8"),
    (Cropped, "predict_takes_any_height_and_width", "predict of 1 x 1: expected shape (2, 3, 1, 1), got (2, 3, 0, 0)"),
    (FloatsAreUnit, "predict_gives_the_same_for_uint8_and_float", "results differ by"),
    (WritesInput, "predict_leaves_its_input_alone", "contiguous input was changed by predict"),
    (WritesInput, "predict_leaves_read_only_memory_alone", "wrote into read-only memory"),
    (BatchStatistics, "predict_gives_the_same_for_any_batch_split_and_order", "batches of 1 against one of 7"),
    (Noisy, "predict_repeats_bit_by_bit", "results differ by"),
    (Noisy, "leaves_the_global_state_as_it_was", "predict changed the torch's random state"),
    (Seeds, "leaves_the_global_state_as_it_was", "Model() changed the torch's random state"),
    (SwitchesGradients, "leaves_the_global_state_as_it_was", "train changed the gradient mode"),
    (Graph, "predict_takes_any_memory_layout", "the result requires a gradient"),
    (NoEmptyBatch, "predict_takes_an_empty_batch", "ZeroDivisionError"),
    (Guesses, "predict_refuses_wrong_shapes", "predict of shape (3, 32, 32): expected an error, got"),
    (Vague, "predict_refuses_wrong_shapes", "expected the error to name (32, 32), got ValueError: wrong input"),
    (Vague, "predict_refuses_what_is_no_tensor", "expected the error to name NoneType"),
    (PassesNaN, "predict_treats_or_refuses_values_that_are_no_pixels", "image with nan: got NaN"),
    (Overflows, "predict_treats_or_refuses_values_that_are_no_pixels", "an image with 3e+38: got NaN"),
    (WholeFloats, "predict_keeps_the_fractions_of_floats", "0.4 more in every pixel changed nothing"),
    (FloatsAreUnitInTraining, "train_takes_uint8_and_float_alike", "training on uint8 against torch.float32: results"),
    (LearnsTheIdentity, "train_learns_from_both_versions_of_every_pair", "with another set of targets gave the same"),
    (FirstBatchOnly, "train_learns_from_both_versions_of_every_pair", "with another last target gave the same"),
    (OneEpoch, "train_takes_seven_epochs", "7 epochs gave what 1 gives"),
    (SharedBuffer, "predict_from_two_threads_at_once", "results differ by"),
    (FullBatchesOnly, "train_takes_any_number_of_pairs", "IndexError"),
    (Forgets, "train_changes_the_weights", "one epoch of training left predict as it was"),
    (AlwaysTrains, "train_without_epochs_changes_nothing", "before and after 0 epochs: results differ"),
    (TakesAnyPairs, "train_refuses_pairs_that_do_not_match", "(2, 3, 16, 16): expected an error, got None"),
    (Shared, "two_models_are_independent", "another Model was trained and loaded"),
    (DoesNotPickle, "pickles_and_copies_are_equal_and_independent", "pickle of a model failed: Can't"),
    (RelativeWeights, "loads_its_weights_from_any_folder", "FileNotFoundError"),
    (HighRate, "loaded_weights_denoise_and_training_does_not_spoil_them", "PSNR A fell from"),
    (Slow, "an_epoch_takes_no_longer_than_allowed", "an epoch of 50,000 pairs would take"),
    (Hungry, "memory_stays_bounded", "GiB, allowed 0 GiB"),
]


# --------------------------------------- each is wrong in a way that few images, random pixels and fresh weights hide


class Mutant(Plain):
    """Changes what goes in or comes out of a right model, after that has refused what is to be refused."""

    kind = Plain

    def predict(self, test_input):
        return self.after(test_input.detach(), super().predict(test_input))

    def after(self, pixels, output):
        return output

    def train(self, train_input, train_target, num_epochs):
        data.check_pairs(train_input, train_target, "train")
        super().train(*self.before(train_input.detach(), train_target.detach()), num_epochs)

    def before(self, first, second):
        return first, second


class Seams(Mutant):
    """Tiles that do not overlap."""

    def after(self, pixels, output):
        rows = [row.split(256, 3) for row in pixels.split(256, 2)]
        whole = super(Mutant, self).predict
        return torch.cat([torch.cat([whole(tile) for tile in row], 3) for row in rows], 2) if output.numel() else output


class After100(Mutant):
    def after(self, pixels, output):
        return torch.cat((output[:100], pixels[100:].float()))


class Only1000Pairs(Mutant):
    def before(self, first, second):
        return first[:1000], second[:1000]


class WholeBatches(Mutant):
    def before(self, first, second):
        whole = len(first) // 32 * 32 or len(first)
        return first[:whole], second[:whole]


class ShiftedWhenWide(Mutant):
    def after(self, pixels, output):
        return output.roll(int(output.shape[3] > 64), 3)


class ShiftedOddSizes(Mutant):
    def after(self, pixels, output):
        return output.roll(output.shape[3] % 2, 3)


class RedAndBlueSwapped(Mutant):
    def after(self, pixels, output):
        return output.flip(1)


class LeakOfTheMean(Mutant):
    def after(self, pixels, output):
        return output.mul(0.99) + pixels.float().mean().clamp(0, 255) * 0.01 if len(output) else output


class RawLastRowAndColumn(Mutant):
    def after(self, pixels, output):
        output[:, :, -1:], output[..., -1:] = pixels[:, :, -1:].clamp(0, 255), pixels[..., -1:].clamp(0, 255)
        return output


class RawBorderOfOddSizes(Mutant):
    def after(self, pixels, output):
        whole = pixels.shape[2] // 4 * 4
        output[:, :, whole:] = pixels[:, :, whole:].clamp(0, 255)
        return output


class NoFloat64(Mutant):
    def before(self, first, second):
        none = slice(0, 0 if first.dtype == torch.float64 else None)
        return first[none], second[none]


class UnitFloats(Mutant):
    """Floats at most 1 are taken for images in 0-1."""

    def after(self, pixels, output):
        unit = pixels.is_floating_point() and pixels.numel() and pixels.max() <= 1
        return super(Mutant, self).predict(pixels * 255) if unit else output


class UnitFloatsInTraining(Mutant):
    def before(self, first, second):
        return [pixels * (255 if pixels.is_floating_point() and pixels.max() <= 1 else 1) for pixels in (first, second)]


class AutoContrast(Mutant):
    def after(self, pixels, output):
        return output * 255 / output.flatten(1).amax(1).clamp(1).view(-1, 1, 1, 1)


class EightLevels(Mutant):
    def after(self, pixels, output):
        return output.div(36).round() * 36


class Clipped(Mutant):
    def after(self, pixels, output):
        return output.clamp(max=250)


class RemembersTheLast(Mutant):
    last = 0

    def after(self, pixels, output):
        last, self.last = self.last, 0.001 * output.sum() / max(1, output.numel())
        return (output + last).clamp(0, 255)


class OneBuffer(Mutant):
    def after(self, pixels, output):
        if getattr(self, "buffer", output[:0]).shape != output.shape:
            self.buffer = torch.empty_like(output)
        return self.buffer.copy_(output)


class TallTransposed(Mutant):
    def after(self, pixels, output):
        tall = output.shape[2] > output.shape[3]
        return output.transpose(2, 3).contiguous().view(output.shape) if tall else output


class LargeFlipped(Mutant):
    def after(self, pixels, output):
        return output.flip(3) if output.shape[3] > 256 else output


class RawBlue(Mutant):
    def after(self, pixels, output):
        output[:, 2] = pixels[:, 2].clamp(0, 255)
        return output


class NextPairsTarget(Mutant):
    def before(self, first, second):
        return first, second.roll(1, 0)


class GreyTargets(Mutant):
    def before(self, first, second):
        return first, second.float().mean(1, keepdim=True).expand(second.shape)


class LeavesOutTheEdge(Mutant):
    def before(self, first, second):
        return first[:, :, :-4, :-4], second[:, :, :-4, :-4]


class ReadsMemoryInOrder(Mutant):
    """Takes images for contiguous in training."""

    def before(self, first, second):
        size = first.shape
        return [v if 0 in v.stride() else v.as_strided(size, first.new_empty(size).stride()) for v in (first, second)]


class StartsAgain(Mutant):
    def train(self, train_input, train_target, num_epochs):
        self.network = copy.deepcopy(self.__dict__.setdefault("start", copy.deepcopy(self.network)))
        super().train(train_input, train_target, num_epochs)


class LoadsOnce(Mutant):
    loaded = False

    def load_pretrained_model(self):
        if not self.loaded:
            super().load_pretrained_model()
        self.loaded = True


class StaysInTraining(Mutant):
    """Statistics of the batch, after a training."""

    def train(self, train_input, train_target, num_epochs):
        super().train(train_input, train_target, num_epochs)
        self.trained = True

    def after(self, pixels, output):
        return output * 0.9 + output.mean() * 0.1 if hasattr(self, "trained") else output


MUTANTS = [
    (Seams, "large_images_have_no_seams", "300 x 700, row 256 depends on where the image begins"),
    (After100, "an_image_is_denoised_alike_alone_and_among_many", "50 of them differ, the first is image 101"),
    (Only1000Pairs, "train_uses_all_pairs", "on 1101 pairs: other targets after the first 1000 gave the same"),
    (WholeBatches, "train_uses_all_pairs", "on 37 pairs: other targets after the first 36 gave the same"),
    (
        ShiftedWhenWide,
        "loaded_weights_leave_everything_in_its_place",
        "40 x 130, rows from 2: the result lies 0 pixels below and 1",
    ),
    (
        ShiftedOddSizes,
        "loaded_weights_leave_everything_in_its_place",
        "31 x 29, rows from 2: the result lies 0 pixels below and 1",
    ),
    (RedAndBlueSwapped, "loaded_weights_leave_everything_in_its_place", "the red of the result is nearest to the"),
    (LeakOfTheMean, "an_image_is_denoised_alike_alone_and_among_many", "150 of them differ, the first is image 1"),
    (RawLastRowAndColumn, "loaded_weights_denoise_every_row_column_and_channel", "as it came: row 32"),
    (RawBorderOfOddSizes, "loaded_weights_denoise_every_row_column_and_channel", "31 x 29, as it came: row 29"),
    (NoFloat64, "train_takes_uint8_and_float_alike", "uint8 against torch.float64: results differ by"),
    (UnitFloats, "exposure_is_kept", "dark floats, 0 to 1: the mean changes by"),
    (UnitFloatsInTraining, "train_takes_uint8_and_float_alike", "dark, training on uint8 against torch.float32"),
    (AutoContrast, "exposure_is_kept", "dark floats, 0 to 12.8: the mean changes by"),
    (EightLevels, "results_use_the_whole_range", "the result has only 8 different values"),
    (Clipped, "results_use_the_whole_range", "of the result are 250: clipped"),
    (RemembersTheLast, "predict_depends_on_no_earlier_call", "before and after that of other images of this shape:"),
    (OneBuffer, "predict_depends_on_no_earlier_call", "predict of other images of this shape overwrote an earlier"),
    (TallTransposed, "loaded_weights_denoise_every_row_column_and_channel", "31 x 29, channel 1: mean squared error"),
    (LargeFlipped, "loaded_weights_denoise_every_row_column_and_channel", "1 of 300 x 450, channel 1: mean squared"),
    (RawBlue, "loaded_weights_denoise_every_row_column_and_channel", "150 of 32 x 32, channel 3: mean squared error"),
    (NextPairsTarget, "train_keeps_the_versions_of_a_pair_and_their_channels_together", "pairs are not kept together"),
    (GreyTargets, "train_keeps_the_versions_of_a_pair_and_their_channels_together", "pairs are not kept together"),
    (
        LeavesOutTheEdge,
        "train_learns_from_both_versions_of_every_pair",
        "with another last quarter of rows gave the same",
    ),
    (ReadsMemoryInOrder, "train_takes_any_memory_layout", "training on transposed against contiguous images"),
    (StartsAgain, "train_goes_on_after_a_prediction", "training after a prediction changed nothing"),
    (LoadsOnce, "loads_its_weights_from_any_folder", "once more, after a training: results differ"),
    (
        StaysInTraining,
        "predict_after_training_repeats_and_splits",
        "after training, 7 images, together and in parts: 7 of them",
    ),
]


@pytest.mark.parametrize("broken, name, reason", MUTANTS, ids=[model.__name__ for model, *_ in MUTANTS])
def test_a_subtly_wrong_model_is_caught(monkeypatch, broken, name, reason):
    monkeypatch.setattr(suite, "CHECKS", [check for check in CHECKS if check.__name__ == name])
    ((_, line),) = failures(broken)
    assert line is not None and reason in line and "\n" not in line


@pytest.mark.parametrize("broken, name, reason", BROKEN, ids=[f"{model.__name__}-{name}" for model, name, _ in BROKEN])
def test_a_broken_model_is_caught(small, monkeypatch, broken, name, reason):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(suite, "CHECKS", [check for check in CHECKS if check.__name__ == name])
    if broken is Hungry:
        monkeypatch.setattr(suite, "MEMORY", 300 * 2**20)
    if broken is Slow:
        monkeypatch.setattr(suite, "EPOCH_SECONDS", 10)
    ((found, line),) = failures(broken)
    assert found == name
    assert line is not None and reason in line and "\n" not in line


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_an_earlier_peak_hides_no_memory():
    torch.ones(2**28)
    assert abs(suite.memory_of(lambda: torch.ones(2**27)) - 2**29) < 2**26
    assert suite.memory_of(lambda: None) < 2**26


@pytest.mark.parametrize("source, reason", [
    ("import torch; torch.manual_seed(0)", "importing changed: torch's random state"),
    ("import torch; torch.set_grad_enabled(False)", "importing changed: gradient mode"),
    ("open('log.txt', 'w').close()", "importing changed: files"),
    ("print('hello')", "importing printed 'hello'"),
    ("", None),
])  # fmt: skip
def test_side_effects_of_an_import_are_caught(tmp_path, monkeypatch, source, reason):
    (tmp_path / "submission.py").write_text(f"{source}\nclass Model:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(suite, "CHECKS", [suite.importing_has_no_side_effects])
    here = torch.is_grad_enabled(), torch.get_rng_state()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.txt").unlink(missing_ok=True)
    ((_, line),) = failures(fake_class("submission"))
    assert line == reason
    assert torch.is_grad_enabled() is here[0] and torch.equal(torch.get_rng_state(), here[1])


def fake_class(module):
    """A class that says it comes from `module`, which is not imported here."""
    return type("Model", (), {"__module__": module})


# ------------------------------------------------------------------------------------------------------ command


def test_the_command(small, monkeypatch, capsys):
    few = [suite.predict_takes_a_batch_of_one, suite.predict_depends_on_the_image]
    monkeypatch.setattr(suite, "CHECKS", few)
    assert main(["Miniproject_2.model:Model"]) == 0
    assert capsys.readouterr().out == "2 of 2 checks passed\n"
    assert main(["Miniproject_2.model:Model", "rednet", "-v"]) == 0
    assert "passed predict_takes_a_batch_of_one\n" in capsys.readouterr().out
    monkeypatch.setattr(suite, "CHECKS", few[:1])
    assert main([f"{__name__}:Bytes"]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first == ("FAILED predict_takes_a_batch_of_one: a batch of one: "
                     "expected floating point, got torch.uint8")  # fmt: skip
    assert last == "0 of 1 checks passed"


@pytest.mark.parametrize("name", ["Miniproject_2.model", "nothing.here:Model", "Miniproject_2.model:Nothing", ":"])
def test_the_command_says_what_it_cannot_find(capsys, name):
    with pytest.raises(SystemExit) as stopped:
        main([name])
    assert stopped.value.code == 2
    assert name in capsys.readouterr().err.splitlines()[-1]


def test_the_command_in_a_process():
    done = subprocess.run([sys.executable, "-m", "others.check_denoiser", ":"], cwd=ROOT, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
