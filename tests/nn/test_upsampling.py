"""Nearest upsampling against torch's, and folded into a convolution against the two steps one after the other."""

import inspect
from fractions import Fraction
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
    compare(nn.NearestUpsampling(scale_factor=scale), torchs(scale_factor=scale), torch.randn(SHAPE, dtype=dtype))


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


def exact(size, output_size, scale):
    """The input index of each output index, in fractions."""
    step = Fraction(size, output_size) if scale is None else 1 / Fraction(scale)
    return [min(int(index * step), size - 1) for index in range(output_size)]


def copied(function, axis, size, dtype, beside):
    """The input index that each output index of one axis copies; the other axis has `beside` pixels."""
    shape = (1, 1, size, beside) if axis == 0 else (1, 1, beside, size)
    ramp = torch.arange(size, dtype=dtype).view((-1, 1) if axis == 0 else (1, -1)).expand(shape).contiguous()
    return function(ramp).select(3 - axis, 0).flatten().long()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
@given(st.integers(1, 40), st.one_of(st.floats(0.3, 5), st.integers(1, 60), st.integers(1, 12).map(lambda n: n / 10)),
       st.integers(0, 200))  # fmt: skip
def test_equals_both_kernels_of_torch_or_is_exact(axis, dtype, size, scale, target):
    """torch computes small and large outputs (height + width above 128) by kernels that round differently. Where both
    copy the same pixel we do; where they do not, we take the exact one, if it is one of the two."""
    if target:
        options = {"size": (target, 2) if axis == 0 else (2, target)}
        large = {"size": (target, 300) if axis == 0 else (300, target)}
    else:
        scale = max(scale, 1.01 / size)  # torch refuses empty outputs
        options = {"scale_factor": (scale, 1.0) if axis == 0 else (1.0, scale)}
        large = options
    layer = nn.NearestUpsampling(**options)
    ours = copied(layer.forward, axis, size, dtype, 2)
    assert torch.equal(ours, copied(nn.NearestUpsampling(**large).forward, axis, size, dtype, 300))
    torchs_small = copied(torchs(**options), axis, size, dtype, 2)
    torchs_large = copied(torchs(**large), axis, size, dtype, 300)
    right = torch.tensor(exact(size, len(ours), None if target else scale))
    agree = torchs_small == torchs_large
    if len(ours) <= 120:  # else torch's small kernel has not been asked
        assert torch.equal(ours[agree], torchs_small[agree])
        known = ~agree & ((right == torchs_small) | (right == torchs_large))
        assert torch.equal(ours[known], right[known])
    assert ((ours - right).abs() <= 1).all() and (ours.diff() >= 0).all()


@pytest.mark.parametrize("size, target", [((3, 3), (133, 141)), ((1, 14), (184, 194)), ((15, 28), (148, 198)),
                                          ((36, 26), (11, 22)), ((7, 5), (900, 1001))])  # fmt: skip
def test_sizes_in_float64_are_exact(size, target):
    """torch's 64-bit kernel for large images and its 32-bit one disagree at some of these pixels."""
    x = torch.arange(size[0] * size[1], dtype=torch.float64).view(1, 1, *size)
    rows, columns = (torch.tensor(exact(n, m, None)) for n, m in zip(size, target, strict=True))
    layer = nn.NearestUpsampling(size=target)
    assert torch.equal(layer.forward(x), x[:, :, rows][:, :, :, columns])
    g = torch.randint(-9, 10, (1, 1, *target)).double()
    expected = torch.zeros_like(x)
    expected[0, 0].index_put_((rows.unsqueeze(1), columns), g[0, 0], accumulate=True)
    assert torch.equal(layer.backward(g), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("size, scale", [((28, 19), (4.0, 1.0238372689165285)), ((37, 8), (4.78, 1.1051834040479178)),
                                         ((6, 7), (3.0, 1.035094382390141)), ((20, 90), (2.03, 1.0))])  # fmt: skip
def test_factors_that_nearly_keep_or_double_a_size_are_exact(size, scale, dtype):
    """Here torch's kernel for small images takes the factor for 1 or 2, that for large ones does not."""
    x = torch.randn(2, 2, *size, dtype=dtype)
    layer = nn.NearestUpsampling(scale_factor=scale)
    output = layer.forward(x)
    axes = zip(size, output.shape[2:], scale, strict=True)
    rows, columns = (torch.tensor(exact(*axis)) for axis in axes)
    assert torch.equal(output, x[:, :, rows][:, :, :, columns])
    assert not torch.equal(rows, columns) and len(rows) in (size[0], 2 * size[0], int(size[0] * scale[0]))
    if sum(output.shape[2:]) > 128:
        assert torch.equal(output, torchs(scale_factor=scale)(x))


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.floats(0.3, 5), st.integers(1, 60)))
def test_random_sizes(size, scales):
    scales = [max(scale, 1.01 / n) for n, scale in zip(size, scales, strict=True)]  # torch refuses empty outputs
    if any(int(n * s) in (n, 2 * n) and int(n * s) != n * s for n, s in zip(size, scales, strict=True)):
        return  # torch's kernels for small and for large images disagree about these; see above
    x = torch.randn(2, 1, *size)
    equal(nn.NearestUpsampling(scale_factor=tuple(scales)), torchs(scale_factor=tuple(scales)), x)


@pytest.mark.parametrize("kind", ["channels last", "sliced", "empty batch", "transposed"])
def test_strange_inputs(kind):
    x = {
        "channels last": torch.randn(SHAPE, dtype=torch.float64).to(memory_format=torch.channels_last),
        "sliced": torch.randn(4, 3, 10, 9, dtype=torch.float64)[::2, :, ::2, 5:],
        "empty batch": torch.randn(0, 3, 5, 4, dtype=torch.float64),
        "transposed": torch.randn(4, 5, 3, 2, dtype=torch.float64).permute(3, 2, 1, 0),
    }[kind]
    compare(nn.NearestUpsampling(scale_factor=(2, 3)), torchs(scale_factor=(2, 3)), x)


def test_unbatched_image():
    layer, x = nn.NearestUpsampling(scale_factor=(3, 2)), torch.randn(3, 5, 4)
    output = layer.forward(x)
    assert torch.equal(output, torchs(scale_factor=(3, 2))(x[None])[0])
    g = upstream(output)
    close(layer.backward(g), layer_of_batch(g[None], x[None])[0])


def layer_of_batch(gradient, x):
    layer = nn.NearestUpsampling(scale_factor=(3, 2))
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


@pytest.mark.parametrize(
    "args", [(None, 2), (2, None), (2, 2), ((8, 8),), ([8, 8],), ((2, 1.5),), (None, 2, "nearest")]
)
def test_what_torch_would_read_as_a_size_is_refused_without_a_name(args):
    """nn.Upsample(None, 2) has factor 2, nn.UpsamplingNearest2d((8, 8)) size 8 x 8."""
    with pytest.raises(TypeError, match=r"torch's first argument is the size; write scale_factor=\.\.\. or size="):
        nn.NearestUpsampling(*args)


def test_torchs_positions_are_right_for_torchs_name():
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    for args in (((8, 9),), (None, 2), (None, (2, 3)), (None, 2, "nearest"), (7,)):
        compare(nn.Upsample(*args), torch.nn.Upsample(*args), x)
    compare(nn.NearestUpsampling(2), torch.nn.UpsamplingNearest2d(None, 2), x)
    compare(nn.NearestUpsampling(size=(8, 9)), torch.nn.UpsamplingNearest2d((8, 9)), x)


@pytest.mark.parametrize("scale", ["2", True, (2, None), torch.tensor(2.0), 2j])
def test_factors_that_are_no_numbers(scale):
    with pytest.raises(TypeError, match="NearestUpsampling: expected scale_factor to be a number"):
        nn.NearestUpsampling(scale_factor=scale)


@pytest.mark.parametrize("scale", [0, -1.5, float("nan"), float("inf"), (2, float("nan"))])
def test_factors_that_are_not_positive_and_finite(scale):
    with pytest.raises(RuntimeError, match="positive and finite"):
        nn.NearestUpsampling(scale_factor=scale)


@pytest.mark.parametrize("shape", [(2, 3, 10, 7), (2, 3, 10), (1, 3, 10, 8), (2, 1, 10, 8), (3, 10, 8), ()])
def test_gradients_of_another_shape_are_refused_in_words(shape):
    layer = nn.NearestUpsampling(2)
    layer.forward(torch.randn(2, 3, 5, 4))
    with pytest.raises(RuntimeError, match=r"NearestUpsampling\(.*\): expected grad_output \(2, 3, 10, 8\), got"):
        layer.backward(torch.randn(shape))


def test_gradients_of_another_dtype_are_converted_as_torch_does():
    layer, x = nn.NearestUpsampling(2), torch.randn(SHAPE, requires_grad=True)
    g = torch.randn(2, 3, 10, 8, dtype=torch.float64)
    layer.forward(x), torchs(scale_factor=2)(x).backward(g)
    close(layer.backward(g), x.grad)


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
