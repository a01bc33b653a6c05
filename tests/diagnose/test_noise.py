"""What noise a picture has: its strength, where it is, and whether pixels were drawn from a finer picture."""

import pytest
import torch
from drawn import scene

from others import data
from others.data import noises
from others.data.camera_pairs import compressed
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
    assert str(seen(clean)) == "hardly any fine noise"


def test_drawn_pixels_are_recognised_and_nothing_else(clean):
    drawn = noises.subsample_photo(scene(), 1, 96, 9, torch.Generator().manual_seed(0))[0]
    assert seen(drawn.float()).drawn and "drawn from a finer picture" in str(seen(drawn.float()))
    blurred = torch.nn.functional.avg_pool2d(clean, 3, 1, 1)
    for image in (clean, blurred, clean + 15 * grain(clean), clean + 15 * grain(clean, 1)):
        assert not seen(image).drawn


def test_screens_stars_and_palettes_are_not_taken_for_drawn_pixels(clean):
    """Which the course's weights would smear."""
    generator = torch.Generator().manual_seed(0)
    letters = (torch.rand(32, 48, 5, 4, generator=generator) < 0.5).float()
    letters[..., 3] = letters[:, :, 4] = 0
    screen = 255 * (1 - letters.permute(0, 2, 1, 3).reshape(1, 1, 160, 192).expand(1, 3, -1, -1))
    sky = torch.full((1, 3, 160, 192), 12.0) + 3 * torch.randn(1, 3, 160, 192, generator=generator)
    shown = torch.rand(1, 1, 160, 192, generator=generator) < 0.01
    stars = torch.where(shown, 60 + 190 * torch.rand(1, 1, 160, 192, generator=generator), sky).clamp(0, 255).round()
    drawn = noises.subsample_photo(scene(), 1, 96, 9, torch.Generator().manual_seed(0))[0].float()
    palette = (drawn / 128).round() * 127.5  # three values of each channel: 27 colours
    for image in (screen, stars, palette):
        assert not seen(image).drawn


@pytest.mark.parametrize(("index", "kind"), [(0, "grey"), (6, "grey"), (7, "grey"), (0, "JPEG"), (6, "JPEG")])
def test_weak_noise_of_grey_pictures_and_under_jpeg_is_not_taken_for_drawn_pixels(index, kind):
    place = (torch.arange(640) + 0.5) / 640
    picture = data.Scene(seed=0, index=index).colour_at(torch.cartesian_prod(place, place)).view(3, 640, 640)
    picture, generator = 255 * noises.cell_means(picture, 5), torch.Generator().manual_seed(index)
    if kind == "grey":
        picture = picture.mean(0, keepdim=True)
    noisy = (picture + 8 * torch.randn(picture.shape, generator=generator)).round().clamp(0, 255).expand(3, -1, -1)
    if kind == "JPEG":
        pytest.importorskip("PIL")
        noisy = compressed(noisy.byte(), 93).float()
    assert not noise.look(noisy.unsqueeze(0)).drawn


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


def test_no_neighbourhood_loses_much_more_than_is_usual():
    """Cloth in a corner lost 40, the rest 4: sqrt(2) times as much is left in the middle of the cloth."""
    pixels = torch.full((1, 3, 96, 128), 100.0)
    pixels[:, :, :48, :48] += 36
    denoised = torch.full((1, 3, 96, 128), 96.0)
    removed = pixels - noise.limited(pixels, denoised)
    torch.testing.assert_close(removed[:, :, :24, :24], torch.full((1, 3, 24, 24), 4 * 2**0.5))
    torch.testing.assert_close(removed[:, :, 72:, 72:], torch.full((1, 3, 24, 56), 4.0))
    assert removed.max() < 40


def test_noise_that_is_alike_everywhere_goes_as_a_whole():
    pixels = torch.full((1, 3, 61, 83), 100.0)
    denoised = pixels + 20 * grain(pixels)
    assert torch.equal(noise.limited(pixels, denoised), denoised)
    assert torch.equal(noise.limited(pixels, pixels + 0.4), pixels + 0.4)  # hardly anything: no limit
    assert torch.equal(noise.limited(pixels[..., :1, :1].byte(), denoised[..., :1, :1]), denoised[..., :1, :1])


def test_noise_that_is_stronger_in_the_shadows_goes_as_a_whole():
    """A third of the picture is dark and lost 30, the rest 4."""
    pixels = torch.full((1, 3, 96, 96), 180.0)
    pixels[:, :, 64:] = 20
    denoised = pixels - 4
    denoised[:, :, 64:] = 50
    assert torch.equal(noise.limited(pixels, denoised), denoised)


def test_what_lost_nothing_is_not_usual():
    """A white border leaves the noise of the picture inside alone."""
    pixels = torch.full((1, 3, 96, 96), 255.0)
    denoised = pixels.clone()
    denoised[:, :, 40:72, 40:72] -= 10
    assert (pixels - noise.limited(pixels, denoised)).max() > 9.9


def test_strips_give_what_the_whole_gives(monkeypatch):
    pixels = 100 + 20 * torch.randn(1, 3, 90, 75, generator=torch.Generator().manual_seed(0))
    denoised = pixels - 5
    denoised[:, :, 10:60, 30:] = 60
    whole = noise.limited(pixels, denoised)
    monkeypatch.setattr(noise, "STRIP", 16)
    torch.testing.assert_close(noise.limited(pixels, denoised), whole)
    assert not torch.equal(whole, denoised)


def test_coarse_noise_is_told_by_what_was_taken_away():
    generator = torch.Generator().manual_seed(0)
    clean = torch.full((1, 3, 96, 640), 120.0)
    white = torch.randn(clean.shape, generator=generator)
    grain = noises.grained(white, torch.full((1, 1, 1, 1), 1.0))
    for share in (1, 0.5):
        found = [
            noise.in_words(noise.look(clean + n), clean + n, clean + (1 - share) * n, share)
            for n in (12 * white, 12 * grain)
        ]
        assert found == ["noise of about sigma 12", "coarse noise of about sigma 12"]
    assert noise.in_words(noise.look(clean + 12 * grain), clean + 12 * grain, clean + 12 * grain, 0) == str(
        noise.look(clean + 12 * grain)
    )
    assert noise.in_words(None, clean, clean) == "too small or too even to tell its noise"
