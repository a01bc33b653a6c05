"""What noise a picture has: its strength, where it is, and whether pixels were drawn from a finer picture."""

import pytest
import torch
from drawn import scene

from others.data import noises
from others.diagnose import noise


@pytest.fixture(scope="module")
def clean():
    return noises.average_photo(scene(), 1, 96, 9, torch.Generator().manual_seed(0))


def seen(pixels):
    return noise.look(pixels.round().clamp(0, 255))


def grain(clean, channels=3):
    return torch.randn(1, channels, *clean.shape[2:], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sigma", [3, 8, 20, 40])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_strength_is_right_within_a_seventh(clean, sigma, channels):
    image = clean.mean(1, keepdim=True) if channels == 1 else clean
    found = seen((image + sigma * grain(clean, channels)).expand(-1, 3, -1, -1))
    assert found.sigma == pytest.approx(sigma, rel=0.15) and not found.drawn
    assert str(found) == f"noise of about sigma {found.sigma:.0f}"


def test_shadows_and_highlights_are_told_apart(clean):
    assert str(seen(clean + grain(clean) * (clean / 3).sqrt())).endswith("stronger in the highlights")
    assert str(seen(clean + grain(clean) * ((255 - clean) / 3).sqrt())).endswith("stronger in the shadows")


def test_a_clean_picture_has_hardly_any_noise(clean):
    assert str(seen(clean)) == "hardly any noise"


def test_drawn_pixels_are_recognised_and_nothing_else(clean):
    drawn = noises.subsample_photo(scene(), 1, 96, 9, torch.Generator().manual_seed(0))[0]
    assert seen(drawn.float()).drawn and "drawn from a finer picture" in str(seen(drawn.float()))
    blurred = torch.nn.functional.avg_pool2d(clean, 3, 1, 1)
    for image in (clean, blurred, clean + 15 * grain(clean), clean + 15 * grain(clean, 1)):
        assert not seen(image).drawn


def test_nothing_is_said_of_too_few_or_equal_pixels(clean):
    assert seen(clean[:, :, :31]) is None and seen(clean[..., :31]) is None
    assert seen(torch.full((1, 3, 40, 40), 77.0)) is None
    assert seen(clean[:, :, :32, :32]) is not None


def test_clipped_pixels_do_not_hide_the_noise():
    """Half of the picture is white: its noise is cut off there."""
    image = torch.full((1, 3, 64, 128), 100.0)
    image[..., 64:] = 300
    assert seen(image + 20 * grain(image)).sigma == pytest.approx(20, rel=0.15)
    assert seen(torch.full((1, 3, 64, 64), 300.0) + 40 * grain(image[..., :64])).sigma < 20  # all of it is


def test_a_large_picture_is_looked_at_in_its_middle(clean):
    large = torch.full((1, 3, 2000, 1500), 90.0)
    large[:, :, 488:1512, 238:1262] += 12 * torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    assert seen(large).sigma == pytest.approx(12, rel=0.1)


def test_no_pixel_moves_by_more_than_the_noise_explains():
    """Of a clean picture nearly nothing is taken; where noise is strong all is."""
    pixels, denoised = torch.full((1, 3, 4, 4), 100.0), torch.full((1, 3, 4, 4), 60.0)
    for sigma, result in ((0.0, 100.0), (1.0, 100 - 3 * 9 / 8), (4.0, 100 - 12 * 1.5), (20.0, 60.0)):
        moved = noise.limited(pixels, denoised, noise.Noise(sigma, sigma, sigma, False))
        assert torch.equal(moved, torch.full_like(pixels, result))
    assert torch.equal(noise.limited(pixels, denoised, None), denoised)
