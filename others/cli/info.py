"""Show the networks: parameters, receptive field, multiplications, and where their weights come from.

examples:
  noise2noise info
  noise2noise info --weights own.pth --layers"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..model import SHIPPED, Model, denoisers
from ..nn import Module, summary
from ..nn.summary import calls, count, describe_field
from ..storage import networks

SIDE = 64  # of the image that multiplications are counted on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, metavar="FILE", help="instead of the shipped weights")
    parser.add_argument("--layers", action="store_true", help="list the layers too")


def run(args: argparse.Namespace) -> None:
    path = args.weights or SHIPPED
    print(f"weights: {path} ({path.stat().st_size / 2**20:.1f} MiB)" if path.is_file() else f"weights: {path}")
    for name in networks.held(path):
        if name not in denoisers():
            print(f"\n{name}\n  no denoiser here has this name")
            continue
        saved, model = networks.load(path, name), Model(name, device="cpu")
        model.load_pretrained_model(path)
        describe(name, model.network, saved["info"], args.layers)


def describe(name: str, network: Module, provenance: dict[str, Any], layers: bool) -> None:
    print(f"\n{name}")
    products = sum(row.multiplications for row in calls(network, (1, 3, SIDE, SIDE)))
    print(f"  arguments: {network.arguments}")
    print(f"  parameters: {count(network):,}")
    print(f"  {describe_field(network)}")
    print(f"  multiplications: {products / SIDE**2:,.0f} per pixel")
    print("  weights:")
    print("\n".join(entries(provenance, "    ")) or "    no record of where they come from")
    if layers:
        print("\n".join("  " + line for line in summary(network, (1, 3, SIDE, SIDE)).splitlines()))


def entries(record: dict[str, Any], indent: str) -> Iterator[str]:
    """The lines of a dict, and of the dicts in it."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from entries(value, indent + "  ")
        else:
            yield f"{indent}{key}: {value:.6g}" if isinstance(value, float) else f"{indent}{key}: {value}"
