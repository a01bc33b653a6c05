#!/usr/bin/env python3
"""The checks of the graders' script (class Original; blocks with its tolerances), and more beside them. Exit status 0
only if everything passed.

    python test.py [-p PROJECT_FOLDER] [-d DATA_FOLDER] [-v]

-p is the folder that holds Miniproject_2 and others (default: the one of this file), -d the one with train_data.pkl and
val_data.pkl. Without -d, generated images take their place and the whole takes less than two minutes. PSNR is
metric A: the mean over images of each image's PSNR.
"""

import argparse
import copy
import os
import subprocess
import sys
import time
import unittest
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # threads that spin for longer take minutes on a busy machine
import torch
from torch import nn

BATCH = 100
GENERATED_PAIRS, GENERATED_IMAGES = 500, 50
LOSS_ALLOWED = 0.05  # dB that one epoch of training from the pretrained weights may cost
project, data_folder = Path(__file__).resolve().parent, None


def scratch():
    """The project's Miniproject_2.model. Raises AssertionError if it, or the others that it uses, is another's."""
    module = import_module("Miniproject_2.model")
    for name in ("Miniproject_2", "others"):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and not Path(file).resolve().is_relative_to(project):
            raise AssertionError(f"expected {name} to be imported from {project}, it came from {file}")
    return module


def psnr(output, clean):
    """PSNR A of pixels in 0-255, in dB."""
    error = ((output.float() - clean.float()) / 255).pow(2).mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


@cache
def load(name):
    """A pair of image tensors: of the data folder, or generated. Raises ValueError for a file of anything else."""
    if data_folder:
        return read(data_folder / f"{name}_data.pkl")
    data = import_module("others.data")
    return data.generated_pairs(GENERATED_PAIRS) if name == "train" else data.generated_validation(GENERATED_IMAGES)


def read(file):
    """Two uint8 tensors (N, 3, H, W) of one shape."""
    try:
        found = torch.load(file, weights_only=True)
        one, two = found
        right = (
            one.shape == two.shape and one.dim() == 4 and one.shape[1] == 3 and one.dtype == two.dtype == torch.uint8
        )
    except Exception as error:  # torch.load raises anything for a damaged file
        right, found = False, f"{type(error).__name__}: {error}".split("\n")[0]
    if not right:
        kind = found if isinstance(found, str) else type(found).__name__
        raise ValueError(f"{file}: expected two uint8 tensors (N, 3, H, W), as the course's files hold, got {kind}")
    return one, two


def predict(model, noisy):
    return torch.cat([model.predict(batch).cpu() for batch in noisy.split(BATCH)])


class Case(unittest.TestCase):
    def assert_close(self, what, got, expected, tolerance=1e-4):
        """One line on failure: what, expected and actual values where they differ most, and by how much."""
        if not isinstance(got, torch.Tensor):
            self.fail(f"{what}: expected a tensor, got {type(got).__name__}")
        if tuple(got.shape) != tuple(expected.shape):
            self.fail(f"{what}: expected shape {tuple(expected.shape)}, got {tuple(got.shape)}")
        if expected.numel() == 0:
            return
        difference = (got - expected).abs().flatten()
        worst = int(difference.argmax())
        if not difference[worst] <= tolerance * max(1.0, float(expected.abs().max())):
            wanted, came, off = (float(t.flatten()[worst]) for t in (expected, got, difference))
            self.fail(f"{what}: expected {wanted:.6g}, got {came:.6g}; largest difference {off:.3g}")


class Original(Case):
    """The blocks as the graders' script compares them: allclose, default tolerances."""

    def test_blocks(self):
        ours, x = scratch(), torch.randn(1, 3, 32, 32)
        conv, sigmoid = ours.Conv2d(3, 3, 3), ours.Sigmoid()
        expected = nn.functional.conv2d(x, conv.weight, conv.bias)
        cases = {
            "Conv2d(3, 3, 3)": (conv.forward(x), expected),
            "Sigmoid()": (sigmoid.forward(x), x.sigmoid()),
            "Sequential(conv, sigmoid)": (ours.Sequential(conv, sigmoid).forward(x), expected.sigmoid()),
        }
        for name, (found, wanted) in cases.items():
            self.assertTrue(torch.allclose(found, wanted), f"expected {name} to be allclose to torch's, it is not")

    def test_files(self):
        for name in ("__init__.py", "model.py"):
            self.assertTrue((project / "Miniproject_2" / name).is_file(), f"expected Miniproject_2/{name}, got no file")
        for name in ("bestmodel.pth", "Report_2.pdf"):
            if not (project / "Miniproject_2" / name).is_file():
                warnings.warn(f"Miniproject_2/{name} is missing", stacklevel=1)

    def test_untrained_prediction(self):
        output = scratch().Model().predict(torch.rand(1, 3, 512, 512) * 255)
        shape = tuple(output.shape)
        self.assertTrue(shape == (1, 3, 512, 512), f"expected shape (1, 3, 512, 512), got {shape}")
        self.assertTrue(output.is_floating_point(), f"expected a float tensor, got {output.dtype}")
        low, high = float(output.min()), float(output.max())
        self.assertTrue(low >= 0 and high <= 255, f"expected values in [0, 255], got [{low:.3f}, {high:.3f}]")

    def test_pretrained_and_one_epoch(self):
        (noisy, clean), model = load("val"), scratch().Model()
        model.load_pretrained_model()
        before, input_psnr = psnr(predict(model, noisy), clean), psnr(noisy, clean)
        print(f"\n  PSNR A: noisy {input_psnr:.2f} dB, pretrained {before:.2f} dB", flush=True)
        self.assertGreater(before, input_psnr + 1, f"expected more than {input_psnr + 1:.2f} dB, got {before:.2f} dB")
        pairs, start = load("train"), time.perf_counter()
        model.train(*pairs, 1)
        seconds = time.perf_counter() - start
        after = psnr(predict(model, noisy), clean)
        print(f"  after one epoch of {len(pairs[0]):,} pairs: {after:.2f} dB, {seconds:.0f} s", flush=True)
        self.assertGreaterEqual(
            after, before - LOSS_ALLOWED, f"expected >= {before - LOSS_ALLOWED:.2f} dB, got {after:.2f} dB"
        )
        limit = 300 * max(1, len(pairs[0]) / 50_000)
        if seconds > limit:  # of a machine that nobody knows
            warnings.warn(f"the epoch took {seconds:.0f} s, the course allows {limit:.0f} s", stacklevel=1)


class Interface(Case):
    def test_blocks_are_exported(self):
        blocks = "Module Conv2d TransposeConv2d NearestUpsampling ReLU Sigmoid MSE SGD Sequential"
        missing = [name for name in (*blocks.split(), "Model") if not hasattr(scratch(), name)]
        self.assertFalse(missing, f"expected Miniproject_2.model to have {', '.join(missing)}")

    def test_uint8_and_float_agree(self):
        model, images = scratch().Model(), torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8)
        self.assert_close("predict(uint8) against predict(float)", model.predict(images), model.predict(images.float()))

    def test_any_size(self):
        model = scratch().Model()
        for height, width in ((1, 1), (31, 33), (7, 40)):
            got = tuple(model.predict(torch.rand(2, 3, height, width) * 255).shape)
            self.assertEqual(got, (2, 3, height, width), f"expected (2, 3, {height}, {width}), got {got}")


def block_cases():
    """(name, our block, torch's with the same arguments, input shape)."""
    ours = scratch()
    convolutions = [
        ((3, 3, 3), {}, (2, 3, 8, 8)),
        ((3, 5, (3, 2), (2, 1), (1, 0)), {}, (2, 3, 9, 7)),
        ((4, 6, 3), {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}, (3, 4, 11, 10)),
        ((4, 8, 4), {"stride": (2, 3), "padding": (1, 2), "bias": False}, (2, 4, 13, 9)),
        ((4, 4, 3), {"groups": 4, "padding": "same"}, (2, 4, 5, 6)),
        ((2, 3, 3), {"padding": 1, "padding_mode": "reflect"}, (2, 2, 5, 6)),
    ]
    transposed = [
        ((3, 4, 3), {}, (2, 3, 5, 4)),
        ((6, 4, 4, 2, 1), {}, (2, 6, 5, 7)),
        ((4, 6, (3, 2), (2, 3), (1, 0), (1, 2)), {"groups": 2}, (2, 4, 4, 5)),
        ((4, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1, "dilation": 2, "bias": False}, (2, 4, 5, 3)),
    ]
    for arguments, options, shape in convolutions:
        pair = ours.Conv2d(*arguments, **options), nn.Conv2d(*arguments, **options)
        yield f"Conv2d({arguments}, {options})", *pair, shape
    for arguments, options, shape in transposed:
        pair = ours.TransposeConv2d(*arguments, **options), nn.ConvTranspose2d(*arguments, **options)
        yield f"TransposeConv2d({arguments}, {options})", *pair, shape
    enlarging = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 6, 3, padding=1))
    yield "UpsamplingConv2d(4, 6, 3)", ours.UpsamplingConv2d(4, 6, 3), enlarging, (2, 4, 5, 7)
    for scale in (2, 3, (2, 3)):
        yield (
            f"NearestUpsampling({scale})",
            ours.NearestUpsampling(scale_factor=scale),
            nn.Upsample(scale_factor=scale),
            (2, 3, 5, 4),
        )
    yield "Linear(7, 5)", ours.Linear(7, 5), nn.Linear(7, 5), (3, 7)
    yield "MaxPool2d(3, 2, 1)", ours.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1), (2, 3, 9, 8)
    for name in ("ReLU", "LeakyReLU", "ELU", "Tanh", "Sigmoid", "Identity", "Flatten"):
        yield f"{name}()", getattr(ours, name)(), getattr(nn, name)(), (3, 4, 5, 2)
    arguments = (3, 5, 3, 2, 1), (5, 3, 4, 2, 1)
    yield (
        "Sequential(Conv2d, ReLU, TransposeConv2d, Sigmoid)",
        ours.Sequential(ours.Conv2d(*arguments[0]), ours.ReLU(), ours.TransposeConv2d(*arguments[1]), ours.Sigmoid()),
        nn.Sequential(nn.Conv2d(*arguments[0]), nn.ReLU(), nn.ConvTranspose2d(*arguments[1]), nn.Sigmoid()),
        (2, 3, 8, 10),
    )


class Blocks(Case):
    def test_forward_and_backward(self):
        for name, ours, theirs, shape in block_cases():
            with self.subTest(block=name), torch.enable_grad():
                for parameter, value in zip(theirs.parameters(), ours.parameters()):
                    parameter.data.copy_(value)
                x = torch.randn(shape, requires_grad=True)
                expected = theirs(x)
                upstream = torch.randn_like(expected)
                expected.backward(upstream)
                output = ours.forward(x.detach())
                self.assert_close(f"{name}.forward", output, expected.detach())
                self.assertFalse(output.requires_grad, f"{name}.forward: expected no autograd graph, got one")
                self.assert_close(f"{name}.backward", ours.backward(upstream), x.grad)
                for (key, parameter), (_, gradient) in zip(theirs.named_parameters(), ours.param()):
                    self.assert_close(f"{name}, gradient of {key}", gradient, parameter.grad)

    def test_weights_work_in_torch(self):
        ours, x = scratch().Conv2d(3, 4, 3), torch.randn(2, 3, 6, 6)
        self.assert_close("F.conv2d(x, weight, bias)", ours.forward(x), nn.functional.conv2d(x, ours.weight, ours.bias))
        ours.weight = torch.randn(4, 3, 3, 3)
        self.assert_close("forward after assigning .weight", ours.forward(x),
                          nn.functional.conv2d(x, ours.weight, ours.bias))  # fmt: skip

    def test_losses(self):
        for name in ("MSE", "L1Loss"):
            ours, theirs = getattr(scratch(), name)(), getattr(nn, name.replace("MSE", "MSELoss"))()
            x, target = torch.randn(3, 2, 5, requires_grad=True), torch.randn(3, 2, 5)
            with torch.enable_grad():
                expected = theirs(x, target)
                expected.backward()
            self.assert_close(f"{name}.forward", ours.forward(x, target), expected.detach())
            self.assert_close(f"{name}.backward", ours.backward(), x.grad)
            self.assert_close(f"{name}.backward(3)", ours.backward(3), 3 * x.grad)

    def test_skip(self):
        ours = scratch().Skip(scratch().Conv2d(4, 4, 3, padding=1))
        x = torch.randn(2, 4, 5, 6, requires_grad=True)
        with torch.enable_grad():
            expected = nn.functional.conv2d(x, ours.body.weight, ours.body.bias, padding=1) + x
            upstream = torch.randn_like(expected)
            expected.backward(upstream)
        self.assert_close("Skip.forward", ours.forward(x), expected.detach())
        self.assert_close("Skip.backward", ours.backward(upstream), x.grad)

    def test_modules_without_parameters(self):
        for name in ("ReLU", "Sigmoid", "MSE"):
            got = getattr(scratch(), name)().param()
            self.assertTrue(got == [], f"{name}().param(): expected [], got {got}")

    def test_import_from_inside_the_folder(self):
        script = "from model import Model, Conv2d, SGD, Sequential; m = Model(); m.load_pretrained_model()"
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=project / "Miniproject_2", capture_output=True, text=True
        )
        error = done.stderr.strip().splitlines()[-1:]
        self.assertTrue(done.returncode == 0, f"expected `{script}` to work inside Miniproject_2, got {error}")

    def test_gradients_accumulate(self):
        conv, x, upstream = scratch().Conv2d(2, 3, 3), torch.randn(2, 2, 5, 5), torch.randn(2, 3, 3, 3)
        conv.forward(x)
        conv.backward(upstream)
        once = conv.param()[0][1].clone()
        conv.backward(upstream)
        self.assert_close("gradient after two backwards", conv.param()[0][1], 2 * once)
        conv.zero_grad()
        self.assert_close("gradient after zero_grad", conv.param()[0][1], 0 * once)

    def test_sgd(self):
        options = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
        ours = scratch().Conv2d(2, 3, 3)
        theirs = nn.Conv2d(2, 3, 3)
        theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
        steps = scratch().SGD(ours.param(), **options), torch.optim.SGD(theirs.parameters(), **options)
        for _ in range(5):
            x = torch.randn(2, 2, 6, 6)
            with torch.enable_grad():
                output = theirs(x)
                upstream = torch.randn_like(output)
                steps[1].zero_grad()
                output.backward(upstream)
            steps[0].zero_grad()
            ours.forward(x)
            ours.backward(upstream)
            for optimizer in steps:
                optimizer.step()
        self.assert_close("weight after 5 steps of SGD", ours.weight, theirs.weight.detach())


class OneLine(unittest.TextTestResult):
    """Prints one line for each failure: the assertion, not the traceback (which -v adds at the end)."""

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.tell(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self.tell(test, error)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.tell(subtest, error)

    def tell(self, test, error):
        message = " ".join(str(error[1]).split())
        kind = "" if issubclass(error[0], AssertionError) else f"{error[0].__name__}: "
        self.stream.writeln(
            f"FAILED {test.id().split('.', 1)[-1]}: {kind}{message.split(' : ')[-1] if not kind else message}"
        )

    def printErrors(self):
        if self.showAll:
            super().printErrors()


def main():
    global project, data_folder
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-p", "--project-path", type=Path, default=project, metavar="PROJECT_FOLDER")
    parser.add_argument("-d", "--data-path", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("-v", "--verbose", action="store_true", help="name every test, show tracebacks")
    args = parser.parse_args()
    project, data_folder = args.project_path.resolve(), args.data_path
    missing = [
        name for name in ("train_data.pkl", "val_data.pkl") if data_folder and not (data_folder / name).is_file()
    ]
    if missing:
        parser.error(f"no {' and no '.join(missing)} in {data_folder}")
    if not (project / "Miniproject_2" / "model.py").is_file():
        parser.error(f"no Miniproject_2/model.py in {project}")
    if data_folder:
        try:
            load("train"), load("val")
        except ValueError as error:
            parser.error(str(error))
    sys.path[0] = str(project)  # not this file's folder, which may be another
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    runner = unittest.TextTestRunner(resultclass=OneLine, verbosity=1 + args.verbose)
    return 0 if runner.run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
