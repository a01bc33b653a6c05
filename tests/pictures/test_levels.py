"""A picture's black and white: found, declared, given; the same picture in any storage is the same to a network."""

import math
import struct

import pytest
import torch

from Miniproject_2.model import Model
from others import pictures
from others.pictures import levels
from others.pictures.levels import Declared, Range, Sample

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("PIL")
LOWEST = torch.finfo(torch.float32).min


def scene(height=96, width=100):
    """Grey leaves over one another, from black to white, in 0-1: (H, W)."""
    generator = torch.Generator().manual_seed(0)
    image = torch.full((height, width), 0.4)
    for brightness in torch.linspace(0, 1, 40)[torch.randperm(40, generator=generator)]:
        top, left, down, right = (int(torch.randint(n, (), generator=generator)) for n in (height, width, 40, 40))
        image[top : top + down, left : left + right] = brightness
    image[:2, :2], image[-2:, -2:] = 0, 1
    return image


def noisy_scene(sigma=0.06):
    clean = scene()
    noise = sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    return clean, (clean + noise).clamp(0, 1)


def stored(image, dtype, white=1.0, black=0.0):
    """(H, W) in 0-1 -> a page (H, W, 1)."""
    values = image.double() * (white - black) + black
    return (values if dtype.is_floating_point else values.round()).to(dtype).unsqueeze(2)


def found(page, declared=None):
    sample = Sample()
    sample.add(page, declared.nodata if declared else ())
    return sample.range(page.dtype, declared)


@pytest.fixture(scope="module")
def denoised():
    """denoised(page, range): the page as the shipped weights denoise it."""
    model = Model(device="cpu")
    model.load_pretrained_model()
    return lambda page, range=None: pictures.with_colours(page, model.predict(pictures.to_pixels(page, range)), range)


def psnr(page, clean, white=1.0, black=0.0, where=True):
    error = ((page[..., 0].double() - black) / (white - black) - clean).square()
    return float(-10 * error[torch.as_tensor(where).expand_as(error)].mean().log10())


# ------------------------------------------------------------------------------------------- the same in any storage

STORAGES = [(torch.uint16, 65535, 0), (torch.uint16, 16383, 0), (torch.uint16, 4095, 0), (torch.uint16, 1000, 0),
            (torch.uint16, 255, 0), (torch.float32, 1, 0), (torch.float32, 0.01, 0), (torch.float16, 1, 0),
            (torch.float64, 1e6 + 1, 1e6), (torch.int16, 3000, -1024), (torch.uint32, 2**31, 0),
            (torch.int32, 70_000, -70_000), (torch.uint16, 3000, 2000)]  # fmt: skip


@pytest.mark.parametrize("brightness", [1, 0.2])
def test_a_picture_comes_out_the_same_in_every_storage(denoised, brightness):
    """White at 65535, 4095, 1000, 255, 1, 0.01 ...: within 0.1 dB, and no worse than in 8 bits, dark ones too."""
    clean, noisy = noisy_scene()
    clean, noisy = brightness * clean, brightness * noisy
    in_8_bits = psnr(denoised(stored(noisy, torch.uint8, 255)), clean, 255)
    reached = []
    for dtype, white, black in STORAGES:
        page = stored(noisy, dtype, white, black)
        result = denoised(page)
        assert result.dtype == dtype and result.shape == page.shape
        if brightness * (white - black) > 100 or dtype.is_floating_point:  # with fewer values the rounding is seen
            reached.append(psnr(result, clean, white, black))
    assert len(reached) > 10 and max(reached) - min(reached) < 0.1
    assert min(reached) > in_8_bits - 0.1 and min(reached) > psnr(stored(noisy, torch.float32), clean) + 4


@pytest.mark.parametrize("size", [1e-310, 1e-30, 1e30, 4e299])
def test_the_size_of_numbers_makes_nothing_of_them(denoised, size):
    page = stored(noisy_scene()[1], torch.float64, size, -size)
    result = denoised(page)
    assert result.isfinite().all() and float(result.abs().max()) <= size


def test_low_counts_stay_counts(denoised):
    """Photons, 20 on average: integers of 0 to about 60, zeros where there was no light."""
    light = 40 * scene()
    light[40:60, 40:60] = 0
    counts = torch.poisson(light, generator=torch.Generator().manual_seed(0)).to(torch.uint16).unsqueeze(2)
    result = denoised(counts)
    assert result.dtype == torch.uint16 and int(result.int().max()) <= int(counts.int().max())
    assert float(result.double().mean()) == pytest.approx(float(counts.double().mean()), rel=0.02)
    assert psnr(result, light / 40, 40) > psnr(counts, light / 40, 40) + 4
    assert float(result.double()[..., 0][44:56, 44:56].mean()) < 0.5


@pytest.mark.parametrize("dtype, value", [(torch.uint16, 0), (torch.uint16, 700), (torch.uint32, 2**32 - 1),
                                          (torch.int16, -77), (torch.float32, 0.3), (torch.float64, -5e200),
                                          (torch.float32, math.nan), (torch.float16, math.inf)])  # fmt: skip
def test_an_all_equal_picture_comes_back(denoised, dtype, value):
    page = torch.full((20, 23, 1), value, dtype=torch.float64).to(dtype)
    assert torch.equal(denoised(page).double().nan_to_num(-1), page.double().nan_to_num(-1))


# --------------------------------------------------------------------------------------------- pixels without a value


def pixel(mask):
    mask[50, 60] = True


def region(mask):
    mask[20:50, 10:70] = True
    mask[5, 7] = True


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("where, loss", [(pixel, 0.1), (region, 0.3)])  # dB: its border has less to go by
@pytest.mark.parametrize("mark", [1e6, -9999, -32768, LOWEST, -LOWEST, math.nan, math.inf])
def test_what_is_no_value_stays_and_sets_no_scale(denoised, mark, where, loss, declared):
    """One hot pixel, or a region without data: they keep their numbers, all others come out as without them."""
    clean, noisy = noisy_scene()
    whole, holed = stored(noisy, torch.float32, 100), stored(noisy, torch.float32, 100)
    mask = torch.zeros(noisy.shape, dtype=torch.bool)
    where(mask)
    holed[mask] = mark
    range = found(holed, Declared(nodata=(mark,)) if declared else None)
    assert range[:2] == found(whole)[:2] == (0, 100)
    result = denoised(holed, range)
    assert torch.equal(result[mask].nan_to_num(-1), holed[mask].nan_to_num(-1))
    assert psnr(result, clean, 100, where=~mask) > psnr(denoised(whole), clean, 100, where=~mask) - loss


def test_no_data_between_black_and_white(denoised):
    _, noisy = noisy_scene()
    page = stored(noisy, torch.uint8, 255)
    page[10:30, 10:40] = 128
    result = denoised(page, Range(0, 255, (128.0,)))
    assert torch.equal(result == 128, (page == 128) | (result == 128)) and (result != page)[page != 128].any()


def test_hot_pixels_of_all_sizes(denoised):
    values = stored(noisy_scene()[1], torch.int32, 1000)
    generator = torch.Generator().manual_seed(2)
    hot = torch.randint(values.numel(), (6,), generator=generator)
    values.view(-1)[hot] = torch.randint(2000, 60_000, (6,), generator=generator).int()
    page = values.to(torch.uint16)
    assert found(page)[:2] == (0, 1023)
    assert torch.equal(denoised(page).int().view(-1)[hot], values.view(-1)[hot])


def test_holes_are_filled_from_around_them():
    """Counted by hand: of each block of 2 x 2 the mean of what is there; of 4 x 4 where that is nothing."""
    nan = math.nan
    image = torch.tensor([[[1.0, nan, 4, 4], [3, 5, 4, 4], [nan, nan, 8, 8], [nan, nan, 8, nan]]])
    assert levels.filled(image)[0].tolist() == [[1, 3, 4, 4], [3, 5, 4, 4], [5, 5, 8, 8], [5, 5, 8, 8]]
    assert torch.equal(levels.filled(torch.full((3, 5, 7), nan)), torch.zeros(3, 5, 7))


# -------------------------------------------------------------------------------------------------- which range it is


@pytest.mark.parametrize("white, declared, expected", [
    (4095, (0, 4095), (0, 4095, "declared")),
    (2500, (0, 4095), (0, 4095, "declared")),
    (300, (0, 4095), (0, 300, "found")),  # so dark that the network would see little of it
    (4095, (0, 100), (0, 4095, "found")),  # not true of these pixels
    (4095, (0, 65535), (0, 4095, "found")),  # the type's own says nothing
    (65535, None, (0, 65535, "type")),
    (1000, None, (0, 1023, "found")),
    (30_000, None, (0, 30_000, "found")),
])  # fmt: skip
def test_declared_customary_and_found(white, declared, expected):
    range = found(stored(scene(), torch.uint16, white), Declared(*declared) if declared else None)
    assert (*range[:2], range.source) == expected


def test_a_range_is_found_from_part_of_many_values(monkeypatch):
    """Least and greatest are exact, percentiles are those of all."""
    monkeypatch.setattr(levels, "KEPT", 500)
    page = stored(scene(300, 211), torch.float32, 1.7, -0.3)
    page[7, 7], page[200, 8] = 1.9, 1e30
    sample = Sample()
    for part in page.split(50):
        sample.add(part)
    assert sum(map(len, sample.parts)) <= 500 < sample.step * 500
    assert sample.range(torch.float32)[:2] == pytest.approx((-0.3, 1.9))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.float16,
                                   torch.float32, torch.float64], ids=str)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_to_255_and_back(dtype, channels):
    """Every value between black and white returns; integers exactly."""
    generator = torch.Generator().manual_seed(channels)
    low, high = (-3, 5) if dtype.is_floating_point else (7, 245)
    page = (low + (high - low) * torch.rand(70, 9, channels, generator=generator, dtype=torch.float64)).to(dtype)
    range = Range(low, high)
    seen = levels.to_255(page, range)
    reference = (page.double() - low) / (high - low) * 255
    assert seen.dtype == torch.float32 and torch.allclose(seen.double(), reference, atol=1e-4)
    again = torch.zeros_like(page).copy_(page)
    levels.from_255(again, seen, range)
    assert (again.double() - page.double()).abs().max() < (1e-2 if dtype == torch.float16 else 1e-5)


# ------------------------------------------------------------------------------------------------------------- files


def tags(**values):
    codes = {"least": (280, "H"), "greatest": (281, "H"), "least_of_any": (340, "d"), "greatest_of_any": (341, "d")}
    made = [(*codes[name], 1, value, True) for name, value in values.items() if name in codes]
    text = values.get("nodata")
    return made + ([(42113, "s", len(text) + 1, text, True)] if text else [])


@pytest.mark.parametrize("said, expected", [
    ({"least": 10, "greatest": 4095}, (10, 4095, ())),
    ({"greatest": 1023}, (0, 1023, ())),
    ({"least_of_any": -0.5, "greatest_of_any": 2.5, "nodata": "-9999"}, (-0.5, 2.5, (-9999,))),
    ({"nodata": "-3.40282346638529e+38"}, (None, None, (LOWEST,))),  # as GDAL rounds it
    ({"nodata": "nan"}, (None, None, ())),
    ({"nodata": "none"}, (None, None, ())),
    ({"least": 7, "greatest": 7}, (None, None, ())),
])  # fmt: skip
def test_what_a_tiff_declares(tmp_path, said, expected):
    tifffile.imwrite(tmp_path / "x.tif", scene().numpy(), extratags=tags(**said))
    declared = pictures.read(tmp_path / "x.tif").declared
    assert declared == expected


def test_packed_12_bits_declare_their_range(tmp_path):
    """Two values in three bytes, by hand; dark, so that nothing but the bits tells what white is."""
    values = stored(0.55 * scene(8, 8), torch.uint16, 4095)
    flat = values.flatten().tolist()
    data = b"".join(bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in zip(flat[::2], flat[1::2]))
    entries = [(256, 8), (257, 8), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, len(data))]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHIHH", c, 3, 1, v, 0) for c, v in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    (tmp_path / "x.tif").write_bytes(head + data + ifd + bytes(4))
    (page,) = pictures.read(tmp_path / "x.tif").pages
    assert page.dtype == torch.uint16 and torch.equal(page.int(), values.int())
    assert pictures.range_of(tmp_path / "x.tif")[torch.uint16] == (0, 4095, (), "declared")


def test_a_stack_and_what_is_compared_have_one_range(tmp_path):
    """Of three slices of different brightness, and of two files."""
    slices = torch.stack([stored(scene(), torch.uint16, white, 10)[..., 0] for white in (50, 2000, 300)])
    tifffile.imwrite(tmp_path / "x.tif", slices.numpy(), photometric="minisblack")
    tifffile.imwrite(tmp_path / "y.tif", slices[1].numpy() * 2)
    assert pictures.range_of(tmp_path / "x.tif")[torch.uint16][:2] == (10, 2000)
    both = pictures.range_of(tmp_path / "x.tif", tmp_path / "y.tif")
    assert both[torch.uint16][:2] == (0, 4095) and both[torch.uint8][:2] == (0, 255)
    given = pictures.range_of(tmp_path / "x.tif", given=(0, 500))
    assert given[torch.uint16][:2] == given[torch.float32][:2] == given[torch.uint8][:2] == (0, 500)


def test_pages_are_all_pages_upright_in_one_range(tmp_path):
    slices = torch.stack([stored(scene(), torch.uint16, white)[..., 0] for white in (100, 300, 200)])
    tifffile.imwrite(tmp_path / "x.tif", slices.numpy(), photometric="minisblack",
                     extratags=[(pictures.ORIENTATION, "H", 1, 6, True)])  # fmt: skip
    found = list(pictures.pages(tmp_path / "x.tif"))
    assert [page.shape for page in found] == [(1, 3, 100, 96)] * 3
    for page, whole in zip(found, slices):
        turned = whole.double().rot90(-1)  # 6: the first row is the right side (EXIF 2.32, 4.6.4)
        assert torch.allclose(page[0, 1].double(), turned * 255 / 300, atol=0.01)
    (clipped, *_) = pictures.pages(tmp_path / "x.tif", pictures.range_of(tmp_path / "x.tif", given=(20, 50)))
    assert (float(clipped.min()), float(clipped.max())) == (0, 255)


@pytest.mark.parametrize("value, nodata", [(math.nan, None), (math.inf, None), (7.0, "7")])
def test_pages_to_compare_need_a_value_in_every_pixel(tmp_path, value, nodata):
    image = scene()
    image[3, 4] = value
    tifffile.imwrite(tmp_path / "x.tif", image.numpy(), extratags=tags(nodata=nodata))
    with pytest.raises(pictures.PictureError, match="expected a value in every pixel"):
        list(pictures.pages(tmp_path / "x.tif"))


def test_a_converted_picture_has_the_black_and_white_of_its_new_format():
    """Of 12 bits, into a format of 8: 4095 becomes 255."""
    page = stored(scene(), torch.uint16, 4095)
    eight = pictures.in_eight_bits(page, Range(0, 4095))
    assert eight.dtype == torch.uint8 and torch.allclose(eight.double(), page.double() * 255 / 4095, atol=0.51)


# -------------------------------------------------------------------------------------------------------------- axes

KINDS = {
    "planes": ((3, 64, 72), {}, 1),
    "planes with alpha": ((4, 64, 72), {}, 1),
    "two slices": ((2, 64, 72), {}, 2),
    "five slices": ((5, 64, 72), {}, 5),
    "a stack of planes": ((2, 3, 64, 72), {}, 2),
    "a stack of RGB": ((2, 64, 72, 3), {}, 2),
    "named slices": ((3, 64, 72), {"metadata": {"axes": "ZYX"}}, 3),
    "four named slices": ((4, 64, 72), {"metadata": {"axes": "ZYX"}}, 4),
    "slices and channels": ((4, 3, 64, 72), {"metadata": {"axes": "ZCYX"}}, 12),
    "grey planes": ((3, 64, 72), {"photometric": "minisblack", "planarconfig": "separate"}, 3),
    "seven bands": ((64, 72, 7), {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"}, 7),
    "planes of another writer": ((3, 64, 72), {"photometric": "rgb", "planarconfig": "separate", "metadata": None}, 1),
    "ImageJ": ((4, 3, 64, 72), {"imagej": True, "metadata": {"axes": "ZCYX", "unit": "um"}}, 12),
    "ImageJ in time": ((4, 3, 64, 72), {"imagej": True, "metadata": {"axes": "TZYX"}}, 12),
    "ImageJ, big-endian": ((4, 3, 64, 72), {"imagej": True, "byteorder": ">"}, 12),
    "OME": ((4, 3, 64, 72), {"ome": True, "photometric": "minisblack", "metadata": {"axes": "ZCYX"}}, 12),
}


def structure(path):
    with tifffile.TiffFile(path) as tiff:
        page, series = tiff.pages[0], tiff.series[0]
        said = (page.samplesperpixel, page.planarconfig, page.photometric, page.extrasamples, page.description)
        return len(tiff.pages), *said, series.axes, series.shape, series.dtype


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32], ids=str)
@pytest.mark.parametrize("shape, options, count", KINDS.values(), ids=KINDS)
def test_axes_come_back_as_they_came(tmp_path, shape, options, count, dtype):
    """What tifffile finds in the file and in the file that was written after it; slices are pages of one channel."""
    numbers = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 200).to(dtype).numpy()
    tifffile.imwrite(tmp_path / "x.tif", numbers, **options)
    picture = pictures.read(tmp_path / "x.tif")
    pages = list(picture.pages)
    assert len(pages) == count
    pictures.write(tmp_path / "y.tif", picture._replace(pages=pages))
    assert structure(tmp_path / "y.tif") == structure(tmp_path / "x.tif")
    assert (tifffile.imread(tmp_path / "y.tif") == numbers).all()
    told = "taken as planes of R, G, B" in picture.note
    assert told == ("metadata" not in options and "photometric" not in options and 3 <= shape[-3] <= 4 and
                    shape[-1] == 72 and not options)  # fmt: skip


def test_statistics_of_other_pixels_are_left_out(tmp_path):
    kept = '<GDALMetadata>\n  <Item name="A">b</Item>\n</GDALMetadata>'
    xml = kept.replace("\n", '\n  <Item name="STATISTICS_MEAN" sample="0">7</Item>\n', 1)
    tifffile.imwrite(tmp_path / "x.tif", scene().numpy(), extratags=[(42112, "s", len(xml) + 1, xml, True)])
    pictures.write(tmp_path / "y.tif", pictures.read(tmp_path / "x.tif"))
    with tifffile.TiffFile(tmp_path / "y.tif") as tiff:
        assert tiff.pages[0].tags[42112].value == kept


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint32, torch.float32], ids=str)
def test_what_fits_into_a_tiff_alone(tmp_path, dtype):
    page = stored(scene(), dtype, 100)
    for name in ("x.png", "x.jpg", "x.bmp"):
        with pytest.raises(pictures.PictureError, match="fits into a TIFF alone"):
            pictures.write(tmp_path / name, pictures.Picture(pictures.FORMATS[name[1:]], [page], {}))
    pictures.write(tmp_path / "x.tif", pictures.Picture("TIFF", [page], {}))
    assert torch.equal(next(pictures.read(tmp_path / "x.tif").pages).double(), page.double())
