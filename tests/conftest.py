"""What several test files share. HYPOTHESIS_PROFILE chooses 'ci' (default: few examples, the same ones every time) or
'nightly' (many, new ones every time)."""

import os
from functools import partial

import pytest
import torch
from hypothesis import settings

from others import denoiser, denoiser_bonus

settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=10_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The tensors of the tests are small: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def small(monkeypatch):
    """Makes Model() build tiny networks, which train in milliseconds."""
    monkeypatch.setattr(denoiser, "Denoiser", partial(denoiser.Denoiser, channels=(8, 12)))
    bonus = partial(denoiser_bonus.Denoiser, layers=((8, 3, 1), (12, 3, 2)))
    monkeypatch.setattr(denoiser_bonus, "Denoiser", bonus)


@pytest.fixture
def pixels():
    """pixels(N, 3, H, W, seed=0): random uint8 images."""

    def make(*shape, seed=0):
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))

    return make
