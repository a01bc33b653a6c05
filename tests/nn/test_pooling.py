"""MaxPool2d against torch.nn.MaxPool2d: values, gradients, indices, sizes, errors."""

import itertools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from others import nn
from others.nn.geometry import pooled_size


def compare(options, x):
    """Output (with return_indices: and indices) and input gradient, twice in a row."""
    ours, theirs = nn.MaxPool2d(**options), torch.nn.MaxPool2d(**options)
    for _ in range(2):
        x = x.detach().requires_grad_()
        outputs, expected = (result if isinstance(result, tuple) else (result,) for result in (ours(x), theirs(x)))
        assert len(outputs) == 1 + options.get("return_indices", False)
        for mine, other in zip(outputs, expected, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=0, equal_nan=True)
        upstream = torch.randn_like(expected[0])
        expected[0].backward(upstream)
        torch.testing.assert_close(ours.backward(upstream), x.grad)


GEOMETRIES = [
    {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    for kernel_size, stride, padding, dilation in itertools.product(
        [2, (3, 2), (2, 5)], [None, 1, (2, 3)], [0, (1, 0), 1], [1, (2, 1), (1, 3)]
    )
    if dilation != (1, 3) or kernel_size != (2, 5)
]


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_equals_torch(geometry, ceil_mode):
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    compare({**geometry, "ceil_mode": ceil_mode, "return_indices": True}, x)
    compare({**geometry, "ceil_mode": ceil_mode}, x)


@pytest.mark.parametrize("kernel_size, padding", [(2, 0), (3, 1), ((2, 3), (0, 1))])
def test_the_first_of_equal_values_wins(kernel_size, padding):
    x = torch.randint(0, 3, (2, 3, 7, 9)).double()
    assert x.unique().numel() == 3
    compare({"kernel_size": kernel_size, "padding": padding, "stride": 2, "return_indices": True}, x)


def test_not_a_number_and_infinity():
    x = torch.randn(2, 3, 6, 6)
    x[:, 1] = -torch.inf
    x[0, 0, 0, 1] = x[0, 0, 1, 0] = x[1, 2, 3, 3] = torch.nan
    x[1, 0, 2, 2] = torch.inf
    compare({"kernel_size": 3, "stride": 2, "padding": 1, "return_indices": True}, x)


def test_a_window_of_padding_alone_is_minus_infinity():
    pool = nn.MaxPool2d(2, padding=1, dilation=3)
    assert pool(torch.randn(1, 1, 2, 2)).item() == -torch.inf
    assert torch.equal(pool.backward(torch.ones(1, 1, 1, 1)), torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("shape", [(3, 7, 5), (0, 3, 7, 5), (1, 1, 2, 3)])
def test_unbatched_and_empty_batch(shape):
    compare({"kernel_size": (2, 3), "stride": (2, 1)}, torch.randn(shape))
    compare({"kernel_size": (2, 3), "stride": (2, 1), "return_indices": True}, torch.randn(shape))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_integers(dtype):
    x = torch.randint(0, 100, (2, 3, 6, 5)).to(dtype)
    assert torch.equal(nn.MaxPool2d(3, 2, 1)(x), torch.nn.MaxPool2d(3, 2, 1)(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_floats(dtype):
    compare({"kernel_size": 3, "stride": 3}, torch.randn(2, 3, 6, 7).to(dtype))


def test_memory_format_is_kept():
    x = torch.randn(2, 3, 6, 8)
    for given_format in (torch.contiguous_format, torch.channels_last):
        pool, image = nn.MaxPool2d(2), x.to(memory_format=given_format)
        output = pool(image)
        assert output.is_contiguous(memory_format=given_format)
        assert pool.backward(output).is_contiguous(memory_format=given_format)
    compare({"kernel_size": (3, 2)}, x.to(memory_format=torch.channels_last))
    compare({"kernel_size": (3, 2)}, x.transpose(2, 3))


def test_input_and_gradient_are_not_written_into():
    x, upstream = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2)
    before, pool = (x.clone(), upstream.clone()), nn.MaxPool2d(2)
    pool(x)
    pool.backward(upstream)
    assert torch.equal(x, before[0]) and torch.equal(upstream, before[1])


@given(*[st.integers(low, high) for low, high in ((1, 20), (1, 6), (1, 7), (0, 3), (1, 4))], st.booleans())
@settings(deadline=None, max_examples=150)
def test_pooled_size_is_torchs(size, kernel_size, stride, padding, dilation, ceil_mode):
    assume(2 * padding <= kernel_size)
    length = pooled_size(size, kernel_size, stride, 2 * padding, dilation, ceil_mode)
    pool = torch.nn.MaxPool2d((kernel_size, 1), (stride, 1), (padding, 0), (dilation, 1), ceil_mode=ceil_mode)
    if length < 1:
        with pytest.raises(RuntimeError):
            pool(torch.zeros(1, size, 1))
    else:
        assert pool(torch.zeros(1, size, 1)).shape[1] == length


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 5, "padding": 3},
        {"kernel_size": (4, 2), "padding": 2},
        {"kernel_size": 5, "padding": 3, "dilation": 2},
        {"kernel_size": 2, "padding": -1},
        {"kernel_size": 2, "stride": 0},
        {"kernel_size": 2, "dilation": 0},
        {"kernel_size": 0},
    ],
    ids=str,
)
def test_numbers_that_torch_refuses(options):
    x = torch.randn(1, 2, 20, 20)
    with pytest.raises(RuntimeError):
        torch.nn.MaxPool2d(**options)(x)
    with pytest.raises(RuntimeError, match=r"MaxPool2d: padding|expected values"):
        nn.MaxPool2d(**options)


@pytest.mark.parametrize("shape", [(5, 5), (1, 1, 1, 5, 5), (2, 0, 5, 5), (2, 3, 0, 5), (0, 5, 5), (2, 3, 5, 2)])
def test_inputs_that_torch_refuses(shape):
    with pytest.raises(RuntimeError):
        torch.nn.MaxPool2d(3)(torch.randn(shape))
    with pytest.raises(RuntimeError, match="MaxPool2d"):
        nn.MaxPool2d(3)(torch.randn(shape))


def test_a_kernel_that_is_no_pair():
    with pytest.raises(TypeError, match="kernel_size"):
        nn.MaxPool2d(2.5)


def test_backward_refuses_a_wrong_shape_and_a_missing_forward():
    pool = nn.MaxPool2d(2)
    with pytest.raises(RuntimeError, match="before forward"):
        pool.backward(torch.randn(2, 3, 2, 2))
    pool(torch.randn(2, 3, 4, 4))
    for wrong in ((2, 3, 4, 4), (1, 3, 2, 2), (3, 2, 2)):
        with pytest.raises(RuntimeError, match="grad_output"):
            pool.backward(torch.randn(wrong))


def test_repr_shows_what_was_changed():
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(2x2)"
    assert repr(nn.MaxPool2d((3, 2), 2, 1)) == "MaxPool2d(3x2, stride=(2, 2), padding=(1, 1))"


def test_gradients_of_another_dtype_are_converted_as_torch_does():
    ours, theirs, x = nn.MaxPool2d(2), torch.nn.MaxPool2d(2), torch.randn(2, 3, 5, 6, requires_grad=True)
    g = torch.randn(2, 3, 2, 3, dtype=torch.float64)
    theirs(x).backward(g), ours.forward(x)
    gradient = ours.backward(g)
    assert gradient.dtype == torch.float32 and torch.equal(gradient, x.grad)
