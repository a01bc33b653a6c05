"""The spectrum of blocks and what is taken from it: against scipy's cosines, torch's autograd, and by hand."""

from math import pi, sin

import pytest
import torch
from torch.testing import assert_close

from others import nn
from others.nn.convolution import mirrored


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("block", [2, 4, 8])
@pytest.mark.parametrize("size", [(4, 12), (20, 8)])
def test_the_way_back_gives_the_image(block, size):
    x = normal(2, 3, *size)
    there = nn.Spectrum(block).forward(x)
    half = block // 2
    assert there.shape == (2, 3 * block**2, size[0] // half + 1, size[1] // half + 1)
    assert_close(nn.InverseSpectrum(block).forward(there), x)


def test_a_block_has_the_cosines_of_scipy():
    fft = pytest.importorskip("scipy.fft")
    x = normal(1, 3, 16, 24)
    spectrum = nn.Spectrum(8).forward(x)[0].view(3, 8, 8, 5, 7)
    grey = x[0].sum(0) / 3**0.5
    window = torch.tensor([sin(pi * (i + 0.5) / 8) for i in range(8)], dtype=torch.float64)
    block = grey[4:12, 8:16] * window.view(-1, 1) * window
    assert_close(spectrum[0, :, :, 2, 3], torch.from_numpy(fft.dctn(block.numpy(), norm="ortho")))
    difference = (x[0, 0] - x[0, 2]) / 2**0.5
    block = difference[4:12, 8:16] * window.view(-1, 1) * window
    assert_close(spectrum[1, :, :, 2, 3], torch.from_numpy(fft.dctn(block.numpy(), norm="ortho")))


def test_white_noise_is_half_as_strong_in_the_mean():
    spectrum = nn.Spectrum(8).forward(normal(4, 3, 128, 128))[:, :, 1:-1, 1:-1]
    assert spectrum.square().mean() == pytest.approx(0.25, rel=0.01)


def test_grey_images_have_no_colours():
    spectrum = nn.Spectrum(4).forward(normal(2, 1, 8, 12).expand(-1, 3, -1, -1))
    assert spectrum[:, 16:].abs().max() < 1e-12 < spectrum[:, :16].abs().max()


@pytest.mark.parametrize("size, margin, expected", [
    (4, 2, [2, 1, 0, 1, 2, 3, 2, 1]), (2, 3, [1, 0, 1, 0, 1, 0, 1, 0]), (1, 2, [0, 0, 0, 0, 0]),
])  # fmt: skip
def test_mirrored(size, margin, expected):
    assert mirrored(size, margin, margin, torch.device("cpu")).tolist() == expected


@pytest.mark.parametrize("module, shape", [
    (nn.Spectrum(4), (2, 3, 6, 10)), (nn.Spectrum(2), (3, 5, 7)), (nn.Spectrum(8), (2, 3, 4, 4)),
    (nn.InverseSpectrum(4), (2, 48, 3, 5)), (nn.InverseSpectrum(2), (12, 2, 4)), (nn.Spectrum(4), (0, 3, 6, 10)),
    (nn.InverseSpectrum(4), (0, 48, 3, 5)),
])  # fmt: skip
def test_backward_is_the_adjoint(module, shape):
    x = normal(*shape)
    y = module.forward(x)
    upstream = normal(*y.shape, seed=1)
    assert (module.backward(upstream) * x).sum() == pytest.approx(float((y * upstream).sum()), rel=1e-12)
    assert module.param() == [] and module.accumulate(upstream) is None


def correction(x, mean, weight, bias):
    """The formula, with torch's autograd."""

    def size(value):
        return torch.log(1 + 255 * value.abs())

    features = (size(x) - 2, x.sign() * size(x), size(mean) - 2, mean.sign() * size(mean), size(x - mean) - 2)
    a, b, c = torch.nn.functional.conv2d(torch.cat(features, 1), weight, bias, padding=1).chunk(3, 1)
    return -(torch.sigmoid(a) * (x - torch.sigmoid(c) * mean) + b / 10)


def test_correction_against_autograd():
    ours = nn.Correction(nn.Conv2d(15, 9, 3, padding=1)).to(torch.float64)
    x, upstream = normal(2, 6, 5, 4), normal(2, 3, 5, 4, seed=1)
    leaf, weight, bias = (t.clone().requires_grad_() for t in (x, ours.body.weight, ours.body.bias))
    with torch.enable_grad():
        expected = correction(*leaf.chunk(2, 1), weight, bias)
        expected.backward(upstream)
    assert_close(ours.forward(x), expected.detach())
    assert_close(ours.backward(upstream), leaf.grad)
    assert_close(ours.body.weight_grad, weight.grad)
    assert_close(ours.body.bias_grad, bias.grad)
    ours.accumulate(upstream)
    assert_close(ours.body.weight_grad, 2 * weight.grad)


def test_correction_of_nothing():
    """Zeros have the slope of log(1 + 255 x), and nothing becomes NaN."""
    ours = nn.Correction(nn.Conv2d(5, 3, 1))
    ours.forward(torch.zeros(1, 2, 2, 2))
    assert ours.backward(torch.ones(1, 1, 2, 2)).isfinite().all()


@pytest.mark.parametrize("a, b, c, expected", [
    (-50.0, 0.0, 0.0, lambda x, mean: 0 * x),  # no noise
    (50.0, 0.0, -50.0, lambda x, mean: -x),  # nothing but noise, and similar blocks know nothing
    (50.0, 0.0, 50.0, lambda x, mean: mean - x),  # nothing but noise, and they know everything
    (0.0, 3.0, -50.0, lambda x, mean: -x / 2 - 0.3),  # half of it noise, and something more
    (0.0, 0.0, 0.0, lambda x, mean: mean / 4 - x / 2),
])  # fmt: skip
def test_correction_by_hand(a, b, c, expected):
    ours = nn.Correction(nn.Conv2d(5, 3, 1)).to(torch.float64)
    ours.body.weight.zero_()
    ours.body.bias = torch.tensor([a, b, c], dtype=torch.float64)
    x = normal(1, 2, 2, 3)
    assert_close(ours.forward(x), expected(*x.chunk(2, 1)))


@pytest.mark.parametrize("module, shape", [
    (nn.Spectrum(4), (2, 3, 8, 12)), (nn.InverseSpectrum(4), (2, 48, 5, 3)),
    (nn.Correction(nn.Conv2d(120, 72, 1)), (2, 48, 5, 3)), (nn.MatchedSpectrum(4, 3, 5), (2, 3, 8, 12)),
])  # fmt: skip
def test_in_16_bits(module, shape):
    for number, parameter in enumerate(module.parameters()):  # the same in every run: of 50 draws one rounds worse
        parameter.copy_(normal(*parameter.shape, seed=number, dtype=torch.float32) / 20)
    x = normal(*shape, dtype=torch.bfloat16)
    output = module.forward(x.float())
    upstream = normal(*output.shape, seed=1, dtype=torch.bfloat16)
    gradient = module.backward(upstream.float())
    for rounded, exact in ((module.forward(x), output), (module.backward(upstream), gradient)):
        assert rounded.dtype == torch.bfloat16
        assert (rounded - exact).norm() / exact.norm() < 0.01


def test_accumulate_stops_at_the_first_parameter():
    """What stands before it has nothing to learn: its backward is not called."""
    net = nn.Sequential(nn.Spectrum(4), nn.Conv2d(48, 4, 1), nn.ReLU())
    whole = net.forward(normal(2, 3, 8, 8, dtype=torch.float32))
    net.backward(torch.ones_like(whole))
    expected = net[1].weight_grad.clone()
    net.zero_grad()
    net[0].backward = None
    net[1].backward = None
    net.accumulate(torch.ones_like(whole))
    assert torch.equal(net[1].weight_grad, expected)


@pytest.mark.parametrize("module, x, said", [
    (nn.Spectrum(8), torch.ones(1, 3, 6, 8), r"block=8\): expected .* .N, 3, H, W. .* of 4, got .1, 3, 6, 8"),
    (nn.Spectrum(8), torch.ones(1, 3, 8, 8).byte(), "expected floating-point input .* of torch.uint8"),
    (nn.Spectrum(8), torch.ones(()), r"got \(\) of"),
    (nn.Correction(nn.Identity()), torch.ones(2, 3), "expected floating-point input .*, got .2, 3. of"),
    (nn.Correction(nn.Identity()), torch.ones(2, 3, 4).long(), "got .2, 3, 4. of torch.int64"),
    (nn.Correction(nn.Identity()), torch.ones(1, 3, 4, 4), "expected .* .N, 2 C, H, W. or .*, got .1, 3, 4, 4."),
    (nn.Spectrum(8), torch.ones(1, 4, 8, 8), "got .1, 4, 8, 8"),
    (nn.Spectrum(8), torch.ones(1, 3, 0, 8), "got .1, 3, 0, 8"),
    (nn.InverseSpectrum(8), torch.ones(1, 192, 1, 2), r"expected .* \(N, 192, H, W\) or .*, H and W from 2"),
    (nn.Correction(nn.Conv2d(5, 4, 1)), torch.ones(1, 2, 2, 2), "to make .1, 3, 2, 2. of .1, 5, 2, 2., got .1, 4, 2"),
])  # fmt: skip
def test_what_does_not_fit(module, x, said):
    with pytest.raises(RuntimeError, match=said):
        module.forward(x)


@pytest.mark.parametrize("block", [0, 3, -2, 4.0, "8"])
def test_impossible_blocks(block):
    with pytest.raises(ValueError, match="expected block to be an even int from 2 on"):
        nn.Spectrum(block)


@pytest.mark.parametrize("module, shape", [(nn.Spectrum(4), (2, 3, 8, 4)), (nn.InverseSpectrum(4), (2, 48, 3, 5))])
def test_gradients_of_other_shapes(module, shape):
    output = module.forward(normal(*shape))
    with pytest.raises(RuntimeError, match="expected grad_output"):
        module.backward(output.transpose(2, 3))


def test_the_receptive_field_is_that_of_the_layers():
    """In the middle a pixel sees the blocks that it is in, and those their pixels."""
    net = nn.Sequential(nn.Spectrum(4), nn.InverseSpectrum(4))
    assert nn.receptive_field(net) == ((3, 3), (3, 3)) and nn.alignment(net) == (2, 2)
    x, seen = torch.zeros(1, 3, 16, 16), set()
    net = nn.Sequential(nn.Spectrum(4), nn.Conv2d(48, 48, 1), nn.InverseSpectrum(4))
    before = net.forward(x)
    for row in range(16):
        x.zero_()[0, 0, row] = 1.0
        if (net.forward(x) - before)[0, :, 8].abs().max() > 1e-6:
            seen.add(row)
    assert seen == set(range(8 - 2, 8 + 4))  # the pixel 8 lies in blocks 6..9 and 8..11
