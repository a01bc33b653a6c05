"""Elementwise nonlinearities against torch.nn, at the places where they go wrong."""

import inspect

import pytest
import torch
from comparison import close, compare, upstream
from hypothesis import given
from hypothesis import strategies as st

from others import nn

ACTIVATIONS = [
    ("ReLU", {}),
    ("LeakyReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.3}),
    ("LeakyReLU", {"negative_slope": 0.0}),
    ("LeakyReLU", {"negative_slope": -0.5}),
    ("ELU", {}),
    ("ELU", {"alpha": 2.5}),
    ("Sigmoid", {}),
    ("Tanh", {}),
]
ALL = pytest.mark.parametrize("name, options", ACTIVATIONS, ids=str)
INPLACE = pytest.mark.parametrize("name, options", ACTIVATIONS[:-2], ids=str)


def pair(name, options):
    return getattr(nn, name)(**options), getattr(torch.nn, name)(**options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4, 5), (2, 0, 3), (3, 1)], ids=str)
@ALL
def test_equals_torch(name, options, shape, dtype):
    compare(*pair(name, options), 3 * torch.randn(shape, dtype=dtype))


@ALL
@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1), (5, 2, 3), ()], ids=str)
def test_gradients_are_not_broadcast(name, options, shape):
    layer = pair(name, options)[0]
    layer.forward(torch.randn(2, 3))
    with pytest.raises(RuntimeError, match=rf"{name}\(.*\): expected grad_output \(2, 3\), got"):
        layer.backward(torch.randn(shape))


@ALL
def test_strange_strides(name, options):
    for x in (
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(4, 6, 5)[::2, 1::3],
        torch.randn(3, 1).expand(3, 4),
    ):
        compare(*pair(name, options), x.double())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@ALL
def test_extreme_inputs_and_zero(name, options, dtype):
    """The values of torch and finite gradients at 0, -0, tiny, +-1000 and the largest numbers."""
    tiny, huge = torch.finfo(dtype).tiny, torch.finfo(dtype).max / 4
    x = torch.tensor([0.0, -0.0, tiny, -tiny, 30.0, -30.0, 1000.0, -1000.0, huge, -huge], dtype=dtype)
    ours, theirs = pair(name, options)
    compare(ours, theirs, x)
    assert ours.forward(x).isfinite().all()
    assert ours.backward(torch.ones_like(x)).isfinite().all()


@ALL
def test_nan_and_infinity_come_out_as_in_torch(name, options):
    ours, theirs = pair(name, options)
    x = torch.tensor([float("nan"), float("inf"), -float("inf")], dtype=torch.float64)
    torch.testing.assert_close(ours.forward(x), theirs(x), equal_nan=True)


SPECIAL = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.5, -1.5, 300.0, -300.0, 1e-45, -1e-45]


def special(dtype):
    """Every special value as input (121,), with every one as upstream gradient (121,)."""
    return torch.cartesian_prod(torch.tensor(SPECIAL), torch.tensor(SPECIAL)).to(dtype).unbind(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@ALL
def test_gradients_at_nan_and_infinity_are_torchs(name, options, dtype):
    """Every special input with every special upstream gradient. ELU at NaN: torch gives the gradient or NaN, depending
    on where in the tensor the value stands; NaN here."""
    (ours, theirs), (x, g) = pair(name, options), special(dtype)
    leaf = x.clone().requires_grad_()
    expected = theirs(leaf)
    expected.backward(g)
    output, gradient = ours.forward(x), ours.backward(g)
    if name == "ELU":
        assert gradient[x.isnan()].isnan().all()
        leaf.grad[x.isnan()] = float("nan")
    tolerance = {"rtol": 2e-2, "atol": 1e-3} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(output, expected.detach(), equal_nan=True, **tolerance)
    torch.testing.assert_close(gradient, leaf.grad, equal_nan=True, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("inplace", [False, True])
def test_relu_and_its_gradient_are_torchs_to_the_sign_of_zero(inplace, dtype):
    """NaN passes the gradient on; what is inactive gives +0, whatever arrives: infinite, NaN or negative."""
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16}[dtype.itemsize]
    for sign in (1, -1):  # a NaN with its sign bit, too
        x, g = (sign * values for values in special(dtype))
        leaf, layer = x.clone().requires_grad_(), nn.ReLU(inplace)
        expected = torch.relu(leaf)
        expected.backward(g)
        for mine, other in ((layer.forward(x.clone()), expected.detach()), (layer.backward(g), leaf.grad)):
            assert torch.equal(mine.isnan(), other.isnan())
            assert torch.equal(mine.nan_to_num(7).view(integers), other.nan_to_num(7).view(integers))


@ALL
def test_gradients_of_another_dtype_are_converted_as_torch_does(name, options):
    ours, theirs = pair(name, options)
    x, g = torch.randn(2, 3), torch.randn(2, 3, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    theirs(leaf).backward(g)
    ours.forward(x)
    close(ours.backward(g), leaf.grad)


@pytest.mark.parametrize("make", [nn.ReLU, lambda: nn.LeakyReLU(0.2)])
def test_derivative_at_zero_is_that_of_the_negative_side(make):
    layer = make()
    layer.forward(torch.zeros(3))
    assert layer.backward(torch.ones(3)).tolist() == pytest.approx([getattr(layer, "negative_slope", 0)] * 3)


def test_saturated_sigmoid_has_torchs_derivative_to_the_last_digits():
    """(1 - y) y, in which 1 - y is exact; y - y^2 would differ in float32 by whole percents."""
    layer, x = nn.Sigmoid(), torch.linspace(8, 16, 50, requires_grad=True)
    layer.forward(x)
    torch.nn.Sigmoid()(x).sum().backward()
    torch.testing.assert_close(layer.backward(torch.ones(50)), x.grad, rtol=1e-6, atol=0)


@INPLACE
def test_inplace_writes_into_the_input_as_torch_does(name, options):
    ours, theirs = pair(name, {**options, "inplace": True})
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    mine = x.clone()
    output = ours.forward(mine)
    leaf = x.clone().requires_grad_()
    expected = theirs(leaf + 0) if options.get("negative_slope", 0) >= 0 else getattr(torch.nn, name)(**options)(leaf)
    assert output.data_ptr() == mine.data_ptr()
    close(mine, expected.detach())
    g = upstream(expected)
    expected.backward(g)
    close(ours.backward(g), leaf.grad)


@ALL
def test_gradient_is_only_read(name, options):
    layer, _ = pair(name, options)
    layer.forward(torch.randn(2, 3))
    g = torch.randn(2, 3)
    before = g.clone()
    first = layer.backward(g)
    assert torch.equal(g, before)
    assert torch.equal(layer.backward(g), first)  # and what was saved too


@ALL
def test_has_no_parameters_and_torchs_arguments(name, options):
    layer, _ = pair(name, options)
    assert layer.param() == [] and layer.state_dict() == {}
    arguments = [list(inspect.signature(getattr(n, name)).parameters) for n in (nn, torch.nn)]
    assert arguments[0] == [argument for argument in arguments[1] if argument not in ("args", "kwargs")]


@ALL
def test_bfloat16(name, options):
    ours, theirs = pair(name, options)
    x, g = torch.randn(50), torch.randn(50)
    output = ours.forward(x.bfloat16())
    leaf = x.bfloat16().float().requires_grad_()
    expected = theirs(leaf)
    expected.backward(g.bfloat16().float())
    for result, exact in ((output, expected.detach()), (ours.backward(g.bfloat16()), leaf.grad)):
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result.float(), exact, rtol=3e-2, atol=2e-2)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8), st.sampled_from(ACTIVATIONS))
def test_random_values(values, activation):
    compare(*pair(*activation), torch.tensor(values, dtype=torch.float64), calls=1)
