"""A small deep-learning framework on plain tensors: no autograd, no torch.nn.

It uses `empty`, `cat` and `arange` of torch, tensor methods and the standard library, nothing else. Start reading at
`module` (the contract) and `kernels` (the three maps of a convolution).
"""

from . import init
from .activations import ELU, LeakyReLU, ReLU, Sigmoid, Tanh
from .containers import Concatenate, Flatten, Identity, Sequential, Skip
from .convolution import Conv2d, ConvTranspose2d, TransposeConv2d
from .losses import MSE, L1Loss, MSELoss
from .module import Module
from .optim import SGD, Adam, CosineAnnealingLR, OneCycleLR, StepLR
from .upsampling import NearestUpsampling, Upsample, UpsamplingConv2d

__all__ = [
    "ELU", "MSE", "SGD", "Adam", "Concatenate", "Conv2d", "ConvTranspose2d", "CosineAnnealingLR", "Flatten",
    "Identity", "L1Loss", "LeakyReLU", "MSELoss", "Module", "NearestUpsampling", "OneCycleLR", "ReLU", "Sequential",
    "Sigmoid", "Skip", "StepLR", "Tanh", "TransposeConv2d", "Upsample", "UpsamplingConv2d", "init",
]  # fmt: skip
