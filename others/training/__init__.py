"""Training: the loop, the state of a run, the signals that wait for it, and the processes that share it."""

from .loop import Recipe, Record, collect, expectation, fit, noise_variance, show, train_step, validate
from .run import Diverged
from .workers import ALONE, joined

__all__ = [
    "ALONE",
    "Diverged",
    "Recipe",
    "Record",
    "collect",
    "expectation",
    "fit",
    "joined",
    "noise_variance",
    "show",
    "train_step",
    "validate",
]
