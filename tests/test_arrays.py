"""NumPy in, NumPy out: shapes, types and ranges, and as a function of scikit-image."""

import pytest
import torch

import others
from others import arrays, pictures
from others.data import noises
from others.model import Model
from others.storage import networks

numpy = pytest.importorskip("numpy")


@pytest.fixture
def fresh():
    """No Model is kept from one test to the next."""
    arrays.loaded.cache_clear()
    yield
    arrays.loaded.cache_clear()


@pytest.fixture
def untrained(fresh, small, monkeypatch):
    """Small networks without weights."""
    monkeypatch.setattr(Model, "load_pretrained_model", lambda self, path=None: None)


untrained_networks = pytest.mark.usefixtures("untrained")


def image(*shape, dtype=numpy.uint8, white=255):
    values = numpy.random.default_rng(0).random(shape) * white
    return (values if numpy.issubdtype(dtype, numpy.floating) else values.round()).astype(dtype)


@untrained_networks
def test_an_image_of_8_bits_is_what_predict_makes_of_it():
    noisy = image(21, 34, 3)
    made = others.denoise(noisy, "rednet")
    model = arrays.loaded("rednet", None, (), None, None)
    expected = model.predict(torch.from_numpy(noisy).permute(2, 0, 1)[None]).round().to(torch.uint8)
    assert made.dtype == numpy.uint8 and (made == expected[0].permute(1, 2, 0).numpy()).all()
    assert arrays.loaded.cache_info().misses == 1


@pytest.mark.parametrize(
    "shape", [(9, 14), (9, 14, 3), (5, 9, 14, 3), (1, 1), (3, 3), (0, 9, 14, 3), (0, 7), (7, 0, 3)]
)
@pytest.mark.parametrize("name, white", [("uint8", 255), ("uint16", 65535), ("float32", 1), ("float64", 255),
                                         ("float16", 1), ("int16", 32767), (">u2", 4095), (">f4", 1)])  # fmt: skip
@untrained_networks
def test_shape_type_and_range_come_back(shape, name, white):
    noisy = image(*shape, dtype=numpy.dtype(name), white=white)
    before = noisy.copy()
    made = others.denoise(noisy)
    assert made.shape == shape and made.dtype == noisy.dtype.newbyteorder("=") and made is not noisy
    assert (noisy == before).all()
    assert not made.size or (made.min() >= 0 and made.max() <= white)
    if made.size > 100:  # the untrained network gives grey, or half of what is there, of each range
        assert 0.2 * white < made.astype(float).mean() < 0.7 * white


@untrained_networks
def test_a_stack_is_its_images_and_grey_is_the_mean_of_three_equal_channels():
    noisy = image(4, 15, 18, 3)
    made = others.denoise(noisy)
    assert numpy.abs(made.astype(int) - [others.denoise(each) for each in noisy]).max() <= 1  # by rounding
    grey = image(15, 18, dtype=numpy.float32, white=1)
    three = others.denoise(numpy.stack([grey] * 3, 2), data_range=(0, 1))
    assert numpy.allclose(others.denoise(grey, data_range=(0, 1)), three.mean(2), atol=1e-6)


@untrained_networks
def test_other_strides_are_the_same_image():
    noisy = image(30, 36, 3)
    expected = others.denoise(noisy[::-1, ::2].copy())
    assert (others.denoise(noisy[::-1, ::2]) == expected).all()
    assert (others.denoise(numpy.asfortranarray(noisy[::-1, ::2])) == expected).all()
    noisy.flags.writeable = False
    assert (others.denoise(noisy[::-1, ::2]) == expected).all()


@untrained_networks
def test_the_range_is_found_as_in_files_or_given():
    noisy = image(40, 50, 3, dtype=numpy.uint16, white=4095)
    page = torch.from_numpy(noisy)
    range = pictures.pixels.page_range(page)
    assert range[:2] == (0, 4095)
    model = arrays.loaded(None, None, (), None, None)
    expected = pictures.with_colours(page, model.predict(pictures.to_pixels(page, range)), range)
    assert (others.denoise(noisy, None) == expected.numpy()).all()
    assert (others.denoise(noisy, None, data_range=(0, 4095)) == expected.numpy()).all()
    assert (others.denoise(noisy, data_range=(0, 65535)) != expected.numpy()).any()
    floats = image(40, 50, dtype=numpy.float64, white=1) * 2 - 1  # as scikit-image has them
    floats[3, 4], floats[5, 6] = numpy.nan, 1e9
    made = others.denoise(floats)
    assert numpy.isnan(made[3, 4]) and made[5, 6] == 1e9
    assert -0.6 < numpy.delete(made, [3, 5], 0).mean() < 0.4  # half of what is there lies half way to -1


@pytest.mark.parametrize("given, error, said", [
    (torch.zeros(1, 3, 8, 8), TypeError, r"got Tensor; tensors \(N, 3, H, W\) in 0-255 go to Model.predict"),
    ([[1, 2], [3, 4]], TypeError, "got list"),
    (numpy.zeros((8, 8), bool), TypeError, "got bool"),
    (numpy.zeros((8, 8), complex), TypeError, "got complex128"),
    (numpy.zeros((8, 8), numpy.int64), TypeError, "got int64"),
    (numpy.zeros((8, 8), object), TypeError, "got object"),
    (numpy.zeros(8), ValueError, r"got \(8,\)"),
    (numpy.zeros((8, 8, 4)), ValueError, r"denoise image\[..., :3\]"),
    (numpy.zeros((8, 8, 1)), ValueError, r"image\[..., 0\]"),
    (numpy.zeros((2, 8, 8, 4)), ValueError, r"denoise image\[..., :3\]"),
    (numpy.zeros((3, 8, 8)), ValueError, r"numpy.moveaxis\(image, -3, -1\)"),
    (numpy.zeros((2, 3, 8, 8)), ValueError, r"numpy.moveaxis\(image, -3, -1\)"),
    (numpy.zeros((5, 8, 8)), ValueError, "one by one"),
    (numpy.zeros((1, 2, 8, 8, 3)), ValueError, "got"),
])  # fmt: skip
def test_other_arrays_are_refused_with_what_to_do(given, error, said):
    with pytest.raises(error, match="denoise: expected.*" + said):
        others.denoise(given)


@pytest.mark.parametrize("given", [(1, 0), (0, 0), (0, float("inf")), (float("nan"), 1)])
def test_a_range_that_is_none(given):
    with pytest.raises(ValueError, match="expected data_range to be"):
        others.denoise(image(8, 8), data_range=given)


@pytest.mark.parametrize("call", ["predict", "train"])
def test_predict_names_denoise_where_it_is_given_an_array(call):
    arguments = [image(8, 8, 3)] * (1 if call == "predict" else 2)
    with pytest.raises(TypeError, match=r"got ndarray; arrays \(H, W\), .* go to others.denoise"):
        getattr(Model("prescribed", "cpu"), call)(*arguments)


@untrained_networks
def test_other_weights_are_loaded_and_kept(monkeypatch):
    asked = []
    monkeypatch.setattr(Model, "load_pretrained_model", lambda self, *path: asked.append((self.denoiser, *path)))
    for weights in (None, "own.pth", "own.pth", None):
        others.denoise(image(8, 8), "rednet", weights=weights, device="cpu")
    assert asked == [("rednet",), ("rednet", "own.pth")]


def test_weights_that_were_replaced_are_loaded_again(fresh, small, tmp_path):
    """As after another training into the same file."""
    noisy, path = image(20, 24, 3), tmp_path / "own.pth"
    made = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = Model("rednet", "cpu")
        networks.save(path, "rednet", model.network, {}, alone=True)
        made.append(others.denoise(noisy, "rednet", weights=path, device="cpu"))
        expected = model.predict(torch.from_numpy(noisy).permute(2, 0, 1)[None]).round().to(torch.uint8)
        assert (made[-1] == expected[0].permute(1, 2, 0).numpy()).all()
    assert (made[0] != made[1]).any()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        others.denoise(noisy, "rednet", weights=path, device="cpu")


def test_scikit_image_calibrates_it(fresh):
    """J-invariance: a denoiser's error on pixels it has not seen tells which is better, without a clean image."""
    restoration = pytest.importorskip("skimage.restoration")
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.arange(32.0)[:, None, None], torch.arange(40.0)[None, :, None]
    clean = (rows * 3 + columns * 2 + torch.tensor([20.0, 40, 60])).expand(32, 40, 3)
    noisy = (noises.gaussian(clean, 10, generator) / 255).numpy()
    best, (tried, losses) = restoration.calibrate_denoiser(
        noisy, others.denoise, {"denoiser": ["prescribed", "rednet"]}, extra_output=True
    )
    assert best(noisy).shape == noisy.shape and best(noisy).dtype == noisy.dtype
    assert [each["denoiser"] for each in tried] == ["prescribed", "rednet"]
    assert all(0 < loss < 0.1 for loss in losses) and losses[0] != losses[1]
    result = restoration.denoise_invariant(noisy, others.denoise, denoiser_kwargs={"denoiser": "rednet"})
    assert result.shape == noisy.shape
    assert numpy.square(result - (clean / 255).numpy()).mean() < numpy.square(noisy - (clean / 255).numpy()).mean()
