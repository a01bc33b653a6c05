"""What several commands share: the model and its options, pixels of picture files."""

from pathlib import Path

import torch

from Miniproject_2.model import PRECISIONS, Model

from .. import checkpoint, pictures

DENOISERS = ("prescribed", "rednet")


def add_model_arguments(parser):
    model = parser.add_argument_group("model")
    model.add_argument("--denoiser", choices=DENOISERS, help="the network; rednet is a little better, and slower")
    model.add_argument("--weights", type=Path, metavar="FILE", help="instead of the shipped weights")
    model.add_argument("--device", help="cpu, cuda, cuda:1 ...; by default CUDA when there is one")
    model.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of activations (default: fp32)")


def new_model(args):
    """An untrained Model as the arguments describe it."""
    name = args.denoiser
    if args.weights and not name:
        name = next(iter(checkpoint.load(args.weights)["denoisers"]), None)
    try:
        return Model(name, args.device, args.precision)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was compiled with CUDA
        raise ValueError(f"--device {args.device}: {str(error).splitlines()[0]}") from error


def load_model(args):
    """A Model with the weights that the arguments name."""
    model = new_model(args)
    model.load_pretrained_model(*[args.weights] if args.weights else [])
    return model


def first_page(path):
    """The colours of a picture's first page as pixels (1, 3, H, W) in 0-255: uint8, or float32 for others. Raises
    PictureError for floating point beyond 0 to 1: pictures that are compared need one scale."""
    page = next(iter(pictures.read(path).pages))
    if page.is_floating_point() and pictures.span(page) != (0, 1):
        low, high = pictures.span(page)
        raise pictures.PictureError(f"{path}: expected floating point within 0 to 1, got {low:g} to {high:g}; scale it")
    return pictures.to_pixels(page)


def as_uint8(pixels):
    return pixels.round().clamp(0, 255).to(torch.uint8)
