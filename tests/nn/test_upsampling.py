"""Nearest upsampling against torch's, and folded into a convolution against the two steps one after the other."""

import inspect
from functools import partial

import pytest
import torch
from comparison import close, compare, upstream
from hypothesis import given
from hypothesis import strategies as st

from others import nn

SHAPE = (2, 3, 5, 4)


def torchs(**options):
    return partial(torch.nn.functional.interpolate, mode="nearest", **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 3, 7, (2, 3), (1, 4), 2.0, 1.5, 0.6, 1.7, (0.5, 2.5), 2.3])
def test_scale_factor_equals_torch(scale, dtype):
    compare(nn.NearestUpsampling(scale), torchs(scale_factor=scale), torch.randn(SHAPE, dtype=dtype))


@pytest.mark.parametrize("size", [1, 3, 10, (7, 9), (5, 4), (10, 8), (15, 3)])
def test_size_equals_torch(size):
    compare(nn.NearestUpsampling(size=size), torchs(size=size), torch.randn(SHAPE, dtype=torch.float64))
    compare(nn.Upsample(size), torch.nn.Upsample(size), torch.randn(SHAPE, dtype=torch.float64))


@pytest.mark.parametrize("options", [{"scale_factor": 41}, {"scale_factor": 47}, {"size": (205, 164)}])
def test_rounding_of_large_factors_is_torchs(options):
    """41 * float32(1 / 41) is below 1: pixel 41 copies pixel 0, not 1, in torch and here."""
    equal(nn.NearestUpsampling(**options), torchs(**options), torch.randn(SHAPE))


def equal(ours, theirs, x):
    """Exactly, in both directions: the upstream gradient is integer, so that float32 sums are exact."""
    expected = theirs(x.requires_grad_())
    assert torch.equal(ours.forward(x), expected)
    g = torch.randint(-9, 10, expected.shape).float()
    expected.backward(g)
    assert torch.equal(ours.backward(g), x.grad)


@pytest.mark.parametrize("scale", [1.7, 0.6, (2.5, 3), 2])
@pytest.mark.parametrize("recompute", [None, False, True])
def test_recompute_scale_factor_equals_torch(recompute, scale):
    options = {"scale_factor": scale, "recompute_scale_factor": recompute}
    compare(nn.Upsample(**options), torch.nn.Upsample(**options), torch.randn(2, 3, 7, 9, dtype=torch.float64))


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.floats(0.3, 5), st.integers(1, 60)))
def test_random_sizes(size, scales):
    """In float32; in float64 torch's rounding differs between its own memory formats (a factor of 41 shows it)."""
    scales = [max(scale, 1.01 / n) for n, scale in zip(size, scales, strict=True)]  # torch refuses empty outputs
    if any(int(n * s) in (n, 2 * n) and int(n * s) != n * s for n, s in zip(size, scales, strict=True)):
        return  # torch's kernels for small and for large images disagree about these
    x = torch.randn(2, 1, *size)
    equal(nn.NearestUpsampling(tuple(scales)), torchs(scale_factor=tuple(scales)), x)


@pytest.mark.parametrize("kind", ["channels last", "sliced", "empty batch", "transposed"])
def test_strange_inputs(kind):
    x = {
        "channels last": torch.randn(SHAPE, dtype=torch.float64).to(memory_format=torch.channels_last),
        "sliced": torch.randn(4, 3, 10, 9, dtype=torch.float64)[::2, :, ::2, 5:],
        "empty batch": torch.randn(0, 3, 5, 4, dtype=torch.float64),
        "transposed": torch.randn(4, 5, 3, 2, dtype=torch.float64).permute(3, 2, 1, 0),
    }[kind]
    compare(nn.NearestUpsampling((2, 3)), torchs(scale_factor=(2, 3)), x)


def test_unbatched_image():
    layer, x = nn.NearestUpsampling((3, 2)), torch.randn(3, 5, 4)
    output = layer.forward(x)
    assert torch.equal(output, torchs(scale_factor=(3, 2))(x[None])[0])
    g = upstream(output)
    close(layer.backward(g), layer_of_batch(g[None], x[None])[0])


def layer_of_batch(gradient, x):
    layer = nn.NearestUpsampling((3, 2))
    layer.forward(x)
    return layer.backward(gradient)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bfloat16], ids=str)
def test_values_of_any_dtype_are_copied(dtype):
    x = torch.arange(12).view(1, 1, 3, 4).to(dtype)
    output = nn.NearestUpsampling(2).forward(x)
    assert output.dtype == dtype
    assert torch.equal(output, x.repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize("options", [{}, {"scale_factor": 2, "size": 4}, {"scale_factor": (1, 2, 3)}])
def test_arguments_that_make_no_sense(options):
    with pytest.raises(ValueError):
        nn.NearestUpsampling(**options)


def test_refusals_of_torchs_type():
    x = torch.randn(1, 1, 3, 3)
    for namespace in (nn, torch.nn):
        for options in ({"size": 0}, {"scale_factor": -2}, {"scale_factor": 0.3}):
            with pytest.raises(RuntimeError):
                namespace.Upsample(**options).forward(x)
        with pytest.raises(RuntimeError):
            namespace.Upsample(scale_factor=2).forward(x[:, :, :0])
        with pytest.raises(ValueError):
            namespace.Upsample(scale_factor=2, align_corners=True).forward(x)
        with pytest.raises(ValueError):
            namespace.Upsample(size=2, recompute_scale_factor=True).forward(x)
        with pytest.raises(NotImplementedError):
            namespace.Upsample(scale_factor=2, mode="cubic").forward(x)
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        nn.NearestUpsampling(2).forward(torch.randn(3, 3))


def test_arguments_and_their_order_are_torchs():
    arguments = [list(inspect.signature(n.Upsample.__init__).parameters) for n in (nn, torch.nn)]
    assert arguments[0] == arguments[1]


# ------------------------------------------------------------------------------------------ folded into a convolution


def two_steps(folded, scale):
    """torch's upsampling and convolution with the weights of our one layer."""
    conv = torch.nn.Conv2d(folded.in_channels, folded.out_channels, folded.kernel_size, 1, folded.padding,
                           folded.dilation, folded.groups, folded.bias is not None, dtype=torch.float64)  # fmt: skip
    conv.load_state_dict(folded.state_dict())
    module = torch.nn.Sequential(torch.nn.Upsample(scale_factor=scale), conv)
    module.named_parameters = conv.named_parameters
    return module


@pytest.mark.parametrize("channels", [(4, 6), (12, 10), (10, 2)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_factor": 3},
        {"kernel_size": (2, 3), "scale_factor": (2, 3), "padding": (1, 2)},
        {"kernel_size": (5, 1), "scale_factor": (1, 4), "padding": 0, "bias": False},
        {"kernel_size": 3, "dilation": (2, 3), "padding": (0, 3)},
        {"kernel_size": 1, "scale_factor": 2, "padding": 2},
        {"kernel_size": (4, 3), "groups": 2, "padding": 3, "scale_factor": (3, 2)},
    ],
    ids=str,
)
def test_folded_equals_two_steps(options, channels):
    folded = nn.UpsamplingConv2d(*channels, **options, dtype=torch.float64)
    theirs = two_steps(folded, options.get("scale_factor", 2))
    for x in (torch.randn(2, channels[0], 5, 7), torch.randn(1, channels[0], 6, 4), torch.randn(0, channels[0], 6, 4)):
        compare(folded, theirs, x.double())
        folded.zero_grad(), theirs.zero_grad()


@given(st.data())
def test_random_folded_layers(data):
    def two(low, high):
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups, (c_in, c_out) = data.draw(st.integers(1, 2)), two(1, 9)
    args = (c_in * groups, c_out * groups, two(1, 4), two(1, 4), two(0, 3), two(1, 3), groups)
    folded = nn.UpsamplingConv2d(*args, dtype=torch.float64)
    size = [max(n, -(-(d * (k - 1) + 1) // s)) for n, k, s, d in zip(two(1, 6), args[2], args[3], args[5], strict=True)]
    compare(folded, two_steps(folded, args[3]), torch.randn(2, args[0], *size, dtype=torch.float64), calls=1)


def test_folded_default_keeps_the_enlarged_size():
    for kernel_size in (1, 3, (5, 7)):
        assert nn.UpsamplingConv2d(2, 3, kernel_size).forward(torch.randn(1, 2, 5, 6)).shape == (1, 3, 10, 12)


def test_folded_unbatched_accumulate_and_errors():
    layer, x = nn.UpsamplingConv2d(3, 4), torch.randn(3, 5, 6)
    batched = nn.UpsamplingConv2d(3, 4).load_state_dict(layer.state_dict())
    output = layer.forward(x)
    close(output, batched.forward(x[None])[0])
    g = upstream(output)
    close(layer.backward(g), batched.backward(g[None])[0])
    batched.zero_grad()
    batched.accumulate(g[None])
    close(layer.weight_grad, batched.weight_grad)
    close(layer.bias_grad, batched.bias_grad)
    with pytest.raises(RuntimeError, match="scale_factor"):
        layer.forward(torch.randn(1, 4, 5, 6))
    with pytest.raises(RuntimeError, match="grad_output"):
        layer.backward(g[:, 1:])
    with pytest.raises(RuntimeError, match="output"):
        nn.UpsamplingConv2d(1, 1, 7, padding=0).forward(torch.randn(1, 1, 2, 2))


def test_folded_initial_weights_are_the_convolutions():
    torch.manual_seed(5)
    folded = nn.UpsamplingConv2d(3, 4, 5)
    torch.manual_seed(5)
    conv = torch.nn.Conv2d(3, 4, 5)
    assert torch.equal(folded.weight, conv.weight) and torch.equal(folded.bias, conv.bias)
