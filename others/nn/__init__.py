"""A small deep-learning framework on plain tensors, without torch's autograd and layers.

It uses `empty`, `cat`, `arange`, `fold` and `unfold` of torch, tensor methods and the standard library, nothing else.
Start reading at `module` (the contract), `reference` (the three maps of a convolution, as specification) and `kernels`
(their fast ways).
"""

from . import init
from .activations import ELU, LeakyReLU, ReLU, Sigmoid, Tanh
from .autograd import Tape
from .containers import Add, Concat, Concatenate, Flatten, Identity, Sequential, Skip
from .convolution import Conv2d, ConvTranspose2d, TransposeConv2d
from .gradcheck import gradcheck
from .linear import Linear
from .losses import MSE, L1Loss, MSELoss
from .matching import MatchedSpectrum
from .module import Module
from .optim import SGD, Adam, CosineAnnealingLR, Muon, OneCycleLR, StepLR
from .pooling import MaxPool2d
from .spectrum import Correction, InverseSpectrum, Spectrum
from .summary import alignment, receptive_field, summary
from .upsampling import NearestUpsampling, Upsample, UpsamplingConv2d

__all__ = [
    "ELU", "MSE", "SGD", "Adam", "Add", "Concat", "Concatenate", "Conv2d", "ConvTranspose2d", "Correction",
    "CosineAnnealingLR", "Flatten", "Identity", "InverseSpectrum", "L1Loss", "LeakyReLU", "Linear", "MSELoss",
    "MatchedSpectrum", "MaxPool2d", "Module", "Muon", "NearestUpsampling", "OneCycleLR", "ReLU", "Sequential",
    "Sigmoid", "Skip", "Spectrum", "StepLR", "Tanh", "Tape", "TransposeConv2d", "Upsample", "UpsamplingConv2d",
    "alignment", "gradcheck", "init", "receptive_field", "summary",
]  # fmt: skip
