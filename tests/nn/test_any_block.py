"""Every block with arguments, sizes and values at random, against torch or numerically: 200 examples in each run of the
suite, 10,000 with HYPOTHESIS_PROFILE=nightly."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from others import nn
from others.nn.gradcheck.__main__ import blocks

MANY = settings(max_examples=max(200, settings().max_examples))
SIZES = st.integers(1, 9)
SEEDS = st.integers(0, 2**31)
SCALES = st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 100.0, 1e4])
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def values(shape, seed, scale, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(scale).to(dtype)


def assert_like(ours, theirs, inputs, seed):
    """Output, the input's gradients and all parameters' gradients, for a random upstream gradient; no input changed."""
    for parameter, value in zip(theirs.parameters(), ours.parameters()):
        parameter.data = value.clone()
    leaves, before = [x.clone().requires_grad_() for x in inputs], [x.clone() for x in inputs]
    with torch.enable_grad():
        expected = theirs(*leaves)
    output = ours.forward(*inputs)
    torch.testing.assert_close(output, expected.detach(), rtol=1e-8, atol=1e-8)
    upstream = values(expected.shape, seed + 1, 1.0)
    expected.backward(upstream)
    gradients = ours.backward(upstream)
    for got, leaf in zip(gradients if isinstance(gradients, tuple) else (gradients,), leaves):
        torch.testing.assert_close(got, leaf.grad, rtol=1e-8, atol=1e-8)
    for (_, gradient), parameter in zip(ours.param(), theirs.parameters()):
        scale = float(parameter.grad.abs().max()) + 1
        torch.testing.assert_close(gradient / scale, parameter.grad / scale, rtol=1e-8, atol=1e-8)
    assert all(map(torch.equal, inputs, before))


@MANY
@given(PAIRS, PAIRS, PAIRS, st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(1, 2), SIZES, SIZES,
       st.booleans(), SEEDS, SCALES)  # fmt: skip
def test_convolutions(kernel_size, stride, dilation, padding, groups, height, width, bias, seed, scale):
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
    reach = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation)]
    x = values((2, 2, height, width), seed, scale)
    if height + 2 * padding[0] >= reach[0] and width + 2 * padding[1] >= reach[1]:
        pair = nn.Conv2d(2, 4, kernel_size, **options), torch.nn.Conv2d(2, 4, kernel_size, **options)
        assert_like(pair[0].to(torch.float64), pair[1], [x], seed)
    extra = tuple(seed % max(s, d) for s, d in zip(stride, dilation))
    whole = [(n - 1) * s - 2 * p + r + e for n, s, p, r, e in zip((height, width), stride, padding, reach, extra)]
    if min(whole) >= 1:
        options["output_padding"] = extra
        pair = nn.TransposeConv2d(2, 4, kernel_size, **options), torch.nn.ConvTranspose2d(2, 4, kernel_size, **options)
        assert_like(pair[0].to(torch.float64), pair[1], [x], seed)


@MANY
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), SIZES, SIZES, st.booleans(), SEEDS, SCALES)
def test_pooling(kernel_size, stride, padding, height, width, ceil_mode, seed, scale):
    assume(2 * padding <= kernel_size and min(height, width) + 2 * padding >= kernel_size and scale)
    arguments = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    x = values((2, 3, height, width), seed, scale)
    assert_like(nn.MaxPool2d(**arguments), torch.nn.MaxPool2d(**arguments), [x], seed)


@MANY
@given(st.sampled_from(["ReLU", "LeakyReLU", "ELU", "Tanh", "Sigmoid", "Identity", "Flatten"]),
       st.lists(st.integers(1, 5), min_size=2, max_size=5), SEEDS, SCALES)  # fmt: skip
def test_activations(name, shape, seed, scale):
    assert_like(getattr(nn, name)(), getattr(torch.nn, name)(), [values(shape, seed, scale)], seed)


@MANY
@given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 7), st.integers(1, 7), st.booleans(), SEEDS, SCALES)
def test_linear(leading, inputs, outputs, bias, seed, scale):
    pair = nn.Linear(inputs, outputs, bias).to(torch.float64), torch.nn.Linear(inputs, outputs, bias)
    assert_like(*pair, [values((*leading, inputs), seed, scale)], seed)


@MANY
@given(PAIRS, SIZES, SIZES, SEEDS, SCALES)
def test_upsampling(scale_factor, height, width, seed, scale):
    x = values((2, 3, height, width), seed, scale)
    options = {"scale_factor": scale_factor}
    assert_like(nn.NearestUpsampling(**options), torch.nn.Upsample(**options), [x], seed)


@MANY
@given(st.sampled_from([("MSE", "MSELoss"), ("L1Loss", "L1Loss")]), st.sampled_from(["mean", "sum"]),
       st.lists(st.integers(1, 5), max_size=4), SEEDS, SCALES)  # fmt: skip
def test_losses(names, reduction, shape, seed, scale):
    ours, theirs = getattr(nn, names[0])(reduction=reduction), getattr(torch.nn, names[1])(reduction=reduction)
    x, target = (values(shape, seed + n, scale) for n in range(2))
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        expected = theirs(leaf, target)
        expected.backward()
    torch.testing.assert_close(ours.forward(x, target), expected.detach())
    torch.testing.assert_close(ours.backward(), leaf.grad)


@MANY
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4), SIZES, SIZES, SEEDS)
def test_containers(layers, height, width, seed):
    """Chains of convolutions with skips: the gradient of the whole is the slope in a random direction."""
    channels, body = 2, []
    for width_of, kernel in layers:
        body += [nn.Conv2d(channels, width_of, kernel, padding=kernel // 2), nn.Tanh()]
        channels = width_of
    inside = nn.Sequential(*body)
    assume(inside.forward(torch.zeros(1, 2, height, width)).shape[2:] == (height, width))
    net = nn.Sequential(nn.Concatenate(inside), nn.Skip(nn.Conv2d(2 + channels, 2 + channels, 1))).to(torch.float64)
    x, direction = values((2, 2, height, width), seed, 1.0), values((2, 2, height, width), seed + 1, 1.0)
    upstream = values(net.forward(x).shape, seed + 2, 1.0)
    slope = float((net.backward(upstream) * direction).sum())
    step = 1e-6
    difference = (net.forward(x + step * direction) - net.forward(x - step * direction)) / (2 * step)
    assert float((difference * upstream).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-5)


@MANY
@given(st.sampled_from(["SGD", "Adam"]), st.floats(0, 1), st.floats(0, 0.99), st.floats(0, 0.5), st.integers(1, 5),
       SEEDS, SCALES)  # fmt: skip
def test_optimisers(name, lr, momentum, weight_decay, steps, seed, scale):
    options = {"lr": lr, "weight_decay": weight_decay}
    options |= {"momentum": momentum} if name == "SGD" else {"betas": (momentum, 0.99)}
    ours, theirs = values((3, 2), seed, 1.0), torch.nn.Parameter(values((3, 2), seed, 1.0))
    gradient = torch.zeros_like(ours)
    pair = getattr(nn, name)([(ours, gradient)], **options), getattr(torch.optim, name)([theirs], **options)
    for step in range(steps):
        gradient.copy_(values((3, 2), seed + 1 + step, scale))
        theirs.grad = gradient.clone()
        for optimiser in pair:
            optimiser.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-9)


ONE_CALL = [block for block in blocks() if type(block[0]).backward is not nn.Module.backward]


@pytest.mark.parametrize("block", ONE_CALL, ids=lambda block: type(block[0]).__name__)
def test_a_gradient_of_another_shape_is_an_error(block):
    module, *inputs = block
    module.to(torch.float64)
    output = module.forward(*inputs)
    for shape in {(), (1,), (*output.shape, 1), (*output.shape[:-1], output.shape[-1] + 1)} if output.dim() else {(1,)}:
        for backward in (module.backward, module.accumulate):
            with pytest.raises(RuntimeError, match=r"expected grad_output \("):
                backward(torch.ones(shape, dtype=output.dtype))
    module.backward(torch.ones_like(output))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
@pytest.mark.parametrize("module", [nn.ReLU(), nn.LeakyReLU(), nn.ELU(), nn.Sigmoid(), nn.Tanh()], ids=str)
def test_what_has_no_gradient_does_not_go_backward(module, dtype):
    """Forward is torch's, if it has one."""
    x = torch.tensor([[-1, 0], [2, 3]], dtype=dtype)
    try:
        expected = getattr(torch.nn, type(module).__name__)()(x)
    except RuntimeError:
        return
    torch.testing.assert_close(module.forward(x), expected)
    with pytest.raises(RuntimeError, match=rf"{module.name()[:4]}.*: expected floating-point input to go backward"):
        module.backward(torch.ones(2, 2))


LAYERS = [(nn.Conv2d, 2, 3, 3), (nn.TransposeConv2d, 2, 3, 3), (nn.Linear, 2, 3)]


@pytest.mark.parametrize("make, sizes", [(make, sizes) for make, *sizes in LAYERS])
@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_parameters_are_floating_point(make, sizes, dtype):
    with pytest.raises(RuntimeError, match=r"weight: expected a floating-point tensor|not implemented"):
        make(*sizes, dtype=dtype)
    layer = make(*sizes)
    before = layer.weight.clone()
    with pytest.raises(RuntimeError, match=r"weight: expected a floating-point tensor, got torch"):
        layer.weight = before.to(dtype)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("loss", [nn.MSE(), nn.L1Loss(reduction="sum")], ids=str)
@pytest.mark.parametrize("dtypes", [(torch.uint8, torch.uint8), (torch.int64, torch.float32),
                                    (torch.complex64, torch.complex64), (torch.float32, torch.complex64)])  # fmt: skip
def test_losses_are_of_floating_point_numbers(loss, dtypes):
    with pytest.raises(RuntimeError, match="expected floating-point input and real target"):
        loss.forward(*(torch.tensor([0, 200]).to(dtype) for dtype in dtypes))
    assert loss.forward(torch.tensor([0.0, 200.0]), torch.tensor([3, 200], dtype=torch.uint8)) > 0
