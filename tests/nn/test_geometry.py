"""Sizes and index arithmetic, against torch's shapes and against counting."""

import itertools

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from others.nn.geometry import correlation_size, overlap, pair, phases, scatter_size, span

SIZES = st.integers(1, 40)
KERNELS = st.integers(1, 6)
STRIDES = st.integers(1, 5)
PADDINGS = st.integers(0, 7)
DILATIONS = st.integers(1, 4)


@pytest.mark.parametrize(
    "given, expected",
    [
        (3, (3, 3)),
        ((1, 2), (1, 2)),
        ([4, 5], (4, 5)),
        ((6,), (6, 6)),
        (torch.Size([7, 8]), (7, 8)),
        (numpy.int64(9), (9, 9)),
    ],
)
def test_pair_takes_what_torch_takes(given, expected):
    assert pair(given, "stride") == expected
    assert all(type(value) is int for value in pair(given, "stride"))


@pytest.mark.parametrize("value", [2.0, "2", None, (1, 2, 3), (1, 2.5), (), True, (False, 1), numpy.float64(2)])
def test_pair_refuses_what_is_not_one_or_two_integers(value):
    with pytest.raises(TypeError, match="stride"):
        pair(value, "stride")


@pytest.mark.parametrize("value", [0, (1, 0), (-1, 1)])
def test_pair_refuses_small_values_with_torchs_exception_type(value):
    with pytest.raises(RuntimeError, match="kernel_size"):
        pair(value, "kernel_size", minimum=1)


@given(SIZES, KERNELS, STRIDES, PADDINGS, DILATIONS)
def test_correlation_size_is_torchs(size, kernel_size, stride, padding, dilation):
    expected = correlation_size(size, kernel_size, stride, 2 * padding, dilation)
    x, w = torch.empty(1, 1, 1, size, device="meta"), torch.empty(1, 1, 1, kernel_size, device="meta")
    if size + 2 * padding < span(kernel_size, dilation):
        assert expected < 1
    else:
        y = torch.nn.functional.conv2d(x, w, None, (1, stride), (0, padding), (1, dilation))
        assert y.shape[3] == expected


@given(SIZES, KERNELS, STRIDES, PADDINGS, DILATIONS)
def test_scatter_size_inverts_correlation_size(size, kernel_size, stride, padding, dilation):
    options = (kernel_size, stride, padding, dilation)
    smallest = scatter_size(size, *options)
    assert [correlation_size(smallest + extra, *options) for extra in range(stride)] == [size] * stride
    assert correlation_size(smallest - 1, *options) == size - 1
    assert correlation_size(smallest + stride, *options) == size + 1


@given(SIZES, KERNELS, STRIDES, st.integers(-7, 7), DILATIONS)
def test_phases_visit_every_position_once(size, kernel_size, stride, padding, dilation):
    found = phases(size, kernel_size, stride, padding, dilation)
    positions = [phase.first + i * stride for phase in found for i in range(phase.count)]
    assert sorted(positions) == list(range(size))
    assert len(found) == min(stride, size)


@pytest.mark.parametrize("adjoint", [False, True])
def test_overlap_is_what_counting_finds(adjoint):
    for small, image, tap, stride, padding, dilation in itertools.product(
        range(1, 5), range(1, 7), range(3), range(1, 4), range(-2, 4), range(1, 3)
    ):
        read = ((o, o * stride - padding + tap * dilation) for o in range(small))
        expected = [(o, i) for o, i in read if 0 <= i < image]
        size, other = (image, small) if adjoint else (small, image)
        to, source = overlap(tap, size, other, stride, padding, dilation, adjoint)
        assert to.start >= 0 and source.start >= 0  # no counting from the end
        found = list(zip(range(size)[to], range(other)[source], strict=True))
        assert [pair[::-1] if adjoint else pair for pair in found] == expected
