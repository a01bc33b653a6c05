"""`noise2noise simulate`: data in the course's format, with the noise that was asked for."""

import math
import os

import pytest
import torch

from others import data

pytest.importorskip("PIL")


@pytest.fixture
def photos(tmp_path, save):
    """Three photographs of 5 x 5 cells each of their own colour, with a texture."""
    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        flat = torch.randint(60, 190, (8, 9, 3), generator=generator).repeat_interleave(40, 0).repeat_interleave(40, 1)
        grain = torch.randint(-30, 31, flat.shape[:2], generator=generator).unsqueeze(2)
        save(tmp_path / "photos" / f"{number}.png", (flat + grain).to(torch.uint8))
    return tmp_path / "photos"


def test_subsampling(tmp_path, here, photos):
    status, _, stderr = here("simulate", "photos", "out", "--pairs", "30", "--images", "40")
    assert (status, stderr) == (0, "")
    first, second = data.load_pairs(tmp_path / "out" / "train_data.pkl")
    noisy, clean = data.load_pairs(tmp_path / "out" / "val_data.pkl")
    assert first.shape == second.shape == (30, 3, 32, 32) and noisy.shape == clean.shape == (40, 3, 32, 32)
    noise = noisy.float() - clean.float()
    assert abs(float(noise.mean())) < 0.5  # unbiased
    assert 15 < float(noise.std()) < 40  # of the grain, uniform in -30..30, and the edges
    channels = noise - noise.mean(1, keepdim=True)
    assert float(channels.std()) < 0.7 * float(noise.std())  # one source pixel for the three
    between = ((first.float() - second.float()) ** 2).mean()
    assert float(between) == pytest.approx(2 * float(noise.var()), rel=0.3)  # independent versions
    status, _, stderr = here("simulate", "photos", "out")
    assert status == 1 and "--force" in stderr


def noise_of(here, tmp_path, *options):
    options = ["--pairs", 4, "--images", 40, "--force", *options]
    assert here("simulate", "photos", "out", *options)[0] == 0
    noisy, clean = data.load_pairs(tmp_path / "out" / "val_data.pkl")
    return noisy.float() - clean.float(), clean.float()


def test_gaussian_and_poisson(tmp_path, here, photos):
    noise, _ = noise_of(here, tmp_path, "--noise", "gaussian", "--sigma", 10)
    assert float(noise.std()) == pytest.approx(10, rel=0.03)
    noise, clean = noise_of(here, tmp_path, "--noise", "poisson", "--photons", 100)
    assert float(noise.pow(2).mean()) == pytest.approx(float(clean.mean()) * 2.55, rel=0.05)


def counting(value, photons, gain=1):
    """The standard deviation of a count of so much light, as the picture shows it: pixel value in 0-255 -> the same.
    Written out for one pixel: the slope of gamma and tone curve at that light, times the noise of the counts."""

    def shown(light):
        gamma = 1.055 * (light * gain) ** (1 / 2.4) - 0.055
        return 255 * gamma**2 * (3 - 2 * gamma)

    low, high = 0.004 / gain, 1 / gain
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if shown(middle) < value else (low, middle)
    slope = (shown(low * 1.0001) - shown(low / 1.0001)) / (low * 0.0002)
    read = math.exp(2.18 * math.log(1 / photons) + 1.2)
    return slope * math.sqrt(low / photons + read)


@pytest.mark.parametrize("photons", [10_000, 1_000])
def test_the_camera_counts_photons(tmp_path, here, save, photons):
    for name in "ab":  # of odd sides
        save(tmp_path / "photos" / f"{name}.png", torch.tensor([90, 120, 150], dtype=torch.uint8).expand(301, 295, 3))
    noise, clean = noise_of(here, tmp_path, "--noise", "camera", "--photons", photons)
    assert (clean[..., 2:-2, 2:-2] - torch.tensor([90, 120, 150]).view(3, 1, 1)).abs().max() <= 1  # without its noise
    counted = noise[:, 1, ::2, 1::2]  # green, beside red
    assert float(counted.std()) == pytest.approx(counting(120, photons), rel=0.06)
    assert abs(float(noise.mean())) < 0.5
    assert float(noise[:, 1, ::2, ::2].std()) < 0.9 * float(counted.std())  # interpolated
    first, second = data.load_pairs(tmp_path / "out" / "train_data.pkl")
    both = (first.float() - clean[:1]) * (second.float() - clean[:1])
    assert abs(float(both[..., 2:-2, 2:-2].mean())) < 0.1 * float(noise.var())  # independent


def test_the_camera_leaves_grey_as_grey(tmp_path, here, save):
    for name in "ab":
        save(tmp_path / "photos" / f"{name}.png", torch.full((300, 300, 1), 120, dtype=torch.uint8))
    noise, _ = noise_of(here, tmp_path, "--noise", "camera", "--photons", 1000)
    assert torch.equal(noise, noise[:, :1].expand_as(noise))
    assert float(noise.std()) == pytest.approx(counting(120, 1000), rel=0.06)


@pytest.mark.parametrize("noise", ["subsampling", "gaussian", "poisson", "camera"])
def test_the_seed_decides(tmp_path, here, photos, noise):
    noises = [noise_of(here, tmp_path, "--noise", noise, "--seed", seed)[0] for seed in (3, 3, 4)]
    assert torch.equal(noises[0], noises[1]) and not torch.equal(noises[0], noises[2])


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["missing", "out"], 1, "no folder missing"),
        (["empty", "out"], 1, "no photographs"),
        (["one", "out"], 1, "expected two photographs"),
        (["bad", "out"], 1, "not a picture"),
        (["photos", "photos/0.png"], 1, "0.png"),
        (["photos", "out", "--pairs", "0"], 2, "positive int"),
        (["photos", "out", "--sigma", "x"], 2, "positive float"),
        (["photos", "out", "--sigma", "inf"], 2, "positive float"),
        (["photos", "out", "--sigma", "1e30"], 2, "expected a positive float up to 1,000,000, got 1e30"),
        (["photos", "out", "--photons", "1e308"], 2, "expected a positive float up to 1,000,000"),
        (["photos", "out", "--photons", "1e-300"], 2, "expected a float of at least 0.001, got 1e-300"),
        (["photos", "out", "--cell", "9" * 30], 2, "expected a positive int up to 418, got 999"),
        (["photos", "out", "--pairs", "9" * 30], 2, "expected a positive int up to 1,000,000,000"),
        (["photos", "out", "--seed", "9" * 30], 2, "expected a seed between"),
        (["photos", ""], 2, "expected the name of a file or folder, got ''"),
        (["photos", "out", "--photons", "nan"], 2, "positive float"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, here, photos, picture, save, arguments, status, message):
    (tmp_path / "empty").mkdir()
    save(tmp_path / "one" / "x.png", picture())
    (tmp_path / "bad").mkdir()
    for name in "ab":
        (tmp_path / "bad" / f"{name}.png").write_text("no picture")
    found, _, stderr = here("simulate", *arguments)
    assert found == status and message in stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing(tmp_path, here, photos, monkeypatch):
    def full(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.fsync", full)
    status, _, stderr = here("simulate", "photos", "out", "--pairs", 2, "--images", 2)
    assert status == 1 and "No space left" in stderr and os.listdir(tmp_path / "out") == []


def test_what_does_not_fit_into_the_memory_is_said_before_the_work(tmp_path, here, photos, monkeypatch):
    monkeypatch.setattr(data, "load_photo", lambda *_: pytest.fail("checked too late"))
    empty = torch.empty

    def full(*shape, **options):
        if shape[0] > 1000:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", full)
    status, _, stderr = here("simulate", "photos", "out", "--pairs", 10**9)
    assert status == 1 and "1,000,000,000 images take 5,722 GiB of memory" in stderr and len(stderr.splitlines()) == 1


def test_a_photograph_that_cannot_be_read_does_not_stop_the_others(tmp_path, here, photos):
    options = ["simulate", "photos", "out", "--pairs", 4, "--images", 2]
    (tmp_path / "photos" / "00.png").write_text("no picture")
    status, stdout, stderr = here(*options)
    assert status == 1 and "out/val_data.pkl: 2 x (2, 3, 32, 32)" in stdout
    assert len(stderr.splitlines()) == 2 and stderr.endswith("simulate: left out: photos/00.png\n")
    made = data.load_pairs(tmp_path / "out" / "train_data.pkl")
    assert all(image.float().std() > 1 for images in made for image in images)
    (tmp_path / "photos" / "2.png").write_text("nor this, by which to validate")
    status, _, stderr = here(*options, "--force")
    assert status == 1 and "photos/2.png: not a picture" in stderr.splitlines()[-1]


def test_all_kinds_of_photographs_are_taken_and_others_named(tmp_path, here, photos, picture, save):
    save(tmp_path / "photos" / "deep.tif", picture(40, 40, dtype=torch.uint16))
    (tmp_path / "photos" / "notes.txt").touch()
    (tmp_path / "photos" / "folder.png").mkdir()
    options = ["--pairs", 8, "--images", 2, "--cell", 1]
    status, stdout, stderr = here("simulate", "photos", "out", *options)
    assert status == 0 and "from 4 photographs" in stdout
    assert stderr == "note: left out: photos/folder.png, photos/notes.txt: no photograph by its name, or a folder\n"


def test_options_that_do_nothing_are_said(here, photos):
    for noise, option, said in (("poisson", "--sigma", True), ("gaussian", "--photons", True),
                                ("gaussian", "--sigma", False), ("subsampling", "--photons", True),
                                ("camera", "--sigma", True), ("camera", "--photons", False)):  # fmt: skip
        options = ["--pairs", 2, "--images", 2, "--noise", noise, option, 20, "--force"]
        status, _, stderr = here("simulate", "photos", "out", *options)
        assert status == 0 and (stderr == f"note: {option} does nothing with --noise {noise}\n") == said
