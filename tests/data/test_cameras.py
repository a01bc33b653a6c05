"""A simulated camera, and the pairs that it takes."""

import pytest
import torch

from others import data, nn, training
from others.data import camera_pairs, cameras, noises
from others.training.loop import importance, train_step


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(count=2, shot=1e-3):
    return cameras.draw_cameras(torch.full((count, 1, 1, 1), shot), generator())


def test_developing_undoes_what_the_light_was():
    images = torch.rand(2, 3, 6, 8, generator=generator())
    torch.testing.assert_close(cameras.developed(cameras.light(images, drawn()), drawn()), images, rtol=0, atol=1e-5)


def test_each_pixel_counts_the_colour_of_its_place():
    images = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 4, 6)
    assert cameras.mosaic(images)[0, :2, :2].tolist() == [[0, 1], [1, 2]]


def test_interpolation_keeps_what_was_counted_and_is_exact_on_slopes():
    rows, columns = torch.arange(10.0).view(1, 1, -1, 1), torch.arange(12.0).view(1, 1, 1, -1)
    slope = (0.03 * rows + 0.02 * columns).expand(2, 3, 10, 12)
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(cameras.interpolated(cameras.mosaic(slope))[inside], slope[inside])
    counted = torch.rand(2, 10, 12, generator=generator())
    assert torch.equal(cameras.mosaic(cameras.interpolated(counted)), counted)


@pytest.mark.parametrize("height, width", [(2, 2), (3, 8), (7, 5), (6, 9)])
def test_an_odd_side_shows_what_a_larger_picture_shows_there(height, width):
    scene = torch.rand(2, 3, height + 4, width + 4, generator=generator())
    larger, cut = (cameras.interpolated(cameras.mosaic(s)) for s in (scene, scene[..., :height, :width]))
    assert cut.shape == (2, 3, height, width)
    inside = (..., slice(height - 2), slice(width - 2))
    assert torch.equal(cut[inside], larger[inside])


def test_many_exposures_come_near_the_picture_without_noise():
    scene, camera = torch.rand(1, 3, 7, 9, generator=generator()).expand(400, -1, -1, -1) * 0.6 + 0.2, drawn(1, 1e-4)
    still = cameras.photographed(scene[:1], camera, generator(), None)
    for frames, spread in (1, 0.5), (16, 0.1):
        taken = cameras.photographed(scene, camera, generator(), frames)
        deviation = taken.std(0, keepdim=True)
        assert ((taken.mean(0, keepdim=True) - still).abs() < 5 * deviation / 20 + 1e-3).all()
        assert 0 < float(deviation.max()) < spread


def test_a_grey_image_stays_grey_and_others_do_not_change():
    scene = torch.rand(3, 3, 6, 8, generator=generator())
    alone = cameras.photographed(scene, drawn(3), generator())
    scene[1] = scene[1, :1]
    beside = cameras.photographed(scene, drawn(3), generator())
    assert torch.equal(beside[1, :1].expand(3, -1, -1), beside[1]) and torch.equal(beside[[0, 2]], alone[[0, 2]])
    still = cameras.photographed(scene, drawn(3), generator(), None)
    torch.testing.assert_close(still[1], scene[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 16])
def test_counts_have_the_variance_of_shot_and_read_noise(frames):
    camera, counted = drawn(1, 4e-3), torch.full((1, 300, 400), 0.25)
    noise = cameras.exposed(counted, camera, frames, generator()) - counted
    expected = (4e-3 * 0.25 + float(camera.read)) / frames
    assert float(noise.var()) == pytest.approx(expected, rel=0.02) and abs(float(noise.mean())) < 3e-4


def test_noise_of_finished_pictures_has_its_strength_and_is_independent():
    clean = torch.full((200, 3, 32, 32), 0.5)
    clean[:, 0] = 0.4  # no grey
    sigma = torch.full((200, 1, 1, 1), 0.1)
    one, mean = (version - clean for version in noises.sensor_like(clean, sigma, (1, 16), generator()))
    assert float(one.std()) == pytest.approx(0.1, rel=0.1)
    assert float(mean.std()) == pytest.approx(float(one.std()) / 4, rel=0.02)
    assert abs(float((one * mean).mean())) < 2e-5
    grey = noises.sensor_like(torch.full((4, 3, 8, 8), 0.5), sigma[:4], (1,), generator())[0]
    assert torch.equal(grey[:, 0], grey[:, 1]) and float(grey.std()) > 0.05


def test_noise_of_some_pictures_in_colour_is_common_to_the_channels():
    """As film's grain: of a tenth all of it, of another tenth a part."""
    clean = torch.full((400, 3, 32, 32), 0.5)
    clean[:, 0] = 0.4
    (noise,) = (one - clean for one in noises.sensor_like(clean, torch.full((400, 1, 1, 1), 0.1), (1,), generator()))
    noise = noise / noise.std((2, 3), keepdim=True)
    shared = (noise[:, 0] * noise[:, 1]).mean((1, 2))
    assert 20 < int((shared > 0.99).sum()) < 60 and 20 < int(((shared > 0.15) & (shared < 0.95)).sum()) < 60
    assert int((shared.abs() < 0.15).sum()) > 280


def test_grain_is_blurred_noise_of_the_same_strength():
    white, width = torch.randn(3, 2, 200, 200, generator=generator()), torch.tensor([0, 0.6, 1.2]).view(3, 1, 1, 1)
    grain = noises.grained(white, width)
    assert torch.equal(grain[0], white[0])
    torch.testing.assert_close(grain.std((2, 3)), torch.ones(3, 2), rtol=0.05, atol=0)
    for number, neighbour in ((1, 0.445), (2, 0.841)):  # sum of k[t] k[t + 1] over that of k[t]^2
        for axis in (1, 2):
            assert float((grain[number] * grain[number].roll(1, axis)).mean()) == pytest.approx(neighbour, abs=0.04)


def test_some_noise_of_finished_pictures_is_grain():
    clean = torch.full((300, 3, 32, 32), 0.5)
    clean[:, 0] = 0.4
    (noise,) = (one - clean for one in noises.sensor_like(clean, torch.full((300, 1, 1, 1), 0.1), (1,), generator()))
    noise = noise / noise.std((2, 3), keepdim=True)
    beside = (noise * noise.roll(1, 3)).mean((1, 2, 3))
    assert 30 < int((beside > 0.15).sum()) < 90 and int((beside.abs() < 0.15).sum()) > 210


def test_bilinear_interpolation_is_the_mean_of_the_nearest():
    counted = torch.rand(2, 6, 8, generator=generator())
    images = cameras.interpolated(counted, cameras.BILINEAR)
    for row, column in ((2, 2), (2, 3), (3, 2), (3, 3)):  # red, green beside red, green beside blue, blue
        around = counted[:, row - 1 : row + 2, column - 1 : column + 2]
        cross = (around[:, 0, 1] + around[:, 1, 0] + around[:, 1, 2] + around[:, 2, 1]) / 4
        corners = around[:, ::2, ::2].mean((1, 2))
        beside, above = around[:, 1, ::2].mean(1), around[:, ::2, 1].mean(1)
        own = around[:, 1, 1]
        expected = {(2, 2): (own, cross, corners), (2, 3): (beside, own, above), (3, 2): (above, own, beside),
                    (3, 3): (corners, cross, own)}[row, column]  # fmt: skip
        torch.testing.assert_close(images[:, :, row, column], torch.stack(expected, 1))


def test_a_camera_that_interpolates_plainly_leaves_the_others_alone():
    scene, camera = torch.rand(3, 3, 8, 10, generator=generator()), drawn(3)
    usual = cameras.photographed(scene, camera, generator())
    plainly = camera._replace(bilinear=torch.tensor([False, True, False]).view(3, 1, 1, 1))
    mixed = cameras.photographed(scene, plainly, generator())
    assert torch.equal(mixed[::2], usual[::2]) and not torch.equal(mixed[1], usual[1])


def test_some_grey_pictures_are_toned_with_their_noise():
    clean = torch.full((400, 3, 16, 16), 0.5)
    clean[:100, 0] = 0.4
    tints = camera_pairs.toned(clean, generator())
    assert torch.equal(tints[:100], torch.ones(100, 3, 1, 1)) and 0.5 <= float(tints.min()) < 0.7 and tints.max() <= 1
    assert 80 < int((tints[100:] < 1).any(1).sum()) < 160
    _, second = camera_pairs.corrupted(clean[100:], 16, generator())
    shapes = second / second.mean((2, 3), keepdim=True)
    torch.testing.assert_close(shapes, shapes[:, :1].expand_as(shapes), rtol=1e-4, atol=1e-4)


@pytest.fixture
def photos(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for number in range(2):
        pixels = torch.randint(0, 256, (90, 110, 3), dtype=torch.uint8, generator=generator(number))
        image.fromarray(pixels.numpy()).save(tmp_path / f"{number}.png")
    return data.photo_files(tmp_path)


def test_pairs_are_fresh_every_epoch_and_the_same_every_time(photos):
    pairs, again = (data.CameraPairs(photos, 110, size=32, seed=1) for _ in range(2))
    first, second = pairs(0)
    assert first.shape == second.shape == (110, 3, 32, 32)
    assert (first.dtype, second.dtype) == (torch.uint8, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(again(0), (first, second)))
    assert not torch.equal(pairs(1)[0], first)
    assert not torch.equal(data.CameraPairs(photos, 110, size=32, seed=2)(0)[0], first)


def test_validation_has_four_strengths_in_turn(photos):
    noisy, clean = data.camera_validation(photos * 2, size=64)
    sigma = (noisy.float() - clean.float()).std((1, 2, 3))
    assert noisy.shape == clean.shape == (4, 3, 64, 64) and noisy.dtype == clean.dtype == torch.uint8
    assert sigma.tolist() == sorted(sigma.tolist()) and float(sigma[0]) == pytest.approx(5, rel=0.1)


def test_an_image_counts_less_the_noisier_it_is():
    first = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    second = torch.stack([torch.full((3, 4, 4), value) for value in (0.0, 4.0, 12.0)])
    assert importance(first, second, 0.5).flatten().tolist() == pytest.approx([1, 2**-0.5, 10**-0.5])


def test_a_step_weighs_the_gradient_of_each_image():
    """Against the gradients of the images one by one, each times how much it counts."""
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))
    network.multiple = 1
    first, second = (torch.randint(0, 256, (3, 3, 5, 7), generator=generator(n)).to(torch.uint8) for n in (0, 1))
    second[0] = first[0]  # without noise
    weights, expected = importance(first, second, 0.7).flatten(), [0.0, 0.0]
    for number in range(3):
        image, criterion = slice(number, number + 1), nn.MSE()
        for _, gradient in network.param():
            gradient.zero_()
        criterion.forward(network.forward(first[image] / 255), second[image] / 255)
        network.backward(criterion.backward(float(weights[number]) / 3))
        expected = [total + gradient for total, (_, gradient) in zip(expected, network.param())]
    recipe = training.Recipe(clip=1e9, micro_batch=2, balance=0.7)
    train_step(network, nn.SGD(network.param(), lr=0.1), first, second, recipe)
    for (_, gradient), total in zip(network.param(), expected):
        torch.testing.assert_close(gradient, total)


def test_a_pattern_is_laid_over_one_side():
    grey = torch.full((3, 64, 64), 0.5)
    images = torch.stack([camera_pairs.woven(grey, generator(number)) for number in range(200)])
    again = torch.stack([camera_pairs.woven(grey, generator(number)) for number in range(200)])
    moved = (images - grey).abs()
    assert torch.equal(images, again) and 0.5 * camera_pairs.WAVE < moved.max() <= 1.5 * camera_pairs.WAVE
    sides = moved.flatten(2).amax(1) > 1e-3  # where there is a pattern
    shares = sides.float().mean(1)
    assert (shares > 0.9).sum() > 20 < (shares < 0.5).sum()  # of some images nearly all, of others less than half
    assert camera_pairs.woven(torch.ones(3, 8, 8), generator()).max() <= 1


def test_shrinking_coarsely_keeps_pixels_as_they_are():
    crop = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=generator())
    coarse, smooth = (camera_pairs.shrunk(crop, 32, coarsely) for coarsely in (True, False))
    assert coarse.shape == smooth.shape == (3, 32, 32)
    places = (crop.unfold(1, 2, 2).unfold(2, 2, 2).flatten(3) == coarse.unsqueeze(3)).all(0).any(2)
    assert places.all()  # every pixel is one of the four, in all colours
    assert smooth.float().std() < 0.6 * coarse.float().std()  # the mean of four independent ones: half


@pytest.mark.parametrize("share", ["COARSE", "WOVEN", "GREY"])
def test_shares_of_patches(photos, share, monkeypatch):
    for name in ("COARSE", "WOVEN", "GREY"):
        monkeypatch.setattr(camera_pairs, name, 0.0)
    without = data.CameraPairs(photos, 1, size=32)
    plain = [without.cut(generator(number)) for number in range(20)]
    monkeypatch.setattr(camera_pairs, share, 1.0)
    changed = [without.cut(generator(number)) for number in range(20)]
    different = sum(not torch.equal(*pair) for pair in zip(plain, changed))
    assert different == 20 if share != "COARSE" else 5 < different < 20  # a third is not shrunk at all
