"""The border between pixels and [0, 1], the course's files, generated pairs, pairs from photographs."""

import pickle
import re

import pytest
import torch
from payload import Payload
from torch.nn import functional as F

from others import data, pictures
from others.evaluation import metrics

# ----------------------------------------------------------------------------------------------- 0-255 and 0-1


def test_all_256_values_come_back():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    unit = data.to_unit(pixels)
    assert unit.dtype == torch.float32 and unit.min() == 0 and unit.max() == 1
    torch.testing.assert_close(unit.double(), pixels.double() / 255, rtol=1e-7, atol=0)
    assert torch.equal(data.to_pixels(unit).round().to(torch.uint8), pixels)
    torch.testing.assert_close(data.to_pixels(unit), pixels.float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype_counts_to_255(dtype):
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    assert torch.equal(data.to_unit(pixels.to(dtype)), data.to_unit(pixels))


def test_to_unit_is_channels_last_and_copies():
    pixels = torch.full((2, 3, 4, 5), 51.0)
    unit = data.to_unit(pixels)
    assert unit.is_contiguous(memory_format=torch.channels_last)
    unit.zero_()
    assert pixels.min() == 51
    assert data.to_unit(pixels, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_to_pixels_clamps_and_is_contiguous():
    images = torch.tensor([-1.0, 0.25, 2.0]).view(1, 3, 1, 1).expand(1, 3, 4, 5).to(memory_format=torch.channels_last)
    pixels = data.to_pixels(images)
    assert pixels[0, :, 0, 0].tolist() == [0, 63.75, 255]
    assert pixels.is_contiguous()
    assert data.to_pixels(images.to(torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(
    "images, error, parts",
    [
        ([[1]], TypeError, ["expected a tensor (N, 3, H, W)", "got list"]),
        (torch.zeros(3, 8, 8), ValueError, ["(N, 3, H, W)", "got (3, 8, 8)", "first dimension of 1"]),
        (torch.zeros(1, 1, 8, 8), ValueError, ["(N, 3, H, W)", "got (1, 1, 8, 8)"]),
        (torch.zeros(2, 3, 0, 8), ValueError, ["(N, 3, H, W)", "got (2, 3, 0, 8)"]),
        (torch.zeros(1, 3, 8, 8, dtype=torch.bool), TypeError, ["uint8 or floating point", "got torch.bool"]),
        (torch.zeros(1, 3, 8, 8, dtype=torch.complex64), TypeError, ["uint8 or floating", "got torch.complex64"]),
        (torch.full((1, 3, 8, 8), torch.nan), ValueError, ["finite", "NaN"]),
        (torch.full((1, 3, 8, 8), -torch.inf), ValueError, ["finite", "infinity"]),
    ],
    ids=["list", "no-batch", "grey", "no-pixels", "bool", "complex", "nan", "infinity"],
)
def test_check_images_says_what_came(images, error, parts):
    with pytest.raises(error) as raised:
        data.check_images(images, "here")
    for part in ["here: ", *parts]:
        assert part in str(raised.value)


def test_check_pairs_compares_and_names_the_wrong_one(pixels):
    data.check_pairs(pixels(2, 3, 4, 5), pixels(2, 3, 4, 5).float(), "here")
    message = "here: the two versions have different shapes, (2, 3, 4, 5) and (2, 3, 5, 4)"
    with pytest.raises(ValueError, match=re.escape(message)):
        data.check_pairs(pixels(2, 3, 4, 5), pixels(2, 3, 5, 4), "here")
    with pytest.raises(ValueError, match="here, second of the pair: "):
        data.check_pairs(pixels(2, 3, 4, 5), pixels(2, 1, 4, 5), "here")


# -------------------------------------------------------------------------------------------- the course's files


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("container", [tuple, list])
def test_load_pairs_reads_the_courses_files(tmp_path, pixels, container, zipped):
    pair = container([pixels(4, 3, 32, 32), pixels(4, 3, 32, 32, seed=1)])
    torch.save(pair, tmp_path / "val_data.pkl", _use_new_zipfile_serialization=zipped)
    for path in (tmp_path / "val_data.pkl", str(tmp_path / "val_data.pkl")):
        loaded = data.load_pairs(path)
        assert len(loaded) == 2 and all(torch.equal(a, b) for a, b in zip(loaded, pair))
        assert loaded[0].dtype == torch.uint8


def test_load_pairs_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "train_data.pkl"))):
        data.load_pairs(tmp_path / "train_data.pkl")
    with pytest.raises(FileNotFoundError):
        data.load_pairs(tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"PK\x03\x04 not a zip", b"\x80\x02not a pickle"])
def test_load_pairs_refuses_garbage(tmp_path, content):
    path = tmp_path / "train_data.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train_data\.pkl: not a file of tensors"):
        data.load_pairs(path)


IMAGES = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    "content, error, message",
    [
        ({"a": IMAGES}, TypeError, "expected a pair of tensors, got a dict"),
        (IMAGES, TypeError, "expected a pair of tensors, got a Tensor"),  # two images are no pair of tensors
        ((IMAGES,), TypeError, "expected a pair of tensors"),
        ((IMAGES, IMAGES, IMAGES), TypeError, "expected a pair of tensors, got a tuple of 3"),
        ((IMAGES, "text"), TypeError, "second of the pair.* got str"),
        ((IMAGES, IMAGES.bool()), TypeError, "second of the pair.* got torch.bool"),
        ((IMAGES[0], IMAGES[0]), ValueError, r"first of the pair.* got \(3, 4, 4\)"),
        ((IMAGES[:, :1], IMAGES[:, :1]), ValueError, r"got \(2, 1, 4, 4\)"),
        ((IMAGES, IMAGES[:1]), ValueError, r"different shapes, \(2, 3, 4, 4\) and \(1, 3, 4, 4\)"),
        ((IMAGES.float(), IMAGES / 0), ValueError, "finite"),
    ],
    ids=[
        "dict", "tensor", "one", "three", "text", "bool", "no-batch", "grey", "unequal", "nan",
    ],
)  # fmt: skip
def test_load_pairs_refuses_anything_else(tmp_path, content, error, message):
    torch.save(content, tmp_path / "data.pkl")
    with pytest.raises(error, match=f"data.pkl.*{message}"):
        data.load_pairs(tmp_path / "data.pkl")


@pytest.mark.parametrize("dump", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_load_pairs_runs_no_code(tmp_path, dump):
    written, path = tmp_path / "written", tmp_path / "data.pkl"
    dump((IMAGES, Payload(written)), path)
    with pytest.raises(ValueError, match="not a file of tensors"):
        data.load_pairs(path)
    assert not written.exists()
    pickle.loads(pickle.dumps(Payload(written)))
    assert written.exists()  # the payload does work


# ---------------------------------------------------------------------------------------------- generated images


def test_generated_pairs_are_two_noisy_versions():
    first, second = data.generated_pairs(4)
    for version in (first, second):
        assert version.shape == (4, 3, 32, 32) and version.dtype == torch.uint8
    for a, b in zip(first, second):
        assert not torch.equal(a, b)
        together = torch.stack((a.flatten(), b.flatten())).double().corrcoef()[0, 1]
        assert together > 0.5  # of one image
    assert not any(torch.equal(first[i], first[j]) for i in range(4) for j in range(i))


def test_generated_images_depend_on_seed_and_index_alone():
    pairs = data.generated_pairs(5, seed=3)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    alone = data.generated_pairs(1, seed=3, start=4)
    assert torch.equal(state, torch.get_rng_state())
    for version, same in zip(pairs, alone):
        assert torch.equal(version[4:], same)
    for other in (data.generated_pairs(1, seed=4, start=4), data.generated_pairs(1, seed=3, start=5)):
        assert not torch.equal(other[0], alone[0])


def test_generated_validation_has_the_courses_noise():
    noisy, clean = data.generated_validation(6)
    assert noisy.shape == clean.shape == (6, 3, 32, 32)
    assert noisy.dtype == clean.dtype == torch.uint8
    assert 18 < metrics.psnr_a(noisy / 255, clean / 255) < 26  # 20.7 dB on the course's photographs
    again, again_clean = data.generated_validation(1, start=10**9 + 5)
    assert torch.equal(again[0], noisy[5]) and torch.equal(again_clean[0], clean[5])


def test_validation_images_are_not_training_images():
    clean = data.generated_validation(2)[1].float()
    noisy = data.generated_pairs(2)[0].float()
    for image in clean:
        for other in noisy:
            assert torch.stack((image.flatten(), other.flatten())).corrcoef()[0, 1] < 0.5


def test_no_generated_images():
    for version in (*data.generated_pairs(0), *data.generated_validation(0)):
        assert version.shape == (0, 3, 32, 32) and version.dtype == torch.uint8


# ---------------------------------------------------------------------------------------------------- photographs


def write(path, pixels, mode="RGB"):
    """uint8 (C, H, W) -> a PNG file."""
    image = pytest.importorskip("PIL.Image")
    image.fromarray(pixels.permute(1, 2, 0).squeeze(2).contiguous().numpy(), mode).save(path)
    return path


def flat(colour, height=64, width=70):
    return torch.tensor(colour, dtype=torch.uint8).view(-1, 1, 1).expand(-1, height, width)


def test_photo_pairs_are_fresh_every_epoch_and_the_same_every_time(tmp_path, pixels):
    write(tmp_path / "a.png", pixels(3, 70, 90))
    pairs, again = (
        data.PhotoPairs(data.photo_files(tmp_path), 6, seed=1, cell=2),
        data.PhotoPairs(data.photo_files(tmp_path), 6, seed=1, cell=2),
    )
    first, second = pairs(0)
    for version in (first, second):
        assert version.shape == (6, 3, 32, 32) and version.dtype == torch.uint8
    assert not torch.equal(first, second)
    pairs(1)
    assert all(torch.equal(a, b) for a, b in zip(pairs(0), again(0)))
    for other in (pairs(1), data.PhotoPairs(data.photo_files(tmp_path), 6, seed=2, cell=2)(0)):
        assert not torch.equal(other[0], first)


def test_photo_pairs_take_turns_and_flat_ones_have_no_noise(tmp_path):
    write(tmp_path / "1.png", flat([200, 10, 20]))
    write(tmp_path / "2.JPG.png", flat([5, 100, 30, 0]), "RGBA")  # transparent, as its colours are stored
    write(tmp_path / "3.PNG", flat([77]), "L")
    (tmp_path / "notes.txt").write_text("no photograph")
    for version in data.PhotoPairs(data.photo_files(tmp_path), 8, cell=2)(0):
        for number, colour in enumerate(([200, 10, 20], [5, 100, 30], [77, 77, 77])):
            expected = torch.tensor(colour, dtype=torch.uint8).view(1, 3, 1, 1).expand_as(version[number::3])
            assert torch.equal(version[number::3], expected)


def test_a_share_of_photo_pairs_carries_gaussian_noise_instead(tmp_path):
    colour = torch.tensor([200, 120, 60])
    write(tmp_path / "1.png", flat(colour.tolist()))  # flat, so all noise is Gaussian
    first, second = data.PhotoPairs(data.photo_files(tmp_path), 400, cell=2, gaussian=0.5)(0)
    noise = [version.float() - colour.view(1, 3, 1, 1) for version in (first, second)]
    sigma = noise[0].std((1, 2, 3))
    assert 150 < int((sigma > 0).sum()) < 250  # of 400, with a standard deviation of 10
    assert sigma.max() < 16 and noise[0].abs().max() < 6 * 15
    assert float(noise[0][sigma > 3].std() / noise[1][sigma > 3].std()) == pytest.approx(1, rel=0.05)
    assert abs(float((noise[0] * noise[1]).mean())) < 0.3  # independent; the variance is near 40
    assert abs(float(noise[0].mean())) < 0.2


def test_targets_may_be_means_of_versions(tmp_path):
    """Stripes of 0 and 200 in cells of 2: each version is one of them in every cell, so the mean of 16 is 100 +- 25."""
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    write(tmp_path / "1.png", stripes)
    first, second = data.PhotoPairs(data.photo_files(tmp_path), 40, cell=2, targets=16)(0)
    assert first.dtype == second.dtype == torch.uint8 and set(first.unique().tolist()) == {0, 200}
    assert set(second.unique().tolist()) <= {round(12.5 * n) for n in range(17)}
    assert float(second.float().mean()) == pytest.approx(100, abs=1)
    assert float(second.float().std()) == pytest.approx(25, rel=0.05)
    assert torch.equal(first, data.PhotoPairs(data.photo_files(tmp_path), 40, cell=2, targets=16)(0)[0])
    correlation = ((first.float() - 100) * (second.float() - 100)).mean() / 2500
    assert abs(float(correlation)) < 0.03  # the input is none of the versions in the mean


def test_photo_validation_is_the_centre(tmp_path, pixels):
    photo = pixels(3, 100, 71)
    noisy, clean = data.photo_validation([write(tmp_path / "a.png", photo)], cell=2)
    centre = photo[:, 18 : 18 + 64, 3 : 3 + 64]
    mean = F.avg_pool2d(centre[None].double(), 2)
    assert clean.dtype == torch.uint8
    assert (clean - mean).abs().max() <= 0.5
    cells = F.unfold(centre[None].float(), 2, stride=2).view(3, 4, 32, 32)
    assert (noisy[0].unsqueeze(1) == cells).all(0).any(0).all()  # one pixel of the cell, in all channels


def test_small_photos_are_enlarged(tmp_path, pixels):
    path = write(tmp_path / "a.png", pixels(3, 20, 31))
    photo = data.load_photo(path, 64)
    assert photo.shape[:2] == (3, 64) and photo.shape[2] == pytest.approx(31 * 64 / 20, abs=1)
    assert torch.equal(data.load_photo(path, 20), pixels(3, 20, 31))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("smallest", [20, 64])
def test_photos_of_16_bits_are_those_of_8(tmp_path, pixels, channels, smallest):
    """257 * 255 is 65535: each pixel is as bright in both, and none of them is white alone."""
    page = pixels(channels, 20, 31).permute(1, 2, 0)
    for name, values in (("8.png", page), ("16.png", (page.to(torch.int32) * 257).to(torch.uint16))):
        pictures.write(tmp_path / name, pictures.Picture("PNG", [values], {}))
    photo, deep = (data.load_photo(tmp_path / name, smallest) for name in ("8.png", "16.png"))
    assert deep.dtype == torch.uint8 and torch.equal(deep, photo)
    colours = page[..., : 3 if channels > 2 else 1].permute(2, 0, 1).expand(3, -1, -1)
    assert smallest > 20 or torch.equal(deep, colours)


def test_no_photographs(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
        data.PhotoPairs(data.photo_files(tmp_path))
