"""The public suite: our Model passes it, and each of many broken ones is caught with a one-line reason."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from Miniproject_2.model import Model
from others import check_denoiser as suite
from others.check_denoiser import CHECKS, check_denoiser, failures, main

ROOT = Path(__file__).resolve().parents[1]
ALL = pytest.mark.parametrize("number", range(len(CHECKS)), ids=[check.__name__ for check in CHECKS])


@ALL
@pytest.mark.parametrize("name", ["prescribed", "rednet"])
def test_our_model_passes(small, name, number):
    check_denoiser(partial(Model, name))[number]()


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
        return super().predict(test_input * 255 if test_input.is_floating_point() else test_input)


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
        while time.process_time() < started + 0.013 * len(train_input):
            pass
        super().train(train_input, train_target, num_epochs, progress=False)


class WholeFloats(Model):
    def predict(self, test_input):
        floats = isinstance(test_input, torch.Tensor) and test_input.is_floating_point()
        return super().predict(test_input.floor() if floats else test_input)


class RawBorder(Model):
    """Rows beyond a multiple of 4 stay as they were."""

    def predict(self, test_input):
        output, whole = super().predict(test_input), test_input.shape[2] // 4 * 4
        output[:, :, whole:] = test_input[:, :, whole:]
        return output


class Shifted(Model):
    """Odd sizes come back one column to the right."""

    def predict(self, test_input):
        return super().predict(test_input).roll(test_input.shape[3] % 2, 3)


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
        return super().predict(test_input.clamp(-1e6, 1e6)) + 0 * (test_input.float() * 10)


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
    (RawBorder, "loaded_weights_denoise_odd_sizes_to_the_border", "31 x 29, the last 3 rows: mean squared error"),
    (Shifted, "loaded_weights_denoise_odd_sizes_to_the_border", "31 x 29, all of it: mean squared error"),
    (FloatsAreUnitInTraining, "train_takes_uint8_and_float_alike", "training on uint8 against float: results differ"),
    (LearnsTheIdentity, "train_learns_from_both_versions_of_every_pair", "training on other targets gave the same"),
    (FirstBatchOnly, "train_learns_from_both_versions_of_every_pair", "with another last target gave the same"),
    (OneEpoch, "train_takes_seven_epochs", "7 epochs gave what 1 gives"),
    (SharedBuffer, "predict_from_two_threads_at_once", "results differ by"),
    (FullBatchesOnly, "train_takes_any_number_of_pairs", "IndexError"),
    (Forgets, "train_changes_the_weights", "one epoch of training left predict as it was"),
    (AlwaysTrains, "train_without_epochs_changes_nothing", "before and after 0 epochs: results differ"),
    (TakesAnyPairs, "train_refuses_pairs_that_do_not_match", "(2, 3, 16, 16): expected an error, got None"),
    (Shared, "two_models_are_independent", "another Model was trained and loaded"),
    (DoesNotPickle, "pickles_and_copies_are_equal_and_independent", "pickle"),
    (RelativeWeights, "loads_its_weights_from_any_folder", "FileNotFoundError"),
    (HighRate, "loaded_weights_denoise_and_training_does_not_spoil_them", "PSNR A fell from"),
    (Slow, "an_epoch_takes_no_longer_than_allowed", "an epoch of 50,000 pairs would take"),
    (Hungry, "memory_stays_bounded", "GiB, allowed 0 GiB"),
]


@pytest.mark.parametrize("broken, name, reason", BROKEN, ids=[f"{model.__name__}-{name}" for model, name, _ in BROKEN])
def test_a_broken_model_is_caught(small, monkeypatch, broken, name, reason):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(suite, "CHECKS", [check for check in CHECKS if check.__name__ == name])
    if broken is Hungry:
        monkeypatch.setattr(suite, "MEMORY", 300 * 2**20)
    if broken is Slow:
        monkeypatch.setattr(suite, "EPOCH_SECONDS", 30)
    ((found, line),) = failures(broken)
    assert found == name
    assert line is not None and reason in line and "\n" not in line


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
def test_the_command_says_what_it_cannot_find(name):
    done = subprocess.run([sys.executable, "-m", "others.check_denoiser", name], cwd=ROOT, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert name in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
