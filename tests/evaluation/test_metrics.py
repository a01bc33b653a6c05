"""PSNR against values worked out by hand."""

import math

import pytest
import torch

from others.evaluation.metrics import psnr_a, psnr_b, psnr_per_image


def images():
    """Off by 0.1 and by 0.01 everywhere: mean squared errors 0.01 and 0.0001, PSNR 20 and 40 dB."""
    clean = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).double()
    return clean + torch.tensor([0.1, -0.01]).double().view(2, 1, 1, 1), clean


def test_per_image_is_over_channels_and_positions():
    torch.testing.assert_close(psnr_per_image(*images()), torch.tensor([20.0, 40.0]).double(), rtol=1e-6, atol=0)


def test_a_is_the_mean_of_decibels():
    assert psnr_a(*images()) == pytest.approx(30, abs=1e-5)


def test_b_is_the_decibels_of_the_mean():
    assert psnr_b(*images()) == pytest.approx(-10 * math.log10((0.01 + 0.0001) / 2), abs=1e-5)


def test_one_wrong_value():
    """One of 3 * 2 * 2 values is off by 1: mean squared error 1/12."""
    clean = torch.zeros(1, 3, 2, 2)
    output = clean.clone()
    output[0, 1, 0, 1] = 1
    for metric in (psnr_a, psnr_b):
        assert metric(output, clean) == pytest.approx(10 * math.log10(12), abs=1e-5)


def test_is_the_formula_of_the_graders_script():
    output, clean = torch.rand(2, 6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    script = torch.stack([-10 * torch.log10(((x - y) ** 2).mean((0, 1, 2)) + 1e-8) for x, y in zip(output, clean)])
    assert psnr_a(output, clean) == pytest.approx(script.mean().item(), abs=1e-4)


def test_perfect_is_infinite():
    clean = torch.rand(1, 3, 4, 4)
    assert psnr_a(clean, clean) == psnr_b(clean, clean) == math.inf


def test_results_are_plain_numbers():
    assert type(psnr_a(*images())) is type(psnr_b(*images())) is float
