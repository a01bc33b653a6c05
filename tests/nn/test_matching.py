"""Similar blocks: against a search by loops, on patterns that repeat, and tile by tile."""

import pytest
import torch
from torch.testing import assert_close

from others import nn
from others.nn.convolution import mirrored


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_loops(x, module):
    """The mean of the `count` nearest blocks around every block: (N, rows, columns, 3, block, block)."""
    block, half, reach, height, width = module.block, module.half, module.reach, *x.shape[2:]
    margin = half + reach
    rows, columns = (mirrored(n, margin, margin, x.device) for n in (height, width))
    whole = x[:, :, rows][:, :, :, columns]
    means = torch.empty(len(x), height // half + 1, width // half + 1, 3, block, block, dtype=x.dtype)
    for image in range(len(x)):
        for row in range(means.shape[1]):
            for column in range(means.shape[2]):
                top, left = row * half + reach, column * half + reach
                own = whole[image, :, top : top + block, left : left + block]
                others = [
                    whole[image, :, y : y + block, z : z + block]
                    for y in range(top - reach, top + reach + 1)
                    for z in range(left - reach, left + reach + 1)
                    if (y, z) != (top, left)
                ]
                others.sort(key=lambda other: float((other - own).square().sum()))
                means[image, row, column] = torch.stack(others[: module.count]).mean(0)
    return means


@pytest.mark.parametrize("block, reach, count, size", [(4, 3, 5, (6, 10)), (2, 2, 24, (3, 4)), (8, 4, 7, (4, 12))])
def test_against_a_search_by_loops(block, reach, count, size):
    module = nn.MatchedSpectrum(block, reach, count)
    x = normal(2, 3, *size)
    own, matched = module.forward(x).chunk(2, 1)
    assert_close(own, nn.Spectrum(block).forward(x))
    filters = module.filters(x)
    assert_close(matched, torch.einsum("nrsabc,kabc->nkrs", by_loops(x, module), filters))


def pattern(height, width, dtype=torch.float64):
    """Repeats every 5 pixels down and every 3 to the right."""
    tile = normal(3, 5, 3, dtype=dtype)
    rows, columns = torch.arange(height) % 5, torch.arange(width) % 3
    return tile[:, rows][:, :, columns].unsqueeze(0)


def test_what_repeats_stays():
    """Inside, a block of a pattern has its like 5 pixels above and below, and every 3 to the sides."""
    own, matched = nn.MatchedSpectrum(8, reach=6, count=8).forward(pattern(48, 48)).chunk(2, 1)
    inside = (..., slice(3, -3), slice(3, -3))
    assert_close(matched[inside], own[inside])
    assert (own[inside] - own[inside].mean((2, 3), keepdim=True)).norm() > 1  # and there is something to keep


def test_noise_on_what_repeats_is_a_tenth():
    clean, noise = 20 * pattern(96, 96), normal(1, 3, 96, 96, seed=1)
    module = nn.MatchedSpectrum(8, reach=9, count=10)
    own, matched = (module.forward(clean + noise) - module.forward(clean)).chunk(2, 1)
    inside = (..., slice(3, -3), slice(3, -3))
    ratio = matched[inside].square().mean() / own[inside].square().mean()
    assert ratio == pytest.approx(0.1, rel=0.3)  # neighbours that overlap share some of their noise


def test_the_block_itself_is_not_among_them():
    """One block of noise in a grey image: its likes are grey, so hardly anything of it is in their mean."""
    x = torch.zeros(1, 3, 40, 40, dtype=torch.float64)
    x[:, :, 16:24, 16:24] = normal(1, 3, 8, 8)
    module = nn.MatchedSpectrum(8, reach=8, count=4)
    own, matched = module.forward(x).chunk(2, 1)
    assert matched[0, :, 5, 5].norm() < own[0, :, 5, 5].norm() / 20


@pytest.mark.parametrize("shape", [(2, 3, 6, 10), (3, 4, 4), (1, 3, 2, 8), (0, 3, 6, 4)])
def test_backward_is_the_adjoint(shape):
    module = nn.MatchedSpectrum(4, 3, 5)
    x = normal(*shape)
    y = module.forward(x)
    assert y.shape == (*shape[:-3], 96, shape[-2] // 2 + 1, shape[-1] // 2 + 1)
    upstream = normal(*y.shape, seed=1)
    assert (module.backward(upstream) * x).sum() == pytest.approx(float((y * upstream).sum()), rel=1e-12)
    assert module.param() == [] and module.accumulate(upstream) is None


def test_backward_against_differences():
    module, x, direction = nn.MatchedSpectrum(4, 2, 3), normal(2, 3, 6, 4), normal(2, 3, 6, 4, seed=1)
    upstream = normal(2, 96, 4, 3, seed=2)
    ahead, behind = ((module.forward(x + step * direction) * upstream).sum() for step in (1e-6, -1e-6))
    module.forward(x)
    assert (module.backward(upstream) * direction).sum() == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tile_has_the_matches_of_the_whole_image(dtype):
    """Bit for bit: which of two likes is nearer does not depend on what else is computed."""
    whole = (normal(1, 3, 96, 112, dtype=torch.float32) * 255).round().div(255).to(dtype)
    module = nn.MatchedSpectrum(8, reach=5, count=6).eval()
    (before, after), _ = nn.receptive_field(module)
    assert (before, after) == (4 + 5, 3 + 5) and nn.alignment(module) == (4, 4)
    tile = module.forward(whole[:, :, 16:80, 24:88])
    assert torch.equal(tile[:, :, 3:14, 3:14], module.forward(whole)[:, :, 7:18, 9:20])


@pytest.mark.parametrize("x, said", [
    (torch.ones(1, 3, 6, 8), r"count=16\): expected .* .N, 3, H, W. .* of 4, got .1, 3, 6, 8"),
    (torch.ones(1, 3, 8, 8).byte(), "expected floating-point input .* of torch.uint8"),
    (torch.ones(1, 4, 8, 8), "got .1, 4, 8, 8"),
])  # fmt: skip
def test_what_does_not_fit(x, said):
    with pytest.raises(RuntimeError, match=said):
        nn.MatchedSpectrum().forward(x)


@pytest.mark.parametrize("reach, count", [(0, 1), (1, 9), (2, 0), (1.0, 3), (2, 2.0)])
def test_impossible_searches(reach, count):
    with pytest.raises(ValueError, match=f"expected reach from 1 on and count from 1 to .*, got {reach} and {count}"):
        nn.MatchedSpectrum(8, reach, count)


def test_gradients_of_other_shapes():
    module = nn.MatchedSpectrum(4, 2, 3)
    output = module.forward(normal(2, 3, 8, 4))
    with pytest.raises(RuntimeError, match="expected grad_output"):
        module.backward(output[:, :48])


def test_multiplications():
    """5 x 3 blocks of 48 numbers: two filters of 48 for each, and 24 others to compare with."""
    total = nn.MatchedSpectrum(4, 2, 3).summary((1, 3, 8, 4)).splitlines()[-2]
    assert total.split()[-1] == f"{15 * 48 * (2 * 48 + 24):,}"


@pytest.mark.parametrize("size", [(4, 4), (4, 20), (12, 8)])
def test_an_image_has_the_same_matches_alone_and_in_any_layout(size):
    """Also where the image is smaller than the reach; and a NaN stays in its image."""
    module, x = nn.MatchedSpectrum(), normal(3, 3, *size, dtype=torch.float32)
    output = module.forward(x)
    assert torch.equal(module.forward(x[1]), output[1]) and torch.equal(module.forward(x[1:2])[0], output[1])
    channels_last = module.forward(x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(channels_last, output)
    assert channels_last.is_contiguous(memory_format=torch.channels_last) and output.is_contiguous()
    assert torch.equal(module.forward(x.mT.contiguous().mT), output)
    x[0, 0, 0, 0] = float("nan")
    assert torch.equal(module.forward(x)[1:], output[1:])


def test_where_all_blocks_are_alike():
    """Ties are decided the same way twice, and any way gives the block."""
    module, x = nn.MatchedSpectrum(), torch.full((2, 3, 16, 24), 0.3)
    output = module.forward(x)
    own, matched = output.chunk(2, 1)
    assert_close(matched, own)
    assert torch.equal(module.forward(x), output)


def test_evaluation_keeps_nothing():
    module = nn.MatchedSpectrum(4, 2, 3).eval()
    output = module.forward(normal(2, 3, 8, 4))
    assert module.saved is None
    with pytest.raises(RuntimeError, match="backward called in eval mode"):
        module.backward(output)
