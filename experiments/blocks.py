"""Every block against its counterpart in torch, on random inputs, weights and upstream gradients: how far apart."""

import torch
from torch import nn as theirs

from others import nn

IMAGE = (3, 4, 11, 14)

#: name: (ours, theirs, options of both, shape of the input)
BLOCKS = {
    "Conv2d": (nn.Conv2d, theirs.Conv2d, {"in_channels": 4, "out_channels": 6, "kernel_size": 3}, IMAGE),
    "Conv2d, stride, padding, dilation": (
        nn.Conv2d, theirs.Conv2d,
        {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 2), "stride": 2, "padding": (1, 2),
         "dilation": (2, 1)},
        IMAGE,
    ),
    "Conv2d, groups": (
        nn.Conv2d, theirs.Conv2d, {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2}, IMAGE,
    ),
    "Conv2d, 64 channels": (
        nn.Conv2d, theirs.Conv2d,
        {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1}, (3, 64, 16, 17),
    ),
    "TransposeConv2d": (
        nn.TransposeConv2d, theirs.ConvTranspose2d, {"in_channels": 4, "out_channels": 6, "kernel_size": 3}, IMAGE,
    ),
    "TransposeConv2d, stride, padding, dilation": (
        nn.TransposeConv2d, theirs.ConvTranspose2d,
        {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 2), "stride": 2, "padding": 1, "output_padding": 1,
         "dilation": (2, 3)},
        IMAGE,
    ),
    "TransposeConv2d, groups": (
        nn.TransposeConv2d, theirs.ConvTranspose2d,
        {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2}, IMAGE,
    ),
    "NearestUpsampling": (nn.NearestUpsampling, theirs.UpsamplingNearest2d, {"scale_factor": 2}, IMAGE),
    "UpsamplingConv2d": (
        nn.UpsamplingConv2d,
        lambda **sizes: theirs.Sequential(theirs.Upsample(scale_factor=2), theirs.Conv2d(**sizes, padding=1)),
        {"in_channels": 4, "out_channels": 6, "kernel_size": 3}, IMAGE,
    ),
    "MaxPool2d": (nn.MaxPool2d, theirs.MaxPool2d, {"kernel_size": 3, "stride": 2, "padding": 1}, IMAGE),
    "Linear": (nn.Linear, theirs.Linear, {"in_features": 14, "out_features": 5}, IMAGE),
    "ReLU": (nn.ReLU, theirs.ReLU, {}, IMAGE),
    "LeakyReLU": (nn.LeakyReLU, theirs.LeakyReLU, {"negative_slope": 0.1}, IMAGE),
    "ELU": (nn.ELU, theirs.ELU, {}, IMAGE),
    "Tanh": (nn.Tanh, theirs.Tanh, {}, IMAGE),
    "Sigmoid": (nn.Sigmoid, theirs.Sigmoid, {}, IMAGE),
    "Flatten": (nn.Flatten, theirs.Flatten, {}, IMAGE),
    "MSE": (nn.MSE, theirs.MSELoss, {}, IMAGE),
    "L1Loss": (nn.L1Loss, theirs.L1Loss, {}, IMAGE),
}  # fmt: skip


def differences(name, dtype, seed=0):
    """{output, grad_input, each parameter's gradient: largest absolute difference} of one block."""
    make, make_theirs, options, shape = BLOCKS[name]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        ours, other = make(**options), make_theirs(**options)
        for module in (ours, other):
            module.to(getattr(torch, dtype))
        for mine, other_parameter in zip(ours.parameters(), other.parameters(), strict=True):
            mine.copy_(other_parameter.detach())
        inputs = [
            torch.randn(shape, dtype=getattr(torch, dtype)) for _ in range(1 + isinstance(ours, nn.MSE | nn.L1Loss))
        ]
        leaf = inputs[0].clone().requires_grad_()
        expected, output = other(leaf, *inputs[1:]), ours.forward(*inputs)
        upstream = torch.randn(expected.shape, dtype=expected.dtype)
        expected.backward(upstream)
        found = {"output": (output, expected), "grad_input": (ours.backward(upstream), leaf.grad)}
    for (key, _), (_, gradient), parameter in zip(ours.named_parameters(), ours.param(), other.parameters()):
        found[f"grad_{key}"] = (gradient, parameter.grad)
    return {key: float((mine - torchs.detach()).abs().max()) for key, (mine, torchs) in found.items()}
