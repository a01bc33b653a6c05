"""What any denoiser with the interface of the assignment must do: a public suite, in the spirit of scikit-learn's
check_estimator.

    python -m others.check_denoiser Miniproject_2.model:Model [ARGUMENT ...]

    @pytest.mark.parametrize("check", check_denoiser(Model))
    def test_denoiser(check):
        check()

The interface: `Model()`, `load_pretrained_model()`, `train(train_input, train_target, num_epochs)` and
`predict(test_input)`, images (N, 3, H, W), uint8 or float in 0-255. A refusal is a TypeError or ValueError whose
message names what came. The loaded weights must gain a decibel on generated images.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import ctypes
import gc
import inspect
import io
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial, wraps
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch

from . import data
from .evaluation import metrics
from .inference import transform

TOLERANCE = 1e-5 * 255
EPOCH_SECONDS = 300  # the hand-out's limit for 50,000 pairs of 32 x 32 on a CPU, which it does not describe: taken for
FLOPS = 4 * 2e9 * 32  # a modest laptop's, four cores of 2 GHz that do 32 operations a cycle, in fp32 products a second
MEMORY = 4 * 2**30  # bytes that a prediction of 512 x 512 and a training step may add to what the process holds
REFUSALS = TypeError, ValueError


class Denoiser(Protocol):
    """The interface of the assignment."""

    def load_pretrained_model(self) -> None: ...

    def train(self, train_input: torch.Tensor, train_target: torch.Tensor, num_epochs: int) -> object: ...

    def predict(self, test_input: torch.Tensor) -> torch.Tensor: ...


Makes: TypeAlias = Callable[[], Denoiser]  # a class, or any callable that makes one
Check: TypeAlias = Callable[[Makes], None]
CHECKS: list[Check] = []


def check_denoiser(Model: Makes) -> list[Callable[[], None]]:
    """The checks of `Model`, a class or any callable that makes one: a list of functions without arguments, named, that
    raise AssertionError with a one-line reason (or whatever the Model raises) when a promise is broken."""
    return [wraps(function)(partial(function, Model)) for function in CHECKS]


def failures(Model: Makes) -> Iterator[tuple[str, str | None]]:
    """Run all checks; yield (name, None or a one-line reason). What the Model prints is not shown."""
    for check in check_denoiser(Model):
        reason = None
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                check()
        except Exception as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            reason = " ".join(f"{kind}{error}".split())
        yield check.__name__, reason


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


def expect(condition: object, reason: str) -> None:
    if not condition:
        raise AssertionError(reason)


# ------------------------------------------------------------------------------------------------ what checks use


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random uint8 pixels; (2, 3, 32, 32) without a shape."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape or (2, 3, 32, 32), dtype=torch.uint8, generator=generator)


def pairs(count: int, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    return images(count, 3, size, size, seed=1), images(count, 3, size, size, seed=2)


@cache
def scenes() -> list[torch.Tensor]:
    """(noisy, another noisy version, clean) of 24 generated images, eight orientations each: uint8 (192, 3, 32, 32)."""
    return [torch.cat([transform(version, turns, mirror) for turns in range(4) for mirror in (False, True)])
            for version in data.generated(24, 2, True)]  # fmt: skip


def natural(count: int, height: int = 32, width: int = 32) -> Iterator[torch.Tensor]:
    """(noisy, clean) of so many natural images, uint8 (count, 3, height, width): those larger than a scene are laid out
    of scenes, in an order that looks random."""
    down, across = -(-height // 32), -(-width // 32)
    order = torch.arange(count * down * across) * 77 % 192  # 77 has no factor in common with 192
    for version in scenes()[::2]:
        tiles = version[order].view(count, down, across, 3, 32, 32).permute(0, 3, 1, 4, 2, 5)
        yield tiles.reshape(count, 3, down * 32, across * 32)[:, :, :height, :width].contiguous()


def loaded(Model: Makes) -> Denoiser:
    model = Model()
    model.load_pretrained_model()
    return model


def after_training(start: Denoiser, first: torch.Tensor, second: torch.Tensor, epochs: int = 1) -> torch.Tensor:
    """What a copy of `start` predicts when it was trained on these pairs."""
    twin = copy.deepcopy(start)
    twin.train(first, second, epochs)
    return twin.predict(images())


def squared_error(pixels: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    return (pixels.float() - clean.float()).square()


def expect_same(what: str, got: torch.Tensor, wanted: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    """Shape and values; tolerance in pixel values, 0 for the same bits."""
    expect(got.shape == wanted.shape, f"{what}: expected shape {tuple(wanted.shape)}, got {tuple(got.shape)}")
    difference = float((got.detach().double() - wanted.detach().double()).abs().max()) if got.numel() else 0.0
    expect(difference <= tolerance, f"{what}: results differ by {difference:.3g} of 255, allowed {tolerance:.3g}")


def expect_pixels(what: str, output: Any, shape: Sequence[int]) -> None:
    """Finite floats of this shape in [0, 255]."""
    expect(isinstance(output, torch.Tensor), f"{what}: expected a tensor, got {type(output).__name__}")
    expect(tuple(output.shape) == tuple(shape), f"{what}: expected shape {tuple(shape)}, got {tuple(output.shape)}")
    expect(output.is_floating_point(), f"{what}: expected floating point, got {output.dtype}")
    if output.numel():
        low, high = float(output.min()), float(output.max())
        expect(low >= 0 and high <= 255, f"{what}: expected values in [0, 255], got [{low:.4g}, {high:.4g}]")


def expect_refusal(what: str, call: Callable[[], Any], *named: str) -> None:
    """`call` raises TypeError or ValueError, with one of `named` in the message."""
    try:
        result = call()
    except REFUSALS as error:
        expect(any(name in str(error) for name in named),
               f"{what}: expected the error to name {named[0]}, got {type(error).__name__}: {error}")  # fmt: skip
    except Exception as error:
        raise AssertionError(
            f"{what}: expected TypeError or ValueError, got {type(error).__name__}: {error}"
        ) from error
    else:
        raise AssertionError(f"{what}: expected an error, got {getattr(result, 'shape', result)!r}")


def refused(call: Callable[[], Any]) -> tuple[bool, Any]:
    """Whether `call` raises TypeError or ValueError with a message; otherwise (False, its result)."""
    try:
        return False, call()
    except REFUSALS as error:
        expect(str(error), f"expected an error with a message, got an empty {type(error).__name__}")
        return True, None


def global_state() -> dict[str, object]:
    """What a library could change behind its user's back, by name."""
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "Python's random state": random.getstate(),
        "gradient mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "number of threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "working directory": str(Path.cwd()),
        "signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }


@contextlib.contextmanager
def expect_no_change(what: str) -> Iterator[None]:
    before = global_state()
    yield
    changed = [name for name, value in global_state().items() if value != before[name]]
    expect(not changed, f"{what} changed the {', the '.join(changed)}")


# ------------------------------------------------------------------------------------------------------- predict


@check
def predict_gives_pixels_of_the_same_shape(Model: Makes) -> None:
    expect_pixels("predict", Model().predict(images()), (2, 3, 32, 32))


@check
def predict_takes_the_graders_image(Model: Makes) -> None:
    generator = torch.Generator().manual_seed(0)
    output = Model().predict(torch.rand(1, 3, 512, 512, generator=generator) * 255)
    expect_pixels("predict of 512 x 512", output, (1, 3, 512, 512))


@check
def predict_answers_on_the_device_of_the_input(Model: Makes) -> None:
    model = Model()
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        got = model.predict(images().to(device)).device.type
        expect(got == device, f"predict of an image on {device}: the result is on {got}")


@check
def predict_gives_the_same_for_uint8_and_float(Model: Makes) -> None:
    model = Model()
    for dtype in (torch.float32, torch.float64):
        expect_same(f"uint8 against {dtype}", model.predict(images().to(dtype)), model.predict(images()))


@check
def predict_keeps_the_fractions_of_floats(Model: Makes) -> None:
    model, pixels = Model(), images().float().clamp(1, 254)
    expect(
        not torch.equal(model.predict(pixels + 0.4), model.predict(pixels)), "0.4 more in every pixel changed nothing"
    )


@check
def predict_treats_other_integers_as_pixels_or_refuses_them(Model: Makes) -> None:
    model = Model()
    for dtype in (torch.int16, torch.int32, torch.int64):
        no, output = refused(partial(model.predict, images().to(dtype)))
        if not no:
            expect_same(f"uint8 against {dtype}", output, model.predict(images()))


def layouts(pixels: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The same float pixels, laid out in memory in other ways, and as tensors that cannot or must not be written."""
    wide = torch.zeros(2 * len(pixels), 3, 40, 50)
    wide[::2, :, 3:35, 5:37] = pixels
    yield "contiguous", pixels.clone()
    yield "channels last", pixels.to(memory_format=torch.channels_last)
    yield "transposed", pixels.transpose(2, 3).contiguous().transpose(2, 3)
    yield "sliced", wide[::2, :, 3:35, 5:37]
    yield "requires_grad", pixels.clone().requires_grad_()
    yield "expanded", pixels[:1].expand(len(pixels), -1, -1, -1)
    yield "inference", inference_tensor(pixels)


def inference_tensor(pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return pixels.clone()


@check
def predict_takes_any_memory_layout(Model: Makes) -> None:
    model = Model()
    for name, pixels in layouts(images().float()):
        output = model.predict(pixels)
        expect_same(f"{name} input", output, model.predict(pixels.detach().contiguous()))
        expect(not output.requires_grad, f"{name} input: the result requires a gradient")


@check
def predict_leaves_its_input_alone(Model: Makes) -> None:
    model = Model()
    for name, pixels in layouts(images().float()):
        before = pixels.detach().clone()
        model.predict(pixels)
        expect(torch.equal(pixels.detach(), before), f"{name} input was changed by predict")
        expect(pixels.is_inference() or pixels.grad is None, f"{name} input got a gradient from predict")


@check
def predict_leaves_read_only_memory_alone(Model: Makes) -> None:
    buffer = bytes(images().flatten().tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the buffer cannot be written
        pixels = torch.frombuffer(buffer, dtype=torch.uint8).view(2, 3, 32, 32)
    Model().predict(pixels)
    expect(buffer == bytes(images().flatten().tolist()), "predict wrote into read-only memory")


@check
def predict_gives_the_same_for_any_batch_split_and_order(Model: Makes) -> None:
    model, pixels = Model(), images(7, 3, 32, 32)
    whole = model.predict(pixels)
    for size in (1, 2, 3):
        parts = torch.cat([model.predict(part) for part in pixels.split(size)])
        expect_same(f"batches of {size} against one of 7", parts, whole)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    expect_same("another order", model.predict(pixels[order]), whole[order])


@check
def predict_takes_a_batch_of_one(Model: Makes) -> None:
    expect_pixels("a batch of one", Model().predict(images(1, 3, 32, 32)), (1, 3, 32, 32))


@check
def predict_takes_an_empty_batch(Model: Makes) -> None:
    expect_pixels("an empty batch", Model().predict(images(0, 3, 32, 32)), (0, 3, 32, 32))


@check
def predict_takes_any_height_and_width(Model: Makes) -> None:
    model = Model()
    for size in ((1, 1), (1, 2), (2, 1), (31, 33), (5, 64), (3, 200), (200, 3), (30, 30), (32, 36)):
        expect_pixels(f"predict of {size[0]} x {size[1]}", model.predict(images(2, 3, *size)), (2, 3, *size))


@check
def predict_refuses_wrong_shapes(Model: Makes) -> None:
    model = Model()
    for shape in ((32, 32), (3, 32, 32), (1, 2, 3, 32, 32), (2, 1, 32, 32), (2, 4, 32, 32), (2, 32, 32, 3)):
        expect_refusal(f"predict of shape {shape}", partial(model.predict, images(*shape)), str(shape),
                       str(list(shape)))  # fmt: skip


@check
def predict_refuses_what_is_no_tensor(Model: Makes) -> None:
    model = Model()
    strange: list[Any] = [None, [[1.0]], "image.png"]
    for value in strange:
        kind = type(value).__name__
        expect_refusal(f"predict of a {kind}", partial(model.predict, value), kind)


@check
def predict_treats_or_refuses_values_that_are_no_pixels(Model: Makes) -> None:
    model = Model()
    for value in (float("nan"), float("inf"), -float("inf"), -1000.0, 1e6, 3e38, 1e300):
        one, all_of_them = (images().to(torch.float64 if value == 1e300 else torch.float32) for _ in range(2))
        one[0, 0, 0, 0] = all_of_them[0] = value
        for what, pixels in ((f"an image with {value}", one), (f"an image of {value}", all_of_them)):
            no, output = refused(partial(model.predict, pixels))
            if not no:
                expect(not output.isnan().any(), f"predict of {what}: got NaN")
                expect_pixels(f"predict of {what}", output, pixels.shape)


@check
def predict_repeats_bit_by_bit(Model: Makes) -> None:
    model = Model()
    expect_same("the same prediction twice", model.predict(images()), model.predict(images()), 0)


@check
def predict_depends_on_the_image(Model: Makes) -> None:
    output = Model().predict(images(2, 3, 32, 32))
    expect(not torch.equal(output[0], output[1]), "two different images have the same result")


@check
def predict_from_two_threads_at_once(Model: Makes) -> None:
    model, found = Model(), {}
    inputs = [images(4, 3, 40, 40, seed=seed) for seed in range(2)]
    wanted = [model.predict(pixels).clone() for pixels in inputs]

    def work(number):
        found[number] = [model.predict(inputs[number]) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(2):
        expect(number in found, f"predict in thread {number} of two raised an error")
        for output in found[number]:
            expect_same("predict from two threads at once", output, wanted[number])


@check
def predict_takes_constant_images(Model: Makes) -> None:
    model = Model()
    for value in (0, 128, 255):
        pixels = torch.full((2, 3, 32, 32), value, dtype=torch.uint8)
        expect_pixels(f"predict of an image of {value}", model.predict(pixels), pixels.shape)


@check
def predict_depends_on_no_earlier_call(Model: Makes) -> None:
    """Whatever was predicted or refused in between, an image has the same result, and no result is overwritten."""
    model, (pixels, _) = loaded(Model), natural(4)
    result = model.predict(pixels)
    kept = result.clone()
    for what, other in (
        ("other images of this shape", 255 - pixels),
        ("a larger image", next(natural(1, 90, 130))),
        ("a smaller image", pixels[:, :, :5, :7]),
        ("floats", pixels.double() / 300),
        ("a refused image", pixels[0]),
    ):
        with contextlib.suppress(*REFUSALS):
            model.predict(other)
        expect(torch.equal(result, kept), f"predict of {what} overwrote an earlier result")
        expect_same(f"the same prediction before and after that of {what}", model.predict(pixels), kept, 0)


# ------------------------------------------------------------------------------- predict, with the loaded weights


@check
def an_image_is_denoised_alike_alone_and_among_many(Model: Makes) -> None:
    """Natural images of very different brightness: among noise of one mean a share of the batch's goes unnoticed."""
    model, (pixels, _) = loaded(Model), natural(150)
    pixels[1::3] //= 8
    pixels[2::3] = 255 - pixels[2::3] // 8
    alone = torch.cat([model.predict(image) for image in pixels.split(1)])
    expect_each_same("150 images of 32 x 32", model.predict(pixels), alone)
    small, _ = natural(1100)
    small = small[:, :, 12:20, 12:20]
    parts = torch.cat([model.predict(part) for part in small.split(100)])
    expect_each_same("1,100 images of 8 x 8", model.predict(small), parts)


def expect_each_same(what: str, together: torch.Tensor, alone: torch.Tensor) -> None:
    expect_same(f"{what}, together and in parts", together[:0], alone[:0])
    worst = (together.double() - alone.double()).abs().flatten(1).amax(1)
    wrong = (worst > TOLERANCE).nonzero().flatten().tolist()
    expect(not wrong, f"{what}, together and in parts: {len(wrong)} of them differ, the first is image "
                      f"{wrong[0] + 1 if wrong else 0}, by up to {float(worst.max()):.3g} of 255")  # fmt: skip


SHAPES = (150, 32, 32), (150, 31, 29), (8, 40, 130), (8, 130, 40), (1, 300, 450)  # many, odd, wide, tall, large


def denoised(Model: Makes) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(name, noisy, output, clean) of images of each of SHAPES."""
    model = loaded(Model)
    for shape in SHAPES:
        noisy, clean = natural(*shape)
        yield f"{shape[0]} of {shape[1]} x {shape[2]}", noisy, model.predict(noisy), clean


@check
def loaded_weights_denoise_every_row_column_and_channel(Model: Makes) -> None:
    """Every channel and every strip of 16 rows or columns gets nearer to the clean image; no single row or column, at
    the border too, stays as it came or is lost."""
    for what, noisy, output, clean in denoised(Model):
        expect_pixels(what, output, noisy.shape)
        maps = [squared_error(*both).mean(0) for both in ((noisy, clean), (output, clean), (output, noisy))]
        for name, others in (("channel", (1, 2)), ("row", (0, 2)), ("column", (0, 1))):
            before, after, changed = (part.mean(others) for part in maps)
            strips = [
                part.unfold(0, min(16, len(part)) if name != "channel" else 1, 1).mean(1) for part in (after, before)
            ]
            for where, worse in (
                (f"{name}s from" if name != "channel" else name, strips[0] >= strips[1]),
                (name, after > 4 * before),
                (f"as it came: {name}", changed < 0.1 * changed.mean()),
            ):
                first = int(worse.to(torch.uint8).argmax())
                expect(
                    not worse.any(),
                    f"{what}, {where} {first + 1}: mean squared error {after[first]:.0f}, of the noisy images "
                    f"{before[first]:.0f}; so {int(worse.sum())} of {len(worse)}",
                )


@check
def loaded_weights_leave_everything_in_its_place(Model: Makes) -> None:
    """Every strip of the result is nearer to the clean image than to that moved by a pixel, and every channel to its
    own than to another."""
    for what, _, output, clean in denoised(Model):
        places = [(down, right) for down in (0, -1, 1) for right in (0, -1, 1)]  # its own is the first
        errors = torch.stack([squared_error(*overlap(output, clean, *place)).mean((0, 1)) for place in places])
        for name, profile in (("rows", errors.mean(2)), ("columns", errors.mean(1))):
            for start, strip in zip(range(1, 10**6, 16), profile.unfold(1, min(32, profile.shape[1]), 16).mean(2).T):
                down, right = places[int(strip.argmin())]
                expect(down == right == 0, f"{what}, {name} from {start + 1}: the result lies {down} pixels below and "
                                           f"{right} to the right of the image")  # fmt: skip
    for light in ((1, 0.7, 0.4), (0.4, 0.7, 1)):
        noisy, clean = ((version * torch.tensor(light).view(3, 1, 1)).to(torch.uint8) for version in natural(24))
        output = loaded(Model).predict(noisy)
        colours = "red", "green", "blue"
        for channel, colour in enumerate(colours):
            nearest = colours[squared_error(output[:, [channel]], clean).mean((0, 2, 3)).argmin()]
            expect(nearest == colour, f"coloured light: the {colour} of the result is nearest to the image's {nearest}")


def overlap(output: torch.Tensor, clean: torch.Tensor, down: int, right: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`output` without its border of a pixel, and the part of `clean` that lies there when it is moved back."""
    height, width = output.shape[2:]
    return output[:, :, 1:-1, 1:-1], clean[:, :, 1 - down : height - 1 - down, 1 - right : width - 1 - right]


@check
def large_images_have_no_seams(Model: Makes) -> None:
    """Far from the borders an image's result is that of the same image cut off at the upper left, unless something
    happens at fixed places. What depends on the whole image changes everywhere, a seam in few rows or columns."""
    model, (noisy, _), cut, far = loaded(Model), natural(1, 300, 700), 80, 100
    whole, part = model.predict(noisy), model.predict(noisy[:, :, cut:, cut:])
    difference = (whole[:, :, cut + far :, cut + far :] - part[:, :, far:, far:]).abs()
    for name, others in (("row", (0, 1, 3)), ("column", (0, 1, 2))):
        profile = difference.mean(others)
        usual, worst = float(profile.median()), float(profile.max())
        expect(worst < 0.25 + 4 * usual,
               f"300 x 700, {name} {int(profile.argmax()) + cut + far + 1} depends on where the image begins: it "
               f"differs by {worst:.2g} of 255 on average, most {name}s by {usual:.2g}: a seam")  # fmt: skip


@check
def exposure_is_kept(Model: Makes) -> None:
    """A dark image, of floats at most 1 too, stays dark, a bright one bright."""
    model, (pixels, _) = loaded(Model), natural(4)
    for share in (1 / 255, 0.05, 0.25, 0.5, 1):
        for name, image in (("dark", pixels * share), ("bright", 255 - pixels * share)):
            change = float(model.predict(image).mean() - image.float().mean())
            what = f"{name} floats, {float(image.min()):.3g} to {float(image.max()):.3g}"
            expect(abs(change) < 32, f"{what}: the mean changes by {change:+.0f} of 255")
            whole = image.round().to(torch.uint8)
            for dtype in (torch.float32, torch.float64):
                expect_same(
                    f"{what}, rounded, uint8 against {dtype}", model.predict(whole.to(dtype)), model.predict(whole)
                )


@check
def results_use_the_whole_range(Model: Makes) -> None:
    """Neither few values nor many equal ones where it ends, short of 0 and 255."""
    model, (pixels, _) = loaded(Model), natural(24)
    found = len(model.predict(pixels).unique())
    expect(found >= 100, f"24 natural images: the result has only {found} different values")
    if not (whole := model.predict(pixels)).equal(whole.round()):  # whole numbers are many equal ones
        for name, noise in (("dark", images() // 64), ("bright", 255 - images() // 64)):
            output = model.predict(noise)
            for end, limit in ((output.min(), 0), (output.max(), 255)):
                share = float((output == end).float().mean())
                expect(
                    share < 0.1 or abs(end - limit) < 0.5,
                    f"{name} noise: {share:.0%} of the result are {end:.4g}: clipped",
                )


# ------------------------------------------------------------------------------------------------- global state

MODES = {"gradients on": torch.enable_grad, "gradients off": torch.no_grad, "inference mode": torch.inference_mode}


@check
def works_in_every_gradient_mode(Model: Makes) -> None:
    model = Model()
    wanted = model.predict(images())
    for name, mode in MODES.items():
        with mode():
            output = model.predict(images())
            expect_same(f"predict with {name}", output, wanted)
            expect(not output.requires_grad, f"predict with {name}: the result requires a gradient")
            other = Model()
            other.train(*pairs(3), 1)
        expect_pixels(f"a Model trained with {name}", other.predict(images()), (2, 3, 32, 32))
        other.train(*pairs(3), 1)


@check
def works_with_default_dtype_float64(Model: Makes) -> None:
    model, before = Model(), torch.get_default_dtype()
    wanted = model.predict(images())
    try:
        torch.set_default_dtype(torch.float64)
        expect_same("predict under default dtype float64", model.predict(images()), wanted)
        model = Model()
        model.train(*pairs(3), 1)
        expect_pixels("under default dtype float64, predict", model.predict(images()), (2, 3, 32, 32))
        expect(torch.get_default_dtype() == torch.float64, "the default dtype was changed")
    finally:
        torch.set_default_dtype(before)


@check
def leaves_the_global_state_as_it_was(Model: Makes) -> None:
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            with expect_no_change("Model()"):
                model = Model()
            with expect_no_change("predict"):
                model.predict(images())
            with expect_no_change("train"):
                model.train(*pairs(3), 1)
            with expect_no_change("load_pretrained_model"):
                model.load_pretrained_model()


IMPORT = """
import os, random, sys, warnings
with warnings.catch_warnings():  # torch's own
    warnings.simplefilter("ignore")
    import torch
def state():
    return [torch.get_rng_state().tolist(), random.getstate(), torch.is_grad_enabled(), torch.get_default_dtype(),
            torch.get_num_threads(), os.getcwd(), sorted(os.environ.items()), os.listdir()]
before = state()
import importlib
importlib.import_module(sys.argv[1])
names = "torch's random state, Python's, gradient mode, default dtype, threads, folder, environment, files".split(", ")
changed = [name for name, old, new in zip(names, before, state()) if old != new]
sys.exit(f"importing changed: {', '.join(changed)}" if changed else 0)
"""


@check
def importing_has_no_side_effects(Model: Makes) -> None:
    """In a process and an empty folder of its own: no output, no files, no changed settings."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", IMPORT, inspect.unwrap(getattr(Model, "func", Model)).__module__]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{(done.stderr.strip().splitlines() or ['the import failed'])[-1]}")
    printed = (done.stdout + done.stderr).strip().splitlines()
    expect(not printed, f"importing printed {printed[-1][:80]!r}" if printed else "")


# --------------------------------------------------------------------------------------------------------- train


@check
def train_without_epochs_changes_nothing(Model: Makes) -> None:
    model = Model()
    before = model.predict(images())
    model.train(*pairs(3), 0)
    expect_same("predict before and after 0 epochs", model.predict(images()), before, 0)


@check
def train_changes_the_weights(Model: Makes) -> None:
    model = Model()
    before = model.predict(images())
    model.train(*pairs(40), 1)
    expect(not torch.equal(model.predict(images()), before), "one epoch of training left predict as it was")


@check
def train_takes_seven_epochs(Model: Makes) -> None:
    model = Model()
    twin = copy.deepcopy(model)
    model.train(*pairs(5), 7)
    twin.train(*pairs(5), 1)
    expect_pixels("predict after 7 epochs", model.predict(images()), (2, 3, 32, 32))
    expect(not torch.equal(model.predict(images()), twin.predict(images())), "7 epochs gave what 1 gives")


@check
def train_learns_from_both_versions_of_every_pair(Model: Makes) -> None:
    model, (first, second) = Model(), pairs(64)
    other = images(64, 3, 16, 16, seed=3)
    trained = after_training(model, first, second)
    quarter, everything = slice(12, None), slice(None)
    for what, part in (
        ("set of targets", ...),
        ("last target", slice(63, None)),
        ("last quarter of rows", (..., quarter, everything)),
        ("last quarter of columns", (..., quarter)),
        ("blue", (everything, 2)),
    ):
        targets = second.clone()
        targets[part] = other[part]
        same = torch.equal(after_training(model, first, targets), trained)
        expect(not same, f"training on pairs with another {what} gave the same")


@check
def train_uses_all_pairs(Model: Makes) -> None:
    """Also those after the 1,000th, and the last of 37 and 101, which no batch size divides."""
    model = loaded(Model)
    for count, used in ((37, 36), (101, 100), (1101, 1000)):
        first, second = pairs(count, 8)
        trained, targets = after_training(model, first, second), second.clone()
        targets[used:] = 255 - targets[used:]
        same = torch.equal(after_training(model, first, targets), trained)
        expect(not same, f"training on {count} pairs: other targets after the first {used} gave the same")


@check
def train_keeps_the_versions_of_a_pair_and_their_channels_together(Model: Makes) -> None:
    """Red and blue images: with targets of their own colour, what sets them apart stays; with exchanged ones it
    falls."""
    model = loaded(Model)
    red = images(64, 1, 1, 1) % 2 == 1
    noise = images(64, 3, 16, 16, seed=1) // 8
    own, exchanged = noise.clone(), noise.clone()
    for version, reds in ((own, red), (exchanged, ~red)):
        version[:, ::2] += torch.cat((reds, ~reds), 1) * torch.tensor(200, dtype=torch.uint8)

    def contrast(targets=None):
        twin = copy.deepcopy(model)
        if targets is not None:
            twin.train(own, targets, 2)
        output = twin.predict(own)
        difference = (output[:, 0] - output[:, 2]).mean((1, 2))
        return float((difference * (red.flatten() * 2 - 1)).mean())

    start, kept, lost = contrast(), contrast(own.flip(3)), contrast(exchanged)
    expect(start - kept < (start - lost) / 2,
           f"red and blue images differ by {start:.2f} of 255, after training on targets of their own colour by "
           f"{kept:.2f}, of the other by {lost:.2f}: the pairs are not kept together")  # fmt: skip


@check
def train_takes_any_number_of_pairs(Model: Makes) -> None:
    """1 and 3: a batch larger than the data. 37 and 101: a last short batch, for every batch size but 37 and 101."""
    for count in (1, 2, 3, 37, 101):
        model = Model()
        output = after_training(model, *pairs(count, 8))
        expect_pixels(f"predict after training on {count} pairs", output, (2, 3, 32, 32))
        expect(not torch.equal(output, model.predict(images())), f"training on {count} pairs changed nothing")


@check
def train_takes_uint8_and_float_alike(Model: Makes) -> None:
    start = Model()
    for what, versions in (("", pairs(5)), ("dark, ", [version // 128 for version in pairs(5)])):
        outputs = {}
        for dtype in (torch.uint8, torch.float32, torch.float64):
            before = [version.to(dtype) for version in versions]
            given = [version.clone() for version in before]
            outputs[dtype] = after_training(start, given[0], given[1])
            expect(all(map(torch.equal, given, before)), f"train changed its {dtype} input")
            expect_pixels(f"predict after training on {dtype}", outputs[dtype], (2, 3, 32, 32))
            expect_same(f"{what}training on uint8 against {dtype}", outputs[dtype], outputs[torch.uint8])


@check
def train_takes_any_memory_layout(Model: Makes) -> None:
    """The same weights as from contiguous images, nearly: a tenth of what a training changes is allowed."""
    start = Model()
    untrained = start.predict(images())
    for (name, first), (_, second) in zip(layouts(images().float()), layouts(images(seed=1).float())):
        before = first.detach().clone()
        output = after_training(start, first, second)
        expect(torch.equal(first.detach(), before), f"{name} input was changed by train")
        expect_pixels(f"predict after training on {name} images", output, (2, 3, 32, 32))
        wanted = after_training(start, before.contiguous(), second.detach().contiguous())
        allowed = float((wanted - untrained).abs().max()) / 10
        expect_same(f"training on {name} against contiguous images", output, wanted, allowed)


@check
def train_goes_on_after_a_prediction(Model: Makes) -> None:
    """From the weights of the training before: what that one was given makes a difference."""
    start, outputs = Model(), []
    first, second = pairs(20)
    for one, other in ((first, second), (second, first), (255 - first, 255 - second)):
        model = copy.deepcopy(start)
        model.train(one, other, 1)
        before = model.predict(images())
        model.train(*pairs(20), 1)
        outputs.append(model.predict(images()))
        expect_pixels("train, predict, train, predict", outputs[-1], (2, 3, 32, 32))
        expect(not torch.equal(before, outputs[-1]), "training after a prediction changed nothing")
    expect(not torch.equal(outputs[0], outputs[2]), "a second training gave the same after two different first ones")


@check
def predict_after_training_repeats_and_splits(Model: Makes) -> None:
    """As before: no dropout, no statistics of the batch."""
    model, (pixels, _) = loaded(Model), natural(7)
    pixels[::2] //= 8
    model.train(*pairs(20), 1)
    whole = model.predict(pixels)
    expect_same("after training, the same prediction twice", model.predict(pixels), whole, 0)
    alone = torch.cat([model.predict(image) for image in pixels.split(1)])
    expect_each_same("after training, 7 images", whole, alone)


@check
def train_takes_constant_images(Model: Makes) -> None:
    for value in (0, 255):
        model, constant = Model(), torch.full((4, 3, 16, 16), value, dtype=torch.uint8)
        model.train(constant, constant, 2)
        expect_pixels(f"predict after training on images of {value}", model.predict(images()), (2, 3, 32, 32))


@check
def train_refuses_pairs_that_do_not_match(Model: Makes) -> None:
    model = Model()
    before = model.predict(images())
    for first, second in (((3, 3, 16, 16), (2, 3, 16, 16)), ((2, 3, 16, 16), (2, 3, 16, 8)), ((2, 1, 8, 8),) * 2):
        expect_refusal(f"training on {first} and {second}",
                       partial(model.train, images(*first), images(*second), 1),
                       *(text for shape in (second, first) for text in (str(shape), str(list(shape)))))  # fmt: skip
        expect_same("predict before and after a refused training", model.predict(images()), before, 0)


@check
def train_treats_or_refuses_values_that_are_no_pixels(Model: Makes) -> None:
    for value in (float("nan"), float("inf")):
        model, (first, second) = Model(), [version.float() for version in pairs(3)]
        first[0, 0, 0, 0] = value
        refused(partial(model.train, first, second, 1))
        output = model.predict(images())
        expect(not output.isnan().any(), f"training on {value} made the weights NaN")


@check
def train_repeats_from_the_same_weights(Model: Makes) -> None:
    """Two copies of one Model, trained alike under other random states, agree."""
    first = Model()
    second = copy.deepcopy(first)
    for _ in range(2):
        first.train(*pairs(20), 1)
        with torch.random.fork_rng(devices=[]):
            torch.rand(7)
            second.train(*pairs(20), 1)
    expect_same("two trainings of the same weights", first.predict(images()), second.predict(images()))


# ------------------------------------------------------------------------------------- weights, copies, resources


@check
def loads_its_weights_from_any_folder(Model: Makes) -> None:
    first, second, here = Model(), Model(), os.getcwd()
    first.load_pretrained_model()
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.chdir(folder)
            second.load_pretrained_model()
        finally:
            os.chdir(here)
    wanted = first.predict(images())
    expect_same("weights loaded in two folders", second.predict(images()), wanted, 0)
    second.train(*pairs(20), 1)
    second.load_pretrained_model()
    expect_same("weights loaded once more, after a training", second.predict(images()), wanted, 0)


@check
def loaded_weights_denoise_and_training_does_not_spoil_them(Model: Makes) -> None:
    noisy, another, clean = scenes()
    model = loaded(Model)

    def psnr(pixels):
        return metrics.psnr_a(pixels / 255, clean / 255)

    before = psnr(model.predict(noisy.clone()))
    expect(before > psnr(noisy) + 1, f"loaded weights: {before:.2f} dB from noisy images of {psnr(noisy):.2f} dB")
    model.train(noisy.clone(), another.clone(), 2)
    after = psnr(model.predict(noisy.clone()))
    # half of the gain: an optimiser's first steps may cost more than so few pairs give back
    expect(after > (before + psnr(noisy)) / 2, f"load, train, predict: PSNR A fell from {before:.2f} to {after:.2f} dB")


@check
def pickles_and_copies_are_equal_and_independent(Model: Makes) -> None:
    model = Model()
    wanted = model.predict(images())
    for name, make in (("pickle", lambda m: pickle.loads(pickle.dumps(m))), ("deepcopy", copy.deepcopy)):
        try:
            twin = make(model)
        except Exception as error:  # pickle raises what the object's own methods raise
            raise AssertionError(f"{name} of a model failed: {error}") from error
        expect_same(f"predict after {name}", twin.predict(images()), wanted, 0)
        twin.train(*pairs(20), 1)
        expect_same(f"training a {name} changed the original: predict", model.predict(images()), wanted, 0)
        expect(not torch.equal(twin.predict(images()), wanted), f"training a {name} changed nothing")


@check
def two_models_are_independent(Model: Makes) -> None:
    first, second = Model(), Model()
    before = second.predict(images())
    first.train(*pairs(20), 1)
    first.load_pretrained_model()
    expect_same("another Model was trained and loaded: predict", second.predict(images()), before, 0)


def seconds_of(call: Callable[[], Any]) -> float:
    """Time that `call` takes; that in which the machine was busy with something else does not count."""
    started = time.perf_counter(), time.process_time()
    call()
    return min(time.perf_counter() - started[0], time.process_time() - started[1])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A second thread that waits for a busy machine counts as time of the process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def memory_of(call: Callable[[], Any]) -> int:
    """Bytes that `call` adds at most to what the process holds. Where the system does not let the process forget its
    peak, less by what an earlier peak was higher; 0 on Windows, which tells none."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)  # what it kept would be taken again, and not seen
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux
        try:
            from resource import RUSAGE_SELF, getrusage
        except ImportError:
            call()
            return 0
        unit = 1 if sys.platform == "darwin" else 1024
        before = getrusage(RUSAGE_SELF).ru_maxrss
        call()
        return (getrusage(RUSAGE_SELF).ru_maxrss - before) * unit

    def peak() -> int:
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024

    before = peak()
    call()
    return peak() - before


@check
def an_epoch_takes_no_longer_than_allowed(Model: Makes) -> None:
    """50,000 pairs in 300 s on a modest processor of four cores, from the fastest of up to four times 128 pairs on one
    thread. The time counts less by as much as that thread is slower, in the measure of matrix products timed just
    before."""
    model, few, matrix, fastest = Model(), pairs(128, 32), torch.ones(1024, 1024), math.inf
    with one_thread():
        model.train(few[0][:32], few[1][:32], 1)
        for _ in range(4):
            product = seconds_of(lambda: [matrix @ matrix for _ in range(10)]) / 10
            slower = max(1.0, product * FLOPS / (2 * 1024**3))
            fastest = min(fastest, seconds_of(lambda: model.train(*few, 1)) / slower * 50_000 / 128)
            if fastest < EPOCH_SECONDS:
                return
    raise AssertionError(
        f"an epoch of 50,000 pairs would take {fastest:.0f} s on a processor of four cores, allowed {EPOCH_SECONDS} s"
    )


@check
def memory_stays_bounded(Model: Makes) -> None:
    """A prediction of 512 x 512 and 64 pairs of 32 x 32 add at most 4 GiB to what the process holds."""

    def work() -> None:
        model = Model()
        model.predict(images(1, 3, 512, 512))
        model.train(*pairs(64, 32), 1)

    added = memory_of(work)
    expect(added < MEMORY, f"predict and train added {added / 2**30:.1f} GiB, allowed {MEMORY / 2**30:.0f} GiB")


# ------------------------------------------------------------------------------------------------------ command


def find(name: str) -> Any:
    """The object `module:Class`. Raises ValueError for another form, ImportError or AttributeError without it."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"expected module:Class, got {name!r}")
    return getattr(import_module(module), attribute)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check `module:Class`; a line for each failure. -> exit status: 0 when all checks pass, 1, 2 for bad usage"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="module:Class")
    parser.add_argument("arguments", nargs="*", help="strings for the constructor")
    parser.add_argument("-v", "--verbose", action="store_true", help="name the checks that pass, too")
    args = parser.parse_args(arguments)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        Model = find(args.model)
    except (ValueError, ImportError, AttributeError) as error:
        parser.error(f"{args.model}: {error}")
    failed = 0
    for name, reason in failures(partial(Model, *args.arguments) if args.arguments else Model):
        failed += reason is not None
        if reason or args.verbose:
            print(f"FAILED {name}: {reason}" if reason else f"passed {name}", flush=True)
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
