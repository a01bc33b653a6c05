"""Initial distributions: the numbers torch.nn.init draws from the same random state."""

from math import sqrt

import pytest
import torch

from others.nn import init

WEIGHTS = [(5, 3), (6, 4, 3, 2), (4, 2, 1, 5)]
CALLS = [
    ("kaiming_uniform_", {}),
    ("kaiming_uniform_", {"a": sqrt(5)}),
    ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", {}),
    ("kaiming_normal_", {"a": 0.2, "mode": "fan_out"}),
    ("kaiming_normal_", {"nonlinearity": "tanh"}),
    ("xavier_uniform_", {}),
    ("xavier_uniform_", {"gain": 1.7}),
    ("xavier_normal_", {}),
    ("xavier_normal_", {"gain": 0.3}),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", WEIGHTS, ids=str)
@pytest.mark.parametrize("name, options", CALLS, ids=str)
def test_same_seed_same_numbers(name, options, shape, dtype):
    torch.manual_seed(11)
    expected = getattr(torch.nn.init, name)(torch.empty(shape, dtype=dtype), **options)
    torch.manual_seed(11)
    weight = torch.empty(shape, dtype=dtype, requires_grad=True)
    assert getattr(init, name)(weight, **options) is weight
    assert torch.equal(weight, expected)
    assert weight.is_leaf


@pytest.mark.parametrize("nonlinearity", ["linear", "sigmoid", "tanh", "relu", "leaky_relu"])
def test_gain_is_torchs(nonlinearity):
    assert init.gain(nonlinearity) == pytest.approx(torch.nn.init.calculate_gain(nonlinearity))


def test_gain_of_a_slope_is_torchs():
    assert init.gain("leaky_relu", 0.4) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.4))


@pytest.mark.parametrize("shape", WEIGHTS)
def test_default_stays_within_its_bound_and_fills_it(shape):
    weight, bias = torch.empty(shape).repeat(50, *[1] * (len(shape) - 1)), torch.empty(1000)
    init.default_(weight, bias)
    bound = 1 / sqrt(weight[0].numel())
    for tensor in (weight, bias):
        assert tensor.abs().max() <= bound
        assert tensor.max() > 0.9 * bound and tensor.min() < -0.9 * bound
        assert tensor.mean().abs() < 0.2 * bound


def test_without_inputs_the_bias_is_zero():
    bias = torch.full((3,), float("nan"))
    init.default_(torch.empty(3, 0), bias)
    assert not bias.any()


def test_refusals_of_torchs_type():
    for module in (init, torch.nn.init):
        with pytest.raises(ValueError):
            module.kaiming_uniform_(torch.empty(3))
        with pytest.raises(ValueError):
            module.xavier_normal_(torch.empty(3))
        with pytest.raises(ValueError):
            module.kaiming_normal_(torch.empty(3, 2), mode="fan")
        with pytest.raises(ValueError):
            module.kaiming_uniform_(torch.empty(3, 2), nonlinearity="sine")
