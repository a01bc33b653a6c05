"""Linear against torch.nn.Linear."""

import pytest
import torch

from others import nn


def twins(in_features, out_features, **options):
    """Our layer and torch's with the same weights."""
    theirs = torch.nn.Linear(in_features, out_features, **options)
    ours = nn.Linear(in_features, out_features, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(), (1,), (4,), (0,), (2, 3), (2, 0, 3), (2, 1, 3, 2)])
def test_forward_and_all_gradients_equal_torch(leading, bias):
    ours, theirs = twins(5, 3, bias=bias, dtype=torch.float64)
    x = torch.randn(*leading, 5, dtype=torch.float64, requires_grad=True)
    for _ in range(2):  # gradients accumulate
        expected, output = theirs(x), ours.forward(x)
        assert output.shape == (*leading, 3)
        assert not output.requires_grad
        torch.testing.assert_close(output, expected)
        upstream = torch.randn_like(expected)
        x.grad = None
        expected.backward(upstream)
        torch.testing.assert_close(ours.backward(upstream), x.grad)
    for (_, gradient), parameter in zip(ours.param(), theirs.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_strided_input_and_gradient():
    ours, theirs = twins(5, 3, dtype=torch.float64)
    x = torch.randn(2, 5, 4, dtype=torch.float64).transpose(1, 2).requires_grad_()
    upstream = torch.randn(3, 4, 2, dtype=torch.float64).permute(2, 1, 0)
    ours(x)
    theirs(x).backward(upstream)
    torch.testing.assert_close(ours.backward(upstream), x.grad)
    torch.testing.assert_close(ours.weight_grad, theirs.weight.grad)


def test_accumulate_gives_the_parameter_gradients_of_backward():
    layer, x, upstream = nn.Linear(5, 3), torch.randn(2, 4, 5), torch.randn(2, 4, 3)
    layer(x)
    layer.backward(upstream)
    expected = [gradient.clone() for _, gradient in layer.param()]
    layer.zero_grad()
    assert layer.accumulate(upstream) is None
    for (_, gradient), value in zip(layer.param(), expected, strict=True):
        assert torch.equal(gradient, value)
        assert value.abs().sum() > 0


def test_initial_weights_are_torchs():
    torch.manual_seed(3)
    theirs = torch.nn.Linear(7, 4)
    torch.manual_seed(3)
    ours = nn.Linear(7, 4)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_input_with_32_bit_parameters(dtype):
    layer, x, upstream = nn.Linear(5, 3), torch.randn(4, 5), torch.randn(4, 3)
    expected = layer(x)
    expected_input_grad = layer.backward(upstream)
    expected_weight_grad = layer.weight_grad.clone()
    layer.zero_grad()
    output = layer(x.to(dtype))
    grad_input = layer.backward(upstream.to(dtype))
    assert output.dtype == grad_input.dtype == dtype
    assert layer.weight_grad.dtype == torch.float32
    close = {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(output.float(), expected, **close)
    torch.testing.assert_close(grad_input.float(), expected_input_grad, **close)
    torch.testing.assert_close(layer.weight_grad, expected_weight_grad, **close)


def test_nothing_given_is_written_into():
    layer, x, upstream = nn.Linear(5, 3), torch.randn(4, 5), torch.randn(4, 3)
    before = x.clone(), upstream.clone(), layer.weight.clone(), layer.bias.clone()
    layer(x)
    layer.backward(upstream)
    assert all(map(torch.equal, (x, upstream, layer.weight, layer.bias), before))


@pytest.mark.parametrize(
    "input", [torch.randn(2, 4), torch.randn(()), torch.randn(2, 5).double(), torch.ones(2, 5).long()]
)
def test_inputs_that_torch_refuses(input):
    ours, theirs = twins(5, 3)
    with pytest.raises(RuntimeError):
        theirs(input)
    with pytest.raises(RuntimeError, match="Linear"):
        ours(input)


def test_16_bit_input_with_64_bit_parameters_is_refused():
    with pytest.raises(RuntimeError, match="like the weight"):
        nn.Linear(5, 3, dtype=torch.float64)(torch.randn(2, 5).half())


def test_backward_refuses_a_wrong_shape_and_a_missing_forward():
    layer = nn.Linear(5, 3)
    with pytest.raises(RuntimeError, match="before forward"):
        layer.backward(torch.randn(2, 3))
    layer(torch.randn(4, 5))
    with pytest.raises(RuntimeError, match="grad_output"):
        layer.backward(torch.randn(2, 3))
    layer.eval()(torch.randn(4, 5))
    with pytest.raises(RuntimeError, match="eval mode"):
        layer.backward(torch.randn(4, 3))
