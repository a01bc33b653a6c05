"""Training: the loop, the state of a run, the signals that wait for it, and the processes that share it."""

from .loop import collect, expectation, fit, noise_variance, show, train_step, validate
from .recipe import Recipe, Record
from .run import Diverged, Source
from .workers import ALONE, Workers, joined

__all__ = [
    "ALONE",
    "Diverged",
    "Recipe",
    "Record",
    "Source",
    "Workers",
    "collect",
    "expectation",
    "fit",
    "joined",
    "noise_variance",
    "show",
    "train_step",
    "validate",
]
