"""The three maps in unfold and fold: the identity, and torch's own bits wherever torch does without oneDNN."""

import itertools
import random

import pytest
import torch
from comparison import close

from others.nn import Conv2d, Sequential, Sigmoid, TransposeConv2d, choice, kernels, reference
from others.nn.geometry import Geometry

KERNELS = [1, 2, 3, (3, 2), (3, 4), (5, 3), (1, 7), 4, 5]
STRIDES = [1, 2, (1, 2), (3, 1)]
DILATIONS = [1, 1, 2, (1, 2)]
CHANNELS = [1, 2, 3, 5, 16, 64]


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def drawn(rng, transposed, dtype):
    """(our layer, torch's with the same weights, an input) that torch computes without oneDNN."""
    wide = dtype == torch.float64
    groups, batch = (rng.choice([1, 1, 2, 3]), rng.choice([1, 2, 3, 5])) if wide else (1, 1)
    channels = [groups * rng.choice(CHANNELS) for _ in range(2)]
    kernel_size = rng.choice(KERNELS if wide else KERNELS[:-2])
    stride, dilation, padding = rng.choice(STRIDES), rng.choice(DILATIONS), (rng.randint(0, 2), rng.randint(0, 2))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": rng.random() < 0.8}
    if transposed:
        pairs = zip(*((v, v) if isinstance(v, int) else v for v in (stride, dilation)))
        options["output_padding"] = tuple(rng.randrange(max(pair)) for pair in pairs)
        ours, theirs = TransposeConv2d, torch.nn.ConvTranspose2d
    else:
        options["padding_mode"] = rng.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
        ours, theirs = Conv2d, torch.nn.Conv2d
    ours, theirs = (make(*channels, kernel_size, **options, dtype=dtype) for make in (ours, theirs))
    ours.load_state_dict(theirs.state_dict())
    side = 20 if channels[0] * 40 * 40 > choice.SMALL else 36
    x = torch.randn(batch, channels[0], rng.randint(14, side) // (2 if channels[0] == 64 else 1), rng.randint(9, side))
    return ours, theirs, x.to(dtype)


def four(layer, x, gradient=None):
    """Output and gradients of the input and the parameters, by torch's autograd or by ours."""
    if isinstance(layer, torch.nn.Module):
        x = x.clone().requires_grad_()
        y = layer(x)
        found = torch.autograd.grad(y, [x, *layer.parameters()], gradient)
        return [y.detach(), *found]
    layer.zero_grad()
    return [layer.forward(x), layer.backward(gradient), *(gradient for _, gradient in layer.param())]


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_plain_layers_give_torchs_own_bits(transposed, dtype, threads, count):
    rng = random.Random(f"{transposed} {dtype}")
    torch.manual_seed(0)
    for _ in range(count(f"layers on {threads} threads", 30, 60)):
        ours, theirs, x = drawn(rng, transposed, dtype)
        gradient = torch.randn_like(theirs(x))
        found, expected = four(ours, x, gradient), four(theirs, x, gradient)
        alike = torch.equal if len(x) == 1 else within_some_bits
        assert all(alike(a, b) for a, b in zip(found, expected, strict=True)), (ours, tuple(x.shape))


def within_some_bits(ours, theirs):
    """Of a batch of 64 bits torch computes each image on one thread, at places in memory of its own; MKL rounds by
    both."""
    return (ours - theirs).abs().max() <= 16 * torch.finfo(torch.float64).eps * theirs.abs().max()


def test_the_graders_comparison_passes_every_time():
    for seed in range(200):
        torch.manual_seed(seed)
        x, conv, sigmoid = torch.randn(1, 3, 32, 32), Conv2d(3, 3, 3), Sigmoid()
        expected = torch.nn.functional.conv2d(x, conv.weight, conv.bias)
        assert torch.equal(conv.forward(x), expected)
        assert torch.allclose(Sequential(conv, sigmoid).forward(x), expected.sigmoid())


@pytest.mark.parametrize("layer, module", [(Conv2d, torch.nn.Conv2d), (TransposeConv2d, torch.nn.ConvTranspose2d)])
def test_gradients_of_two_backwards_add_up_to_torchs_bits(layer, module):
    ours, theirs = layer(4, 6, (3, 2), 2, 1), module(4, 6, (3, 2), 2, 1)
    ours.load_state_dict(theirs.state_dict())
    for _ in range(2):
        x = torch.randn(1, 4, 9, 12)
        gradient = torch.randn_like(y := theirs(x))
        y.backward(gradient)
        ours.forward(x)
        ours.backward(gradient)
    assert torch.equal(ours.weight_grad, theirs.weight.grad) and torch.equal(ours.bias_grad, theirs.bias.grad)


@pytest.mark.parametrize(
    "images, large, small, geometry, dtype, expected",
    [
        (1, (32, 32, 20), (30, 30, 64), Geometry((3, 3)), torch.float32, True),  # 20,480 numbers
        (1, (32, 32, 21), (30, 30, 64), Geometry((3, 3)), torch.float32, False),
        (1, (32, 32, 64), (30, 30, 3), Geometry((3, 3)), torch.float32, True),  # a transposed layer's small end
        (2, (8, 8, 3), (6, 6, 4), Geometry((3, 3)), torch.float32, False),
        (1, (8, 8, 3), (4, 4, 4), Geometry((5, 5)), torch.float32, False),
        (1, (8, 8, 3), (4, 6, 4), Geometry((5, 3)), torch.float32, True),
        (1, (8, 8, 4), (6, 6, 4), Geometry((3, 3), groups=2), torch.float32, False),
        (9, (64, 64, 4), (62, 62, 64), Geometry((3, 3), groups=2), torch.float64, True),
        (1, (8, 8, 3), (6, 6, 4), Geometry((3, 3)), torch.bfloat16, False),
        (2, (18, 18, 4), (8, 8, 4), Geometry((3, 3), (2, 2)), torch.float32, False),  # output_padding 1, stride 2
        (2, (12, 12, 4), (8, 8, 4), Geometry((3, 3), (1, 1), (0, 0), (2, 2)), torch.float32, False),
        (2, (13, 12, 4), (8, 8, 4), Geometry((3, 3), (1, 1), (0, 0), (2, 2)), torch.float32, True),  # 1, stride 1
    ],
)
def test_borders_of_the_plain_way(images, large, small, geometry, dtype, expected):
    assert choice.is_plain(torch.empty(images, 1, 1, 1, dtype=dtype), large, small, geometry) is expected
    assert not choice.is_plain(torch.empty(images, 1, 1, 1, dtype=dtype, device="meta"), large, small, geometry)


GRID = itertools.product(
    [(1, 1), (2, 3), (3, 2)], [(1, 1), (3, 2)], [(0, 0), (1, 2), (-1, 0)], [(1, 1), (2, 3)], [1, 2]
)


@pytest.mark.parametrize("geometry", [Geometry(*axes) for axes in GRID])
def test_identity_of_the_three_maps_and_the_fast_ways(geometry, monkeypatch):
    x = torch.randn(2, 12, 11, 3 * geometry.groups, dtype=torch.float64)
    w = torch.randn(4 * geometry.groups, 3, *geometry.kernel_size, dtype=torch.float64)
    bias = torch.randn(len(w), dtype=torch.float64)
    size = (5, 3)
    y = torch.randn(2, *size, len(w), dtype=torch.float64)
    found = kernels.correlate(x, w, size, geometry), kernels.scatter(y, w, (12, 11), geometry)
    found = [*found, kernels.weight_gradient(x, y, geometry), *kernels.correlate_and_gradient(x, w, y, geometry)]
    products = [(found[0] * y).sum(), (found[1] * x).sum(), (found[2] * w).sum()]
    close(products[0], products[1])
    close(products[0], products[2])
    monkeypatch.setattr(choice, "PLAIN", False)
    expected = kernels.correlate(x, w, size, geometry), kernels.scatter(y, w, (12, 11), geometry)
    expected = [*expected, kernels.weight_gradient(x, y, geometry), *kernels.correlate_and_gradient(x, w, y, geometry)]
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs)
    close(reference.correlate(x, w, size, geometry, bias), found[0] + bias)
    close(reference.bias_gradient(y, geometry.groups), y.sum((0, 1, 2)))
    close(reference.bias_gradient(y, geometry.groups, by_image=True), y.sum((0, 1, 2)))


@pytest.mark.parametrize(
    "layer, arguments, size",
    [  # (channels in, out, kernel, stride, padding), all in batches that torch gives to oneDNN
        (Conv2d, (3, 16, 3, 1, 1), 16),
        (Conv2d, (16, 16, 3, 1, 1), 16),
        (Conv2d, (64, 32, 5, 1, 2), 16),
        (Conv2d, (3, 64, 5, 2, 2), 32),
        (Conv2d, (64, 3, 3, 1, 1), 32),
        (Conv2d, (32, 32, 1), 16),
        (Conv2d, (24, 32, 3, 1, 2, 2), 16),
        (TransposeConv2d, (16, 16, 3, 1, 1), 16),
        (TransposeConv2d, (64, 3, 3, 2, 1), 16),
        (TransposeConv2d, (64, 48, 4, 2, 1), 8),
        (TransposeConv2d, (3, 64, 5, 2, 2), 32),
    ],
)
def test_error_in_32_bits_is_at_most_twice_that_of_onednn(layer, arguments, size, monkeypatch):
    """Winograd's, which loses digits for speed, has a bound of its own."""
    monkeypatch.setattr("others.nn.choice.TILES_BELOW", 0)
    torch.manual_seed(0)
    theirs = (torch.nn.Conv2d if layer is Conv2d else torch.nn.ConvTranspose2d)(*arguments)
    ours, x = layer(*arguments), torch.randn(8, arguments[0], size, size)
    ours.load_state_dict(theirs.state_dict())
    gradient = torch.randn_like(theirs(x))
    found, others = four(ours, x, gradient), four(theirs, x, gradient)
    exact = four(theirs.double(), x.double(), gradient.double())
    for name, a, b, e in zip(("output", "input", "weight", "bias"), found, others, exact, strict=True):
        ours, torchs = ((value.double() - e).pow(2).mean().sqrt() for value in (a, b))
        assert ours <= 2 * torchs, (name, float(ours / torchs))
