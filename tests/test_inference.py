"""Any size, in pieces, against one pass of the network on a padded image."""

from pathlib import Path

import pytest
import torch
from comparison import mirrored_pad
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from others import denoiser, denoiser_bonus, denoiser_camera, inference
from others.model import Model
from others.nn import receptive_field

CLOSE = {"rtol": 1e-5, "atol": 1e-3}  # of 0-255

NETWORKS = {
    "prescribed": lambda: denoiser.Denoiser(channels=(8, 12)).eval(),
    "rednet": lambda: denoiser_bonus.Denoiser(layers=((8, 3, 1), (12, 3, 2))).eval(),
    "camera": lambda: denoiser_camera.Denoiser(channels=6, blocks=1).eval(),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def unclamped_pass(network, images):
    """The definition: [0, 1], continued mirrored up to a multiple, network, cut."""
    height, width = images.shape[2:]
    outputs = []
    for shift in (0, getattr(network, "shift", 0)):
        below, right = (-(n + shift) % network.multiple for n in (height, width))
        unit = mirrored_pad(images.float() / 255, (shift, right, shift, below))
        outputs.append(network.forward(unit)[:, :, shift : shift + height, shift : shift + width])
    return (outputs[0] + outputs[1]) / 2


def one_pass(network, images):
    return unclamped_pass(network, images).clamp(0, 1) * 255


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 64), (31, 33), (6, 7)])
def test_any_size_is_a_pass_over_the_padded_image(network, pixels, size):
    images = pixels(3, 3, *size)
    torch.testing.assert_close(inference.denoise(network, images), one_pass(network, images), **CLOSE)


def areas(network, size):
    """Pixels of an image of that size in each pass."""
    for shift in (0, network.shift) if hasattr(network, "shift") else (0,):
        height, width = (-(-(n + shift) // network.multiple) * network.multiple for n in size)
        yield height * width


@pytest.mark.parametrize("at_once, sizes", [(3, [3, 3, 1]), (1, [1] * 7), (10**4, [7])])
def test_batches_give_the_same_in_parts(network, pixels, monkeypatch, at_once, sizes):
    images, at_once = pixels(7, 3, 8, 8), at_once * max(areas(network, (8, 8)))
    whole, forward, seen = inference.denoise(network, images), network.forward, []
    monkeypatch.setattr(network, "forward", lambda x: (seen.append(len(x)), forward(x))[1])
    torch.testing.assert_close(inference.denoise(network, images, pixels_at_once=at_once), whole, **CLOSE)
    passes = 2 if hasattr(network, "shift") else 1
    assert seen == [size for size in sizes for _ in range(passes)]


@pytest.mark.parametrize("size", [(70, 61), (200, 5), (3, 210), (64, 64)], ids=str)
@pytest.mark.parametrize("at_once", [1, 900, 2000])
def test_tiles_give_what_the_whole_image_gives(network, pixels, monkeypatch, size, at_once):
    images = pixels(2, 3, *size)
    whole, forward, seen = one_pass(network, images), network.forward, []
    monkeypatch.setattr(network, "forward", lambda x: (seen.append(x.shape[2] * x.shape[3]), forward(x))[1])
    output = inference.denoise(network, images, pixels_at_once=at_once)
    torch.testing.assert_close(output, whole, **CLOSE)
    if size[0] * size[1] > at_once:
        assert len(seen) > 2
        margins = sum(map(sum, receptive_field(network)))  # a tile is not smaller than these, whatever is asked for
        assert max(seen) <= max(at_once, (margins + 4 * network.multiple) ** 2)


@pytest.mark.parametrize("size", [(1, 100), (9, 9), (1, 1), (8, 8)], ids=str)
def test_images_that_are_extended_count_as_what_they_become(network, pixels, monkeypatch, size):
    forward, seen = network.forward, []
    monkeypatch.setattr(network, "forward", lambda x: (seen.append(x.numel() // 3), forward(x))[1])
    inference.denoise(network, pixels(150, 3, *size), pixels_at_once=1024)
    assert sum(seen) == 150 * sum(areas(network, size)) and max(seen) <= 1024


def test_memory_does_not_grow_with_the_image(network, pixels, monkeypatch):
    forward, seen = network.forward, []
    monkeypatch.setattr(network, "forward", lambda x: (seen.append(x.numel() // 3), forward(x))[1])
    inference.denoise(network, pixels(1, 3, 100, 1500), pixels_at_once=2**12)
    inference.denoise(network, pixels(30, 3, 40, 40), pixels_at_once=2**12)
    assert max(seen) <= 1.2 * 2**12


@pytest.mark.parametrize("size, at_once", [((8, 12), 10**6), ((5, 7), 10**6), ((40, 33), 700)])
def test_self_ensemble_is_the_mean_over_eight_views(network, pixels, size, at_once):
    images = pixels(2, 3, *size)
    total = 0
    for mirror in (False, True):
        for turns in range(4):
            view = (images.flip(3) if mirror else images).rot90(turns, (2, 3))
            back = unclamped_pass(network, view).rot90(-turns, (2, 3))
            total = total + (back.flip(3) if mirror else back)
    output = inference.denoise(network, images, self_ensemble=True, pixels_at_once=at_once)
    torch.testing.assert_close(output, (total / 8).clamp(0, 1) * 255, **CLOSE)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_transforms_have_inverses(pixels, turns, mirror):
    images = pixels(2, 3, 5, 7)
    view = inference.transform(images, turns, mirror)
    assert torch.equal(inference.transform_back(view, turns, mirror), images)
    assert torch.equal(view, images) == (turns == 0 and not mirror)


def test_no_images(network):
    output = inference.denoise(network, torch.empty(0, 3, 9, 8))
    assert output.shape == (0, 3, 9, 8) and output.dtype == torch.float32


def test_output_is_clamped_and_counts_to_255(network):
    """A network that gives -1 or 2 or 0.5 everywhere."""
    for value, expected in ((-1, 0), (2, 255), (0.5, 127.5)):
        network.forward = lambda x, value=value: torch.full_like(x, value)
        assert torch.equal(inference.denoise(network, torch.zeros(1, 3, 3, 5)), torch.full((1, 3, 3, 5), expected))


def test_bf16_is_close(network, pixels):
    images = pixels(2, 3, 9, 8)
    output = inference.denoise(network, images, torch.bfloat16)
    assert output.dtype == torch.float32
    difference = (output - inference.denoise(network, images)).abs().max()
    assert 0 < difference < 4


def test_extend_mirrors_at_the_border():
    images = torch.arange(6.0).view(1, 1, 2, 3)
    expected = torch.tensor([[4.0, 3, 4, 5, 4, 3], [1, 0, 1, 2, 1, 0], [4, 3, 4, 5, 4, 3], [1, 0, 1, 2, 1, 0]])
    assert torch.equal(inference.extend(images, (1, 1), (1, 2))[0, 0], expected)
    assert inference.extend(images, (0, 0), (0, 0)) is images


def test_the_border_is_denoised_as_well_as_the_middle():
    """Repeated pixels of noise are stripes, which the network keeps: they cost 2 dB of a small grey picture."""
    model = Model("camera", device="cpu")
    model.load_pretrained_model()
    noise = 25 * torch.randn(2, 1, 61, 61, generator=torch.Generator().manual_seed(0))
    error = (model.predict((128 + noise).expand(-1, 3, -1, -1)) - 128).square().mean((0, 1))
    within = error[2:-2, 2:-2]
    border = (error.sum() - within.sum()) / (error.numel() - within.numel())
    assert border < 5 * error[16:-16, 16:-16].mean()  # 15 with repeated pixels


@settings(max_examples=12)
@given(
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    at_once=st.integers(300, 3000),
    name=st.sampled_from(sorted(NETWORKS)),
    self_ensemble=st.booleans(),
)
def test_tiles_of_any_size_give_what_the_whole_image_gives(size, at_once, name, self_ensemble):
    """To 1e-6 of the range: float32 sums in another order are all that may differ."""
    torch.manual_seed(1)
    network = NETWORKS[name]()
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    tiled = inference.denoise(network, images, self_ensemble=self_ensemble, pixels_at_once=at_once)
    whole = inference.denoise(network, images, self_ensemble=self_ensemble, pixels_at_once=10**6)
    torch.testing.assert_close(tiled / 255, whole / 255, rtol=0, atol=1e-6)


def test_progress_counts_every_piece(network, pixels):
    seen = []
    inference.denoise(network, pixels(1, 3, 90, 90), pixels_at_once=2000, on_tile=lambda *counts: seen.append(counts))
    total = len(seen)
    assert total > 3
    assert seen == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_a_region_of_a_view_is_found_in_the_image(pixels, turns, mirror):
    images = pixels(1, 3, 7, 9)
    view = inference.transform(images, turns, mirror)
    place = slice(1, 4), slice(2, 7)
    part = inference.region(images, place, tuple(view.shape[2:]), (turns, mirror))
    assert torch.equal(inference.transform(part, turns, mirror), view[:, :, place[0], place[1]])


MEMORY = """
import sys, torch
from Miniproject_2.model import Model
from others.check_denoiser import memory_of
model = Model(sys.argv[2], device="cpu")
model.predict(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
side = int(sys.argv[1])
picture = torch.zeros(1, 3, side, side, dtype=torch.uint8).random_()
print((memory_of(lambda: model.predict(picture)) - picture.numel() * 4) / 2**20)
"""


HUGE = """
import sys, torch
from Miniproject_2.model import Model
from others.check_denoiser import memory_of
model = Model("prescribed", device="cpu")
model._build(channels=(4, 4))
side = int(sys.argv[2])
picture = torch.zeros(1, 3, side, side, dtype=getattr(torch, sys.argv[1])).random_(256)
results = []
extra = (memory_of(lambda: results.append(model.predict(picture, on_tile=False))) - picture.numel() * 4) / 2**20
(result,) = results
corner = model.predict(picture[..., -260:, -260:].contiguous())
print(extra, float((result[..., -200:, -200:] - corner[..., -200:, -200:]).abs().max()) / 255)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's account")
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_a_huge_picture(run_python, kind, count):
    """With the shipped networks' strides and few channels: the memory, and the corner against a prediction of its own.
    Of 8192 x 8192 the memory may be all that a prediction may take, of fewer pixels as much less.
    (`benchmarks/large.py` measures the shipped networks.)"""
    side = count("pixels a side", 4096, 8192)
    extra, difference = map(float, run_python(HUGE, Path(__file__).resolve().parents[1], kind, side).split())
    assert extra < inference.MEMORY / 2**20 * (side / 8192) ** 2 and difference < 1e-6


@pytest.mark.parametrize("denoiser", ["rednet", "camera"])
def test_a_large_picture_needs_less_than_the_stated_memory(denoiser, run_python):
    """Beyond the picture and the result: the same for 700 x 700 as for any larger one, all of which are tiled."""
    extra = float(run_python(MEMORY, Path(__file__).resolve().parents[1], 700, denoiser))
    assert extra < inference.MEMORY / 2**20


SIZES = """
import random, sys, torch
from Miniproject_2.model import Model

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024

random.seed(0)
model = Model(sys.argv[1], device="cpu", precision="bf16")
model._build(**eval(sys.argv[2]))
for number in range(200):
    if number == 80:
        before = resident()
    model.predict(torch.zeros(1, 3, random.randint(20, 150), random.randint(20, 150), dtype=torch.uint8))
print(resident() - before)
"""
FEW = {"prescribed": "{'channels': (32, 48)}", "rednet": "{'layers': ((16, 3, 1), (32, 3, 2))}"}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's account")
@pytest.mark.parametrize("name", FEW)
def test_16_bits_take_no_more_memory_for_images_of_more_sizes(run_python, name):
    """torch keeps what it prepared for each size of a 16-bit product: some MiB an image, if these were as many as the
    images' sizes."""
    assert float(run_python(SIZES, Path(__file__).resolve().parents[1], name, FEW[name])) < 30


def test_16_bit_products_have_few_sizes(network, pixels):
    """Shapes and strides, on any processor."""
    seen, counts = set(), []

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            operands = [each for each in args if isinstance(each, torch.Tensor) and each.dtype == torch.bfloat16]
            if "mm" in func.name() and operands:
                seen.add((func, *((each.shape, each.stride()) for each in operands)))
            return func(*args, **(kwargs or {}))

    torch.manual_seed(0)
    with Products():
        for images in (pixels(1, 3, *torch.randint(9, 90, (2,)).tolist()) for _ in range(60)):
            inference.denoise(network, images, torch.bfloat16)
            counts.append(len(seen))
    assert counts[0] > 0 and counts[-1] - counts[29] <= 5
