"""Both networks against the same ones written by hand in torch.nn, in float64."""

import pytest
import torch
from comparison import prescribed_in_torch
from torch import nn
from torch.nn import functional as F

from others import denoiser, denoiser_bonus, denoiser_camera
from others.nn import Conv2d, ReLU, Sequential, Sigmoid, TransposeConv2d


class TorchSkip(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


def prescribed():
    ours = denoiser.Denoiser(channels=(8, 12))
    torchs = prescribed_in_torch()
    return ours.to(torch.float64), torchs.double()


def rednet():
    ours = denoiser_bonus.Denoiser(layers=((8, 3, 1), (12, 3, 2)))
    inner = nn.Sequential(
        nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(12, 8, 3, 2, 1, output_padding=1)
    )  # fmt: skip
    outer = nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), TorchSkip(inner), nn.ReLU(), nn.ConvTranspose2d(8, 3, 3, 1, 1)
    )  # fmt: skip
    return ours.to(torch.float64), nn.Sequential(TorchSkip(outer)).double()


both = pytest.mark.parametrize("make", [prescribed, rednet])


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@both
def test_state_moves_from_torch_and_back(make):
    ours, torchs = make()
    x = random(2, 3, 8, 12)
    ours.load_state_dict(torchs.state_dict())
    torch.testing.assert_close(ours.eval().forward(x), torchs(x))

    other, fresh = make()
    assert not torch.allclose(fresh(x), other.forward(x))
    fresh.load_state_dict(other.state_dict())  # strict: every key there, no other, same shapes
    torch.testing.assert_close(fresh(x), other.forward(x))


@both
def test_gradient_of_the_whole_network(make):
    ours, torchs = make()
    ours.load_state_dict(torchs.state_dict())
    x = random(3, 3, 12, 8).requires_grad_()
    upstream = random(3, 3, 12, 8)
    torchs(x).backward(upstream)

    ours.train().forward(x.detach())
    torch.testing.assert_close(ours.backward(upstream), x.grad)
    gradients = {name: gradient for (name, _), (_, gradient) in zip(ours.named_parameters(), ours.param())}
    expected = {name: parameter.grad for name, parameter in torchs.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name in expected:
        assert expected[name].abs().max() > 0
        torch.testing.assert_close(gradients[name], expected[name], msg=lambda m, name=name: f"{name}: {m}")


@both
def test_gradients_accumulate(make):
    ours, _ = make()
    x = random(2, 3, 8, 8)
    ours.train().forward(x)
    ours.backward(x)
    once = [gradient.clone() for _, gradient in ours.param()]
    ours.forward(x)
    ours.accumulate(x)
    for gradient, (_, twice) in zip(once, ours.param()):
        torch.testing.assert_close(twice, 2 * gradient)


def test_rednet_is_mirrored_with_skips():
    """Four convolutions, their mirror, and a skip around each, written out flat."""
    channels, strides = (3, 4, 5, 6, 7), (1, 2, 1, 2)
    network = denoiser_bonus.Denoiser(layers=[(c, 3, s) for c, s in zip(channels[1:], strides)]).to(torch.float64)
    layers = [m for m in network.modules() if isinstance(m, (Conv2d, TransposeConv2d))]
    down, up = layers[:4], layers[4:]
    assert [(type(m), m.in_channels, m.out_channels, m.stride) for m in down] == [
        (Conv2d, channels[i], channels[i + 1], (strides[i],) * 2) for i in range(4)
    ]

    levels = [random(2, 3, 8, 12)]
    for layer, stride in zip(down, strides):
        levels.append(F.relu(F.conv2d(levels[-1], layer.weight, layer.bias, stride, 1)))
    h = levels.pop()
    for layer, stride in zip(up, strides[::-1]):
        level = levels.pop()
        h = level + F.conv_transpose2d(F.relu(h), layer.weight, layer.bias, stride, 1, output_padding=stride - 1)
    torch.testing.assert_close(network.forward(random(2, 3, 8, 12)), h)


def test_the_prescribed_order_of_layers():
    network = denoiser.Denoiser()
    assert isinstance(network, Sequential)
    assert [type(layer) for layer in network] == [
        Conv2d, ReLU, Conv2d, ReLU, TransposeConv2d, ReLU, TransposeConv2d, Sigmoid,
    ]  # fmt: skip
    assert {layer.stride for layer in network if isinstance(layer, (Conv2d, TransposeConv2d))} == {(2, 2)}


def test_rednet_mirrors_its_layers():
    layers = [type(m) for m in denoiser_bonus.Denoiser().modules() if isinstance(m, (Conv2d, TransposeConv2d))]
    assert layers == [Conv2d] * 5 + [TransposeConv2d] * 5


@pytest.mark.parametrize("kernel_sizes", [(2, 2), (3, 2), (4, 5), (5, 3)])
def test_prescribed_kernel_sizes_keep_the_shape(kernel_sizes):
    output = denoiser.Denoiser((4, 6), kernel_sizes).forward(torch.rand(2, 3, 8, 12))
    assert output.shape == (2, 3, 8, 12)
    assert output.min() >= 0 and output.max() <= 1


@pytest.mark.parametrize("layers", [((4, 5, 1),), ((4, 2, 2), (5, 3, 1)), ((4, 4, 2), (5, 5, 2), (6, 3, 2))])
def test_rednet_layers_keep_the_shape(layers):
    network = denoiser_bonus.Denoiser(layers)
    assert network.multiple == 2 ** sum(stride == 2 for _, _, stride in layers)
    size = (network.multiple, 3 * network.multiple)
    assert network.forward(torch.rand(2, 3, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("module, values", [
    (denoiser, {"channels": [4, 6], "kernel_sizes": [2, 3]}),
    (denoiser_bonus, {"layers": [[4, 3, 1], [5, 2, 2]]}),
    (denoiser_camera, {"channels": 5, "blocks": 2}),
])  # fmt: skip
def test_arguments_rebuild_the_network(module, values):
    network = module.Denoiser(**values)
    again = module.Denoiser(**network.arguments)
    again.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(again.forward(x), network.forward(x), rtol=0, atol=0)


def test_the_files_have_the_same_names_inside():
    def names(module):
        return {name for name in vars(module) if name.isupper() or name == "Denoiser"}

    assert names(denoiser) == names(denoiser_bonus) == names(denoiser_camera) >= {"NAME", "RECIPE", "Denoiser"}
    assert len({module.NAME for module in (denoiser, denoiser_bonus, denoiser_camera)}) == 3


@pytest.mark.parametrize("blocks", [-1, 65, 10**9])
def test_a_file_cannot_ask_for_any_number_of_blocks(blocks):
    with pytest.raises(ValueError, match="expected blocks from 0 to 64, got"):
        denoiser_camera.Denoiser(blocks=blocks)
