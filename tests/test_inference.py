"""Any size, in pieces, against one pass of the network on a padded image."""

import pytest
import torch
from torch.nn import functional as F

from others import denoiser, denoiser_bonus, inference

NETWORKS = {
    "prescribed": lambda: denoiser.Denoiser(channels=(8, 12)).eval(),
    "rednet": lambda: denoiser_bonus.Denoiser(layers=((8, 3, 1), (12, 3, 2))).eval(),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def one_pass(network, images):
    """The definition: [0, 1], border repeated up to a multiple, network, cut, clamped, 0-255."""
    height, width = images.shape[2:]
    margins = (0, -width % network.multiple, 0, -height % network.multiple)
    unit = F.pad(images.float() / 255, margins, mode="replicate")
    return network.forward(unit)[:, :, :height, :width].clamp(0, 1) * 255


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 64), (31, 33), (6, 7)])
def test_any_size_is_a_pass_over_the_padded_image(network, pixels, size):
    images = pixels(3, 3, *size)
    torch.testing.assert_close(inference.denoise(network, images), one_pass(network, images), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("at_once, sizes", [(3 * 64, [3, 3, 1]), (1, [1] * 7), (10**6, [7])])
def test_pieces_give_the_same_and_bound_the_memory(network, pixels, monkeypatch, at_once, sizes):
    images = pixels(7, 3, 8, 8)
    whole, forward, seen = inference.denoise(network, images), network.forward, []
    monkeypatch.setattr(inference, "PIXELS_AT_ONCE", at_once)
    monkeypatch.setattr(network, "forward", lambda x: (seen.append(len(x)), forward(x))[1])
    torch.testing.assert_close(inference.denoise(network, images), whole, rtol=1e-5, atol=1e-4)
    assert seen == sizes


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


def test_extend_repeats_the_border():
    images = torch.arange(6.0).view(1, 1, 2, 3)
    expected = torch.tensor([[0.0, 1, 2, 2, 2], [3, 4, 5, 5, 5], [3, 4, 5, 5, 5]])
    assert torch.equal(inference.extend(images, 1, 2)[0, 0], expected)
    assert inference.extend(images, 0, 0) is images
