"""Write a denoiser as an ONNX file, and prove that it computes the same.

examples:
  noise2noise export --onnx denoiser.onnx
  noise2noise export --onnx own.onnx --weights own.pth

The file's input is `image`, (N, 3, H, W), float32 in [0, 1], sides multiples of 4 (prescribed) or 8 (RED-Net). The file
is run through onnx's reference evaluator on images of several sizes; if it differs, it is not written. That
takes a few seconds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .. import nn, onnx
from ..storage.files import replacing
from .common import add_model_arguments, check_outputs, load_model, say

if TYPE_CHECKING:
    from onnx import ModelProto

SIZES = ((1, 4, 4), (2, 8, 4))  # number, height, width: the evaluator is slow
TOLERANCE = 1e-4  # of the range [0, 1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace a file that is there already")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    check_outputs([args.onnx], [args.weights], args.force)
    if args.precision not in (None, "fp32"):
        say(f"--precision {args.precision} does nothing: the file holds float32")
    network = load_model(args).network.to(device="cpu", dtype=torch.float32)
    made = onnx.build(network, f"{network.multiple=}: H and W are multiples of it")
    print("Running the graph through onnx's reference evaluator ...", flush=True)
    worst = largest_difference(network, made)
    if not worst <= TOLERANCE:
        raise RuntimeError(
            f"the ONNX graph differs from the network by {worst:.2g}, more than {TOLERANCE}; not written"
        )
    with replacing(args.onnx, args.force) as file:
        file.write(made.SerializeToString())
    sizes = ", ".join(f"{n} of {h} x {w}" for n, h, w in SIZES)
    print(f"{args.onnx}: ONNX opset {onnx.OPSET}, {args.onnx.stat().st_size / 2**20:.1f} MiB")
    print(f"largest difference from the network, images {sizes}: {worst:.2g} of 1 (onnx's reference evaluator)")


def largest_difference(network: nn.Module, made: ModelProto) -> float:
    """Between the network and onnx's reference evaluator, on random images."""
    generator, differences = torch.Generator().manual_seed(0), []
    for count, height, width in SIZES:
        scale = max(1, network.multiple // 4)
        images = torch.rand(count, 3, height * scale, width * scale, generator=generator)
        theirs = torch.from_numpy(onnx.run(made, images))
        differences.append((network.forward(images) - theirs).abs().max())
    return float(torch.stack(differences).max())  # not a number if one is
