"""Show the networks in a file of weights: what each is for, PSNR, date and size.

examples:
  noise2noise info
  noise2noise info --history                      where the weights come from, training by training
  noise2noise info own.pth --layers

PSNR A is that against clean images at the end of the training, if it had some. It takes a few seconds."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..model import SHIPPED, Model, denoisers
from ..nn import Module, summary
from ..nn.summary import calls, count, describe_field
from ..storage import networks

LINK = r"\[([^\]]+)\]\([^)]+\)"  # of Markdown, to pages that are not in the file of weights
SIDE = 64  # of the image that multiplications are counted on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    file = parser.add_mutually_exclusive_group()
    file.add_argument("file", type=Path, nargs="?", metavar="FILE", help="of weights (default: those shipped)")
    file.add_argument("--weights", type=Path, metavar="FILE", help="the same, as other commands call it")
    parser.add_argument("--history", action="store_true", help="also costs, and the record of every training")
    parser.add_argument("--layers", action="store_true", help="also the layers and their costs")


def run(args: argparse.Namespace) -> None:
    path = args.file or args.weights or SHIPPED
    print(f"weights: {path} ({path.stat().st_size / 2**20:.1f} MiB)" if path.is_file() else f"weights: {path}")
    every = networks.held(path)
    cards: dict[str, None] = {}
    for name in every:
        print(f"\n{name}")
        if name not in denoisers():
            print("  no denoiser here has this name")
            continue
        model = Model(name, device="cpu")
        record = model.load_held(path, every)
        lines = [*summarised(model, record), *(costs(model.network) if args.history or args.layers else ())]
        if args.history:
            cards[record.pop("card", "")] = None  # mostly the same of all
            lines += ["weights:", *(entries(record, "  ") if record else ["  no record of where they come from"])]
        if args.layers:
            lines += summary(model.network, (1, 3, SIDE, SIDE)).splitlines()
        print("\n".join(f"  {line}" for line in lines))
    for card in filter(None, cards):
        print("\n" + re.sub(LINK, r"\1", card))


def summarised(model: Model, record: dict[str, Any]) -> Iterator[str]:
    """What it is for, PSNR, date, size."""
    size = sum(value.numel() * value.element_size() for value in model.network.state_dict().values())
    psnr = record.get("psnr_a")
    told = (model.module.__doc__ or "no description").splitlines()[0].rstrip(".")
    yield told
    measured = record.get("measured", "on its validation images")
    held = record.get("held_out")
    if isinstance(psnr, (int, float)):
        yield f"PSNR A: {psnr:.2f} dB ({measured})"
    elif isinstance(held, dict) and isinstance(held.get("after"), float):
        yield f"PSNR: {held['after']:.2f} dB (on held-out patches, estimated from noisy pictures alone)"
    else:
        yield "PSNR A: not measured"
    yield f"date: {record.get('date', 'unknown')}"
    yield f"parameters: {count(model.network):,} ({size / 2**20:.1f} MiB)"


def costs(network: Module) -> Iterator[str]:
    """What the network is made of, what a pixel depends on and costs."""
    products = sum(row.multiplications for row in calls(network, (1, 3, SIDE, SIDE)))
    yield f"arguments: {network.arguments}"
    yield describe_field(network)
    yield f"multiplications: {products / SIDE**2:,.0f} per pixel"


def entries(record: dict[str, Any], indent: str) -> Iterator[str]:
    """The lines of a dict, and of the dicts in it."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from entries(value, indent + "  ")
        else:
            yield f"{indent}{key}: {value:.6g}" if isinstance(value, float) else f"{indent}{key}: {value}"
