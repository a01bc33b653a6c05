"""MSE and L1Loss against torch.nn: value, gradient, reductions, refusals."""

import pytest
import torch
from comparison import close, compare

from others import nn

BOTH = pytest.mark.parametrize("name", ["MSELoss", "L1Loss"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,), (), (3, 1)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@BOTH
def test_equals_torch(name, reduction, shape, dtype):
    x, target = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    compare(*(getattr(n, name)(reduction=reduction) for n in (nn, torch.nn)), x, target)


@BOTH
def test_strange_strides(name):
    x, target = torch.randn(4, 6, 5, 4).double()[::2, ::2], torch.randn(2, 4, 5, 3).double().transpose(1, 3)
    compare(*(getattr(n, name)(reduction="none") for n in (nn, torch.nn)), x, target)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@BOTH
def test_backward_without_argument_is_the_gradient_and_with_a_number_a_multiple(name, reduction):
    loss, x, target = (
        getattr(nn, name)(reduction=reduction),
        torch.randn(2, 3, 4).double(),
        torch.randn(2, 3, 4).double(),
    )
    leaf = x.clone().requires_grad_()
    getattr(torch.nn, name)(reduction=reduction)(leaf, target).backward()
    loss.forward(x, target)
    close(loss.backward(), leaf.grad)
    close(loss.backward(-2.5), -2.5 * leaf.grad)


def test_value_and_gradient_share_the_normaliser():
    """A step along the gradient changes the loss by what the gradient says (6 of 40 projects: another factor)."""
    loss, x, target = nn.MSE(), torch.randn(3, 2, 4, 5).double(), torch.randn(3, 2, 4, 5).double()
    value, step = loss.forward(x, target), 1e-6
    gradient = loss.backward()
    change = nn.MSE().forward(x + step * gradient, target) - value
    assert change / step == pytest.approx((gradient * gradient).sum().item(), rel=1e-4)


@pytest.mark.parametrize("size_average", [None, True, False])
@pytest.mark.parametrize("reduce", [None, True, False])
@pytest.mark.filterwarnings("ignore:size_average and reduce")
@BOTH
def test_old_names_of_the_reductions(name, reduce, size_average):
    ours, theirs = (getattr(n, name)(size_average, reduce, "sum") for n in (nn, torch.nn))
    assert ours.reduction == theirs.reduction


@pytest.mark.filterwarnings("ignore:Using a target size")
@BOTH
def test_refusals_of_torchs_type(name):
    x, target = torch.randn(4, 2), torch.randn(3, 2)
    for namespace in (nn, torch.nn):
        with pytest.raises(RuntimeError):
            getattr(namespace, name)().forward(x, target)
        with pytest.raises(ValueError):
            getattr(namespace, name)(reduction="avg").forward(x, x)


@pytest.mark.parametrize("shape", [(4, 1), (1, 2), (2,), (1, 4, 2), ()], ids=str)
@BOTH
def test_targets_are_not_broadcast(name, shape):
    """torch warns and goes on; here both shapes are named and nothing is computed."""
    with pytest.raises(RuntimeError, match=r"\(4, 2\)"):
        getattr(nn, name)().forward(torch.randn(4, 2), torch.randn(shape))


@pytest.mark.parametrize("reduction, expected", [("mean", ()), ("sum", ()), ("none", (4, 2))])
@BOTH
def test_grad_output_has_the_losss_shape_and_leaves_no_graph(name, reduction, expected):
    loss, x = getattr(nn, name)(reduction=reduction), torch.randn(4, 2)
    loss.forward(x, torch.randn(4, 2))
    gradient = loss.backward(torch.randn(expected, requires_grad=True))
    assert gradient.shape == x.shape and not gradient.requires_grad
    for shape in {(), (4, 2), (2,), (1,)} - {expected}:
        with pytest.raises(RuntimeError, match=rf"{loss.name()[:3]}.*: expected grad_output .*, got"):
            loss.backward(torch.ones(shape))


@pytest.mark.parametrize("gradient", [[1.0], "1", (1.0, 2.0), 1j], ids=str)
@BOTH
def test_grad_output_that_is_no_number_nor_tensor_is_named(name, gradient):
    loss = getattr(nn, name)()
    loss.forward(torch.randn(4, 2), torch.randn(4, 2))
    with pytest.raises(TypeError, match=rf"{loss.name()[:3]}.*: expected grad_output to be a number or a tensor, got"):
        loss.backward(gradient)


def test_names():
    assert nn.MSE is nn.MSELoss
    assert nn.MSE().param() == []
    assert repr(nn.MSE(reduction="sum")) == "MSE(reduction='sum')"


def test_bfloat16_output_against_float32_target():
    """Mixed precision: the difference is taken in float32, the gradient is the input's, as in torch."""
    loss, x, target = nn.MSE(), torch.randn(2, 3).bfloat16(), torch.randn(2, 3)
    close(loss.forward(x, target), (x.float() - target).square().mean())
    assert loss.backward().dtype == torch.bfloat16
