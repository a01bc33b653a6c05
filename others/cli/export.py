"""Write a denoiser as ONNX or safetensors, and prove that the file holds the same.

examples:
  noise2noise export --onnx denoiser.onnx
  noise2noise export --onnx own.onnx --weights own.pth
  noise2noise export --safetensors camera.safetensors --denoiser camera

safetensors: the weights by name, float32, with what they are as metadata; read back and compared bit for bit.

ONNX: the file's input is `image`, (N, 3, H, W), float32 in [0, 1], sides multiples of 4 (prescribed, camera) or
8 (rednet). It is one pass of the network; `denoise` averages two of camera's. For a megapixel, onnxruntime takes about
1 GiB with camera. The file is run through onnx's reference evaluator on images of several sizes; if it differs, it is
not written. That takes a few seconds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .. import nn, onnx
from ..extras import install
from ..storage.files import replacing
from .common import add_model_arguments, check_outputs, load_model, say

if TYPE_CHECKING:
    from onnx import ModelProto

TOLERANCE = 1e-4  # of the range [0, 1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="the network and its weights")
    parser.add_argument("--safetensors", type=Path, metavar="FILE", help="the weights alone")
    parser.add_argument("--force", action="store_true", help="replace a file that is there already")
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> None:
    if not (args.onnx or args.safetensors):
        args.parser.error("expected --onnx FILE or --safetensors FILE")
    check_outputs([args.onnx, args.safetensors], [args.weights], args.force)
    if args.precision not in (None, "fp32"):
        say(f"--precision {args.precision} does nothing: the file holds float32")
    model = load_model(args)
    network = model.network.to(device="cpu", dtype=torch.float32)
    files = [(args.safetensors, in_safetensors(model.denoiser, network))] if args.safetensors else []
    if args.onnx:
        files.append((args.onnx, in_onnx(network)))
    for path, (content, proof) in files:
        with replacing(path, args.force) as file:
            file.write(content)
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, {proof}")


def in_safetensors(name: str, network: nn.Module) -> tuple[bytes, str]:
    """(the file's content, what was proved). Raises ImportError that says what to install."""
    try:
        from safetensors.torch import load, save
    except ImportError as error:
        raise ImportError(f"safetensors is needed: {install('export')}") from error
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    content = save(state, {"denoiser": name, "arguments": json.dumps(network.arguments), "pixels": "0 to 1"})
    again = load(content)
    if again.keys() != state.keys() or not all(torch.equal(again[key], state[key]) for key in state):
        raise RuntimeError("what safetensors reads back differs from the weights; not written")
    return content, f"{len(state)} tensors, equal bit for bit when read back"


def in_onnx(network: nn.Module) -> tuple[bytes, str]:
    """(the file's content, what was proved). Raises RuntimeError if the graph computes something else."""
    made = onnx.build(network, f"{network.multiple=}: H and W are multiples of it")
    print("Running the graph through onnx's reference evaluator ...", flush=True)
    worst = largest_difference(network, made)
    if not worst <= TOLERANCE:
        raise RuntimeError(
            f"the ONNX graph differs from the network by {worst:.2g}, more than {TOLERANCE}; not written"
        )
    tried = ", ".join(f"{n} of {h} x {w}" for n, h, w in sizes(network))
    proof = f"largest difference from the network, images {tried}: {worst:.2g} of 1 (onnx's reference evaluator)"
    return made.SerializeToString(), f"opset {onnx.OPSET}; {proof}"


def sizes(network: nn.Module) -> list[tuple[int, int, int]]:
    """(number, height, width) of images to try: the least, and small ones, as the evaluator is slow."""
    least, side = network.multiple, max(8, network.multiple)
    return [(1, least, least), (2, 2 * side, side)]


def largest_difference(network: nn.Module, made: ModelProto) -> float:
    """Between the network and onnx's reference evaluator, on random images."""
    generator, differences = torch.Generator().manual_seed(0), []
    for count, height, width in sizes(network):
        images = torch.rand(count, 3, height, width, generator=generator)
        theirs = torch.from_numpy(onnx.run(made, images))
        differences.append((network.forward(images) - theirs).abs().max())
    return float(torch.stack(differences).max())  # not a number if one is
