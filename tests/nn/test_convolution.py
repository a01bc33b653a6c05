"""Conv2d and TransposeConv2d against torch.nn: every argument, both directions, every kind of input."""

import inspect
from functools import partial

import pytest
import torch
from comparison import TOLERANCES, close, compare, twins, upstream
from hypothesis import assume, given
from hypothesis import strategies as st

from others import nn

BOTH = pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d"])

#: Arguments both layers take, behind (in_channels, out_channels) = (4, 6); sizes that the stride does not divide.
OPTIONS = [
    {"kernel_size": 3},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": (2, 3), "bias": False},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    {"kernel_size": (4, 3), "stride": (1, 3), "padding": (0, 2)},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": (1, 4), "stride": (4, 2), "padding": (0, 1)},
    {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
    {"kernel_size": (2, 3), "dilation": (2, 1), "padding": (1, 2)},
    {"kernel_size": 3, "dilation": (1, 2), "stride": (3, 2), "padding": 2, "groups": 2, "bias": False},
    {"kernel_size": 5, "stride": 2, "padding": 4},
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("channels", [(4, 6), (18, 10), (2, 4)], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@BOTH
def test_equals_torch(name, options, channels, dtype):
    compare(*twins(name, *channels, **options, dtype=dtype), torch.randn(2, channels[0], 7, 9, dtype=dtype))


@pytest.mark.parametrize("groups, channels", [(4, (4, 4)), (4, (4, 8)), (3, (6, 9)), (1, (1, 1)), (2, (2, 20))])
@BOTH
def test_groups_and_depthwise(name, groups, channels):
    ours, theirs = twins(name, *channels, (3, 2), stride=(2, 1), padding=(1, 0), groups=groups)
    compare(ours, theirs, torch.randn(3, channels[0], 8, 5, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kernel_size, dilation", [(3, 1), ((2, 4), 1), ((3, 2), (2, 3)), (1, 1)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_padding(padding, kernel_size, dilation):
    ours, theirs = twins("Conv2d", 3, 5, kernel_size, padding=padding, dilation=dilation)
    output = compare(ours, theirs, torch.randn(2, 3, 9, 11, dtype=torch.float64))
    assert padding == "valid" or output.shape[2:] == (9, 11)


@pytest.mark.parametrize("padding", [0, 1, (2, 3), (0, 4), "same"])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes(mode, padding):
    stride = 1 if padding == "same" else (1, 2)
    ours, theirs = twins("Conv2d", 3, 4, (2, 3), stride, padding, padding_mode=mode)
    compare(ours, theirs, torch.randn(2, 3, 5, 6, dtype=torch.float64))
    compare(*twins("Conv2d", 3, 4, (2, 3), stride, padding, padding_mode=mode), torch.rand(3, 5, 6).double())


@pytest.mark.parametrize(
    "mode, padding, accepted",
    [
        ("reflect", 4, True),
        ("reflect", 5, False),
        ("circular", 5, True),
        ("circular", 6, False),
        ("replicate", 9, True),
    ],
)
def test_largest_padding_of_each_mode_is_torchs(mode, padding, accepted):
    for namespace in (nn, torch.nn):
        layer, x = namespace.Conv2d(1, 1, 3, padding=padding, padding_mode=mode), torch.randn(1, 1, 5, 5)
        if accepted:
            assert layer.forward(x).shape[2] == 2 * padding + 3
        else:
            with pytest.raises(RuntimeError):
                layer.forward(x)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "output_padding": 1},
        {"stride": (3, 2), "padding": (1, 2), "output_padding": (2, 0)},
        {"dilation": (3, 2), "output_padding": (2, 1)},
        {"stride": (4, 3), "output_padding": (3, 2), "groups": 2, "bias": False},
    ],
    ids=str,
)
def test_output_padding(options):
    ours, theirs = twins("ConvTranspose2d", 4, 6, (3, 2), **options)
    compare(ours, theirs, torch.randn(2, 4, 4, 5, dtype=torch.float64))


@pytest.mark.parametrize("size", [(10, 13), (11, 14), (12, 15)])
@pytest.mark.parametrize("form", [list, lambda size: (2, 5, *size), torch.Size])
def test_output_size(form, size):
    ours, theirs = twins("ConvTranspose2d", 3, 5, 4, stride=3, padding=(3, 3))
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    assert compare(ours, theirs, x, form(size)).shape[2:] == size
    ours, theirs = twins("ConvTranspose2d", 3, 5, 4, stride=3, padding=3)
    compare(ours, theirs, x[0], (5, *size))


@pytest.mark.parametrize("size", [(9, 13), (13, 13), (10, 16), (10,), (1, 10, 13)])
def test_impossible_output_size(size):
    for namespace in (nn, torch.nn):
        layer = namespace.ConvTranspose2d(3, 5, 4, stride=3, padding=3)
        with pytest.raises(ValueError):
            layer.forward(torch.randn(2, 3, 5, 6), output_size=size)


def strange_inputs():
    """Inputs of shape (2, 4, 7, 6) or (4, 7, 6) that are anything but contiguous."""
    big = torch.randn(4, 8, 14, 18, dtype=torch.float64)
    return {
        "channels last": torch.randn(2, 4, 7, 6, dtype=torch.float64).to(memory_format=torch.channels_last),
        "sliced": big[1:3, ::2, 3:10, ::3],
        "transposed": torch.randn(6, 7, 4, 2, dtype=torch.float64).permute(3, 2, 1, 0),
        "expanded": torch.randn(2, 1, 7, 1, dtype=torch.float64).expand(2, 4, 7, 6),
        "empty batch": torch.randn(0, 4, 7, 6, dtype=torch.float64),
        "unbatched": torch.randn(4, 7, 6, dtype=torch.float64),
        "unbatched and sliced": big[0, 4:, ::2, 5:11],
        "one image": torch.randn(1, 4, 7, 6, dtype=torch.float64),
    }


@pytest.mark.parametrize("kind", strange_inputs())
@pytest.mark.parametrize("out_channels", [2, 12])
@BOTH
def test_strange_inputs(name, out_channels, kind):
    ours, theirs = twins(name, 4, out_channels, (3, 2), stride=(2, 1), padding=(1, 0))
    compare(ours, theirs, strange_inputs()[kind])


@BOTH
def test_memory_format_of_the_input_is_kept(name):
    layer = getattr(nn, name)(4, 12, 3, padding=1)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        output = layer.forward(torch.randn(2, 4, 5, 6).to(memory_format=memory_format))
        assert output.is_contiguous(memory_format=memory_format)


def test_memory_format_is_kept_where_phases_computed_together_are_cropped():
    layer, x = nn.TransposeConv2d(16, 12, 3, 2, 1), torch.randn(2, 16, 8, 8)
    output = layer.forward(x.to(memory_format=torch.channels_last))
    assert output.shape == (2, 12, 15, 15) and output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("gradient", ["expanded", "channels last", "sliced"])
@BOTH
def test_strange_gradients(name, gradient):
    ours, theirs = twins(name, 4, 6, (3, 2), stride=2)
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64, requires_grad=True)
    expected, output = theirs(x), ours.forward(x)
    g = {
        "expanded": torch.randn(1, 6, 1, 1, dtype=torch.float64).expand_as(output),
        "channels last": torch.randn_like(output).to(memory_format=torch.channels_last),
        "sliced": torch.randn(4, 6, 2 * output.shape[2], output.shape[3], dtype=torch.float64)[::2, :, ::2],
    }[gradient]
    expected.backward(g)
    close(ours.backward(g), x.grad)
    close(ours.weight_grad, theirs.weight.grad)
    close(ours.bias_grad, theirs.bias.grad)


@st.composite
def layers(draw):
    def two(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    groups, (c_in, c_out) = draw(st.integers(1, 3)), two(1, 10)
    options = {"stride": two(1, 4), "padding": two(0, 3), "dilation": two(1, 3), "groups": groups}
    options["bias"] = draw(st.booleans())
    return (c_in * groups, c_out * groups, two(1, 5)), options, (draw(st.integers(1, 3)), c_in * groups, *two(1, 9))


@given(layers(), st.sampled_from(["Conv2d", "ConvTranspose2d"]))
def test_random_layers(layer, name):
    args, options, shape = layer
    ours, theirs = twins(name, *args, **options)
    x = torch.randn(shape, dtype=torch.float64)
    try:
        theirs(x)
    except RuntimeError:  # no output: refused by both
        with pytest.raises(RuntimeError):
            ours.forward(x)
        assume(False)
    compare(ours, theirs, x)


@given(layers(), st.sampled_from(["Conv2d", "ConvTranspose2d"]))
def test_state_goes_to_torch_and_back(layer, name):
    args, options, _ = layer
    first, last = (getattr(nn, name)(*args, **options) for _ in range(2))
    theirs = getattr(torch.nn, name)(*args, **options)
    theirs.load_state_dict(first.state_dict())
    last.load_state_dict(theirs.state_dict())
    assert list(first.state_dict()) == list(theirs.state_dict()) == list(last.state_dict())
    assert all(torch.equal(value, last.state_dict()[key]) for key, value in first.state_dict().items())
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in first.state_dict().items())


@given(layers())
def test_transposed_layer_is_the_adjoint_of_the_layer(layer):
    (c_in, c_out, kernel_size), options, (batch, _, *size) = layer
    options["bias"] = False
    conv = nn.Conv2d(c_in, c_out, kernel_size, **options, dtype=torch.float64)
    transposed = nn.TransposeConv2d(c_out, c_in, kernel_size, **options, dtype=torch.float64)
    transposed.weight = conv.weight
    x = torch.randn(batch, c_in, *(s + 12 for s in size), dtype=torch.float64)
    output = conv.forward(x)
    y = torch.randn_like(output)
    close((x * transposed.forward(y, output_size=x.shape[2:])).sum(), (output * y).sum())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@BOTH
def test_half_precision_input_with_float32_parameters(name, dtype):
    layer, reference = (getattr(nn, name)(8, 12, 3, stride=2, padding=1) for _ in range(2))
    reference.load_state_dict(layer.state_dict())
    x, tolerance = torch.randn(2, 8, 9, 10), TOLERANCES[torch.bfloat16]
    output, expected = layer.forward(x.to(dtype)), reference.forward(x)
    g = torch.randn_like(expected)
    results = (output, layer.backward(g.to(dtype)))
    for result, exact in zip(results, (expected, reference.backward(g)), strict=True):
        assert result.dtype == dtype
        torch.testing.assert_close(result.float(), exact, **tolerance)
    for (parameter, gradient), (_, exact) in zip(layer.param(), reference.param(), strict=True):
        assert parameter.dtype == gradient.dtype == torch.float32
        torch.testing.assert_close(gradient / exact.abs().max(), exact / exact.abs().max(), **tolerance)


@BOTH
def test_accumulate_gives_the_parameter_gradients_of_backward(name):
    layer = getattr(nn, name)(3, 4, (2, 3), stride=2, groups=1)
    g = upstream(layer.forward(torch.randn(2, 3, 6, 7)))
    assert layer.accumulate(g) is None
    expected = [gradient.clone() for _, gradient in layer.param()]
    layer.zero_grad()
    layer.backward(g)
    for (_, gradient), value in zip(layer.param(), expected, strict=True):
        assert value.abs().sum() > 0
        assert torch.equal(gradient, value)


@pytest.mark.parametrize("bias", [True, False])
@BOTH
def test_initial_weights_are_torchs(name, bias):
    args = (4, 6, (3, 5), 1, 0)
    torch.manual_seed(7)
    theirs = getattr(torch.nn, name)(*args, groups=2, bias=bias)
    torch.manual_seed(7)
    ours = getattr(nn, name)(*args, groups=2, bias=bias)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
    assert (ours.bias is None) is not bias


@BOTH
def test_arguments_and_their_order_are_torchs(name):
    arguments = [list(inspect.signature(getattr(n, name).__init__).parameters) for n in (nn, torch.nn)]
    assert arguments[0] == arguments[1]
    assert nn.ConvTranspose2d is nn.TransposeConv2d


def test_dtype_and_device_arguments():
    for name in ("Conv2d", "ConvTranspose2d"):
        layer = getattr(nn, name)(2, 3, 2, dtype=torch.float64, device="meta")
        assert {(p.dtype, p.device.type, g.dtype, g.device.type) for p, g in layer.param()} == {
            (torch.float64, "meta", torch.float64, "meta")
        }


def test_functional_torch_takes_our_parameters():
    conv, x = nn.Conv2d(3, 5, (2, 3)), torch.randn(2, 3, 6, 7)
    close(torch.nn.functional.conv2d(x, conv.weight, conv.bias), conv.forward(x))


@pytest.mark.parametrize(
    "args, options",
    [
        ((3, 4, 3), {"groups": 2}),
        ((4, 3, 3), {"groups": 2}),
        ((4, 4, 3), {"groups": 0}),
        ((3, 4, 3), {"padding": "full"}),
        ((3, 4, 3), {"padding": "same", "stride": 2}),
        ((3, 4, 3), {"padding_mode": "mirror"}),
    ],
    ids=str,
)
def test_arguments_that_torchs_constructor_refuses(args, options):
    for namespace in (nn, torch.nn):
        with pytest.raises(ValueError):
            namespace.Conv2d(*args, **options)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize(
    "options", [{"stride": 0}, {"stride": (1, -1)}, {"padding": -1}, {"dilation": 0}, {"kernel_size": (3, 0)}], ids=str
)
@BOTH
def test_numbers_that_torch_refuses_in_forward_are_refused_with_its_type(name, options):
    options = {"kernel_size": 3, **options}
    for namespace in (nn, torch.nn):
        with pytest.raises(RuntimeError):
            getattr(namespace, name)(1, 1, **options).forward(torch.randn(1, 1, 8, 8))


def test_transposed_arguments_that_torch_refuses():
    for namespace in (nn, torch.nn):
        with pytest.raises(ValueError):
            namespace.ConvTranspose2d(1, 1, 3, padding_mode="reflect")
        for options in ({"output_padding": 1}, {"output_padding": -1}, {"stride": 2, "output_padding": (0, 2)}):
            with pytest.raises(RuntimeError):
                namespace.ConvTranspose2d(1, 1, 3, **options).forward(torch.randn(1, 1, 8, 8))


@pytest.mark.parametrize("shape", [(4, 1, 32, 32), (32, 32), (1, 4, 3, 8, 8), (1, 32, 32), (), (2, 3, 0, 9)])
@BOTH
def test_input_shapes_that_torch_refuses(name, shape):
    for namespace in (nn, torch.nn):
        with pytest.raises(RuntimeError):
            getattr(namespace, name)(3, 16, 3, padding=1).forward(torch.randn(shape))


def test_message_says_who_what_was_expected_and_what_came():
    with pytest.raises(RuntimeError) as error:
        nn.Conv2d(3, 16, 3).forward(torch.randn(4, 1, 32, 32))
    assert "Conv2d(3 -> 16, 3x3): expected input (N, 3, H, W)" in str(error.value)
    assert "got (4, 1, 32, 32)" in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.uint8, torch.bfloat16], ids=str)
@BOTH
def test_input_dtype(name, dtype):
    layer, x = getattr(nn, name)(1, 1, 1), torch.ones(1, 1, 2, 2, dtype=dtype)
    if dtype == torch.bfloat16:
        assert layer.forward(x).dtype == dtype
    else:
        with pytest.raises(RuntimeError, match=str(dtype)):
            layer.forward(x)


@BOTH
def test_weight_and_bias_of_different_dtype(name):
    layer = getattr(nn, name)(2, 3, 1)
    layer.bias = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="bias"):
        layer.forward(torch.randn(1, 2, 3, 3))


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 1, 5), nn.TransposeConv2d(1, 1, 2, padding=4)], ids=repr)
def test_input_too_small_for_an_output(layer):
    with pytest.raises(RuntimeError, match="output"):
        layer.forward(torch.randn(2, 1, 4, 4))


@pytest.mark.parametrize("make", [partial(nn.Conv2d, 2, 3, 2), partial(nn.TransposeConv2d, 2, 3, 2)])
def test_gradient_of_the_wrong_shape(make):
    layer = make()
    output = layer.forward(torch.randn(2, 2, 4, 4))
    for wrong in (output[:1], output[:, :2], output[..., 1:], output[0]):
        with pytest.raises(RuntimeError, match="grad_output"):
            layer.backward(wrong)
    assert all(not gradient.any() for _, gradient in layer.param())


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_batch_goes_both_ways(mode, dilation, dtype):
    layer = nn.Conv2d(2, 4, 3, padding=dilation, dilation=dilation, groups=2, padding_mode=mode, dtype=dtype)
    output = layer.forward(torch.ones(0, 2, 4, 5, dtype=dtype))
    assert output.shape == (0, 4, 4, 5) and layer.backward(output).shape == (0, 2, 4, 5)
    assert layer.weight_grad.abs().max() == 0 == layer.bias_grad.abs().max()


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_batch_goes_both_ways_transposed(dilation, dtype):
    layer = nn.TransposeConv2d(2, 4, 3, 2, 1, output_padding=1, groups=2, dilation=dilation, dtype=dtype)
    output = layer.forward(torch.ones(0, 2, 4, 5, dtype=dtype))
    assert output.shape[:2] == (0, 4) and layer.backward(output).shape == (0, 2, 4, 5)
    assert layer.weight_grad.abs().max() == 0 == layer.bias_grad.abs().max()


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.TransposeConv2d, nn.UpsamplingConv2d])
@pytest.mark.parametrize("wrong", [3.0, "3", True, None, (3,)], ids=repr)
@pytest.mark.parametrize("name", ["in_channels", "out_channels", "groups"])
def test_numbers_of_channels_are_integers(kind, wrong, name):
    with pytest.raises(TypeError, match=f"{name}: expected an int, got"):
        kind(**{"in_channels": 3, "out_channels": 3, "kernel_size": 3, name: wrong})
