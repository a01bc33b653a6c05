"""Pictures: what is written is what is read, and damage is said."""

import struct
import sys
import zlib

import pytest
import torch

from others import pictures
from others.pictures.formats import IS_RAW
from others.pictures.picture import to_bytes
from others.pictures.png import SIGNATURE, chunk
from others.pictures.webp import lossless

Image = pytest.importorskip("PIL.Image")
tifffile = pytest.importorskip("tifffile")
WHITE = {torch.uint8: 255, torch.uint16: 65535}
DEPTHS = pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)


def page_of(channels, dtype, height=37, width=53):
    generator = torch.Generator().manual_seed(channels)
    return torch.randint(WHITE[dtype] + 1, (height, width, channels), generator=generator).to(dtype)


def written(path, *pages, **about):
    pictures.write(path, pictures.Picture(pictures.FORMATS[path.suffix], pages, about))
    return path


def same(page, other):
    return page.dtype == other.dtype and torch.equal(page.to(torch.int32), other.to(torch.int32))


@DEPTHS
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_round_trip_is_exact(tmp_path, suffix, channels, dtype):
    page = page_of(channels, dtype)
    found = pictures.read(written(tmp_path / f"x{suffix}", page))
    (got,) = found.pages
    assert found.format == pictures.FORMATS[suffix] and same(got, page)


@pytest.mark.parametrize("channels", [1, 3])
def test_bmp_round_trip_is_exact(tmp_path, channels):
    page = page_of(channels, torch.uint8)
    assert same(next(pictures.read(written(tmp_path / "x.bmp", page)).pages), page)


@pytest.mark.parametrize("suffix, channels", [(".jpg", 1), (".jpg", 3), (".webp", 3), (".webp", 4)])
def test_lossy_round_trip_is_close(tmp_path, suffix, channels):
    page = torch.arange(64, dtype=torch.uint8).mul(3).view(8, 8, 1).repeat_interleave(8, 0).repeat_interleave(8, 1)
    page = page.expand(64, 64, channels).contiguous()
    got = next(pictures.read(written(tmp_path / f"x{suffix}", page)).pages)
    assert got.shape == page.shape and (got.float() - page.float()).abs().mean() < 2


@pytest.mark.parametrize("filter_type", range(5))
@pytest.mark.parametrize("channels, colour_type", [(3, 2), (2, 4), (4, 6), (1, 0)])
def test_16_bit_png_of_other_writers(tmp_path, filter_type, channels, colour_type):
    """Rows coded with each of PNG's filters, by hand as the standard says, of a page of one row above another."""
    page = page_of(channels, torch.uint16, 2, 5)
    rows = [[b for value in row.flatten().tolist() for b in divmod(value, 256)] for row in page]
    step, coded = 2 * channels, b""
    for row, above in zip(rows, [[0] * len(rows[0]), rows[0]]):
        left = [0] * step + row[:-step]
        corner = [0] * step + above[:-step]
        guess = {
            0: [0] * len(row),
            1: left,
            2: above,
            3: [(a + b) // 2 for a, b in zip(left, above)],
            4: [paeth(a, b, c) for a, b, c in zip(left, above, corner)],
        }[filter_type]
        coded += bytes([filter_type, *((value - g) % 256 for value, g in zip(row, guess))])
    header = struct.pack(">IIBBBBB", 5, 2, 16, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(coded)), (b"IEND", b"")]
    path = tmp_path / "x.png"
    path.write_bytes(SIGNATURE + b"".join(chunk(*part) for part in parts))
    assert same(next(pictures.read(path).pages), page)


def paeth(a, b, c):
    return min((a, b, c), key=lambda x: abs(a + b - c - x))


@DEPTHS
def test_colour_profile_orientation_and_resolution_are_kept(tmp_path, dtype):
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = 6
    about = {"icc_profile": b"profile" * 20, "exif": exif.tobytes(), "dpi": (300, 300)}
    suffixes = [".png", ".tif"] + [".jpg"] * (dtype == torch.uint8)
    for suffix in suffixes:
        path = written(tmp_path / f"x{suffix}", page_of(3, dtype), **about)
        again = written(tmp_path / f"y{suffix}", *pictures.read(path).pages, **pictures.read(path).about)
        if suffix == ".tif":
            with tifffile.TiffFile(again) as tiff:
                assert tiff.pages[0].tags["Orientation"].value == 6
                assert tiff.pages[0].tags["XResolution"].value == (300, 1)
                assert tiff.pages[0].tags["InterColorProfile"].value == about["icc_profile"]
            continue
        with Image.open(again) as image:
            assert image.getexif()[pictures.ORIENTATION] == 6
            assert image.info["icc_profile"] == about["icc_profile"]
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_pages_of_a_tiff_each_have_their_own_size_and_depth(tmp_path):
    pages = [page_of(3, torch.uint8, 9, 8), page_of(1, torch.uint16, 5, 30), page_of(4, torch.uint8, 4, 4)]
    found = list(pictures.read(written(tmp_path / "x.tiff", *pages)).pages)
    assert len(found) == 3 and all(map(same, found, pages))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff_of_other_writers(tmp_path, compression):
    page = page_of(3, torch.uint8)
    pictures.as_image(page, "").save(tmp_path / "x.tif", compression=compression)
    assert same(next(pictures.read(tmp_path / "x.tif").pages), page)


def test_animations_keep_their_frames_and_times(tmp_path):
    frames = [page_of(3, torch.uint8), page_of(3, torch.uint8) // 2]
    path = written(tmp_path / "x.png", *frames, duration=[40, 80], loop=3)
    found = pictures.read(path)
    assert all(map(same, found.pages, frames))
    assert found.about["duration"] == [40, 80] and found.about["loop"] == 3


def test_palettes_become_the_same_colours(tmp_path):
    image = Image.frombytes("RGB", (4, 1), bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]))
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "x.png")
    picture = pictures.read(tmp_path / "x.png")
    assert next(picture.pages).flatten().tolist() == list(image.tobytes())
    assert picture.note == "its palette became RGB"


def png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("empty.png", b"", "empty"),
        ("text.png", b"no picture at all", "not a picture"),
        ("bomb.png", png(50_000, 50_000), "pixels"),
        ("short.png", png(50, 50), "damaged"),
        ("short.tif", b"II*\0\x08\0\0\0\x05\0", "damaged"),
        ("none.tif", b"II*\0\x08\0\0\0", "damaged"),
    ],
)
def test_what_is_no_whole_picture_is_said(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(pictures.PictureError, match=f"{name}.*{problem}"):
        list(pictures.read(tmp_path / name).pages)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_a_cut_off_file_is_damaged(tmp_path, suffix):
    path = written(tmp_path / f"x{suffix}", page_of(3, torch.uint8))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(pictures.PictureError, match="x" + suffix):
        list(pictures.read(path).pages)


def test_a_jpeg_with_fewer_components_than_it_says_is_refused(tmp_path):
    """Its frame header is six bytes shorter: of one component there is a description. (ITU T.81, B.2.2)"""
    path = written(tmp_path / "x.jpg", page_of(3, torch.uint8))
    before, header = path.read_bytes().split(b"\xff\xc0\x00\x11")
    path.write_bytes(before + b"\xff\xc0\x00\x0b" + header[:9] + header[15:])
    with pytest.raises(pictures.PictureError, match=r"x\.jpg: damaged or incomplete"):
        pictures.read(path)


def test_other_kinds_of_pictures_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", page_of(1, torch.uint8).to(torch.int64).numpy())
    Image.new("L", (4, 4)).save(tmp_path / "x.gif")
    Image.new("LAB", (4, 4)).save(tmp_path / "z.tif")
    for name, found in (("x.tif", "int64"), ("x.gif", "GIF"), ("z.tif", "LAB")):
        with pytest.raises(pictures.PictureError, match=f"{name}: expected .*{found}"):
            list(pictures.read(tmp_path / name).pages)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_floating_point_keeps_its_range_and_type(tmp_path, channels, dtype):
    generator = torch.Generator().manual_seed(0)
    for low, high in ((0, 1), (0.2, 0.4), (-3, 5), (0, 60_000)):
        page = (low + (high - low) * torch.rand(7, 9, channels, generator=generator)).to(dtype)
        (got,) = pictures.read(written(tmp_path / "x.tif", page)).pages
        assert got.dtype == dtype and torch.equal(got, page)
        pixels = pictures.to_pixels(got)
        assert float(pixels.min()) >= 0 and float(pixels.max()) <= 255.01
        again = pictures.with_colours(got, pixels)
        assert again.dtype == dtype and (again - page).abs().max() <= 2e-3 * max(1, high)
        if (low, high) == (0, 1):  # as in 8 bits: 1 is white
            assert torch.allclose(pixels[0, 0], page[..., 0].float() * 255)
        (tmp_path / "x.tif").unlink()
    with pytest.raises(pictures.PictureError, match="TIFF alone"):
        written(tmp_path / "x.png", page)


def test_floating_point_in_other_compressions(tmp_path):
    values = torch.rand(20, 30)
    Image.fromarray(values.numpy()).save(tmp_path / "x.tif", compression="tiff_lzw")
    assert torch.equal(next(pictures.read(tmp_path / "x.tif").pages)[..., 0], values)


@pytest.mark.parametrize("profile", [None, b"none that can be read"])
@pytest.mark.parametrize("name", ["x.jpg", "x.tif"])
def test_inks_become_light(tmp_path, name, profile):
    """Cyan takes red away, black all of it."""
    image = Image.new("CMYK", (16, 8))
    image.paste((255, 0, 0, 0), (0, 0, 8, 8))
    image.paste((0, 0, 0, 255), (8, 0, 16, 8))
    image.save(tmp_path / name, icc_profile=profile, **({"quality": 100} if name == "x.jpg" else {}))
    picture = pictures.read(tmp_path / name)
    (page,) = picture.pages
    expected = torch.tensor([[0, 255, 255], [0, 0, 0]]).repeat_interleave(8, 0).expand(8, -1, -1)
    assert (page.to(torch.int32) - expected).abs().max() < 8
    assert picture.note and "icc_profile" not in picture.about
    again = pictures.read(written(tmp_path / f"new-{name}", page, **picture.about))
    assert next(again.pages).shape == (8, 16, 3) and not again.note


def test_a_phones_jpeg_with_a_second_picture_inside(tmp_path):
    image = Image.new("RGB", (16, 8), (200, 100, 50))
    image.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    picture = pictures.read(tmp_path / "x.jpg")
    assert picture.format == "JPEG" and [page.shape for page in picture.pages] == [(8, 16, 3)]


@pytest.mark.parametrize("channels", [2, 4])
def test_bmp_keeps_alpha(tmp_path, channels):
    page = page_of(channels, torch.uint8)
    (got,) = pictures.read(written(tmp_path / "x.bmp", page)).pages
    grey = page[..., [0, 0, 0, 1]] if channels == 2 else page
    assert same(got, grey)


@DEPTHS
def test_texts_and_the_meaning_of_colours_are_kept_in_png(tmp_path, dtype):
    """What Pillow finds in a file of its own and in the file that was written after it, Pillow's own checks passed."""
    info = pytest.importorskip("PIL.PngImagePlugin").PngInfo()
    info.add_text("Author", "A. Uthor")
    info.add_itxt("Title", "größer als µ")
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
    info.add(b"gAMA", struct.pack(">I", 100_000))
    info.add(b"cHRM", struct.pack(">8I", *range(10_000, 90_000, 10_000)))
    Image.new("I;16" if dtype == torch.uint16 else "RGB", (4, 4)).save(tmp_path / "x.png", pnginfo=info)
    picture = pictures.read(tmp_path / "x.png")
    pages = [page_of(3, dtype)] if dtype == torch.uint16 else picture.pages
    with (
        Image.open(tmp_path / "x.png") as before,
        Image.open(written(tmp_path / "y.png", *pages, **picture.about)) as new,
    ):
        assert new.text == before.text and len(new.text) == 3
        for key in ("gamma", "chromaticity", "xmp"):
            assert new.info[key] == before.info[key]
        new.load()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_xmp_goes_into_every_format(tmp_path, suffix):
    xmp = b"<x:xmpmeta>who, where</x:xmpmeta>"
    source = written(tmp_path / f"x{suffix}", page_of(3, torch.uint8), xmp=xmp)
    picture = pictures.read(source)
    page = next(picture.pages)
    for other in (".jpg", ".png", ".webp", ".tif"):
        about = picture.about if suffix == other else {k: v for k, v in picture.about.items() if k != "tiff"}
        with Image.open(written(tmp_path / f"y{other}", page, **about)) as image:
            assert image.info["xmp"] == xmp


def test_comments_of_a_jpeg_are_kept(tmp_path):
    path = written(tmp_path / "x.jpg", page_of(3, torch.uint8), comment=b"a fine day")
    with Image.open(written(tmp_path / "y.jpg", *pictures.read(path).pages, **pictures.read(path).about)) as image:
        assert image.info["comment"] == b"a fine day"


def test_what_a_tiff_says_about_itself_is_kept(tmp_path):
    """Names, dates, place on earth; a description in any letters; the size of its pixels."""
    tags = [(315, 2, 6, b"Someone", True), (700, 1, 4, b"<x/>", True), (33550, 12, 3, (10.0, 10.0, 0.0), True),
            (34735, 3, 4, (1, 1, 0, 7), True)]  # fmt: skip
    options = {"extratags": tags, "description": "Länge 3 µm".encode(), "software": "Own", "metadata": None}
    tifffile.imwrite(
        tmp_path / "x.tif", page_of(1, torch.uint16).numpy(), resolution=(20, 30), resolutionunit=3, **options
    )
    picture = pictures.read(tmp_path / "x.tif")
    again = written(tmp_path / "y.tif", *picture.pages, **picture.about)
    found = []
    for path in (tmp_path / "x.tif", again):
        with tifffile.TiffFile(path) as tiff:
            names = ("Artist", "XMP", "ModelPixelScaleTag", "GeoKeyDirectoryTag", "ImageDescription", "Software",
                     "XResolution", "YResolution", "ResolutionUnit")  # fmt: skip
            found.append([tiff.pages[0].tags[name].value for name in names])
    assert found[0] == found[1]


def shown(page, number):
    """The page as Pillow turns it upright."""
    from PIL import ImageOps

    image = pictures.as_image(page, "")
    image.getexif()[pictures.ORIENTATION] = number
    upright = ImageOps.exif_transpose(image)
    return torch.tensor(list(upright.tobytes()), dtype=torch.uint8).view(upright.height, upright.width, -1)


def turned(number):
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = number
    return {"exif": exif.tobytes()} if number > 1 else {}


@pytest.mark.parametrize("number", range(1, 9))
def test_side_by_side_as_it_is_shown(number):
    left, right = page_of(3, torch.uint8), page_of(3, torch.uint8) // 2
    both = pictures.beside(left, right, turned(number))
    assert torch.equal(shown(both, number), torch.cat((shown(left, number), shown(right, number)), 1))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("number", range(1, 9))
def test_bmp_which_keeps_no_orientation_is_upright(tmp_path, number, channels):
    page = page_of(channels, torch.uint8)
    (got,) = pictures.read(written(tmp_path / "x.bmp", page, **turned(number))).pages
    assert torch.equal(got, shown(page, number))


@DEPTHS
@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_a_png_becomes_alpha(tmp_path, channels, dtype):
    """Chunk tRNS: of 16 bits in any depth. (PNG 3, 11.3.1.1)"""
    page = page_of(channels, dtype)
    page[3:9, 5:20] = page[0, 0]
    written(tmp_path / "x.png", page)
    key = struct.pack(f">{channels}H", *page[0, 0].tolist())
    before, end, after = (tmp_path / "x.png").read_bytes().partition(struct.pack(">I", 0) + b"IEND")
    start = before.index(b"IDAT") - 4
    before = before[:start] + chunk(b"tRNS", key) + before[start:]
    (tmp_path / "x.png").write_bytes(before + end + after)
    (got,) = pictures.read(tmp_path / "x.png").pages
    clear = (page.to(torch.int32) == page[0, 0].to(torch.int32)).all(2)
    assert clear.sum() >= 6 * 15 + 1 and same(got[..., :-1], page)
    assert same(got[..., -1], (~clear * WHITE[dtype]).to(dtype))
    (again,) = pictures.read(written(tmp_path / "y.png", got)).pages
    assert same(again, got)
    with pytest.raises(pictures.PictureError, match="JPEG keeps no alpha"):
        written(tmp_path / "y.jpg", got)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_grey_of_few_bits(tmp_path, bits):
    """Rows of all greys there are, the one before the last of which is transparent."""
    greys, width = range(2**bits), 2**bits
    row = b"\0" + bytes(sum(grey << (8 - bits) >> (place * bits) for place, grey in enumerate(part))
                        for part in (greys[i : i + 8 // bits] for i in range(0, width, 8 // bits)))  # fmt: skip
    content = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, 2, bits, 0, 0, 0, 0))
    content += chunk(b"tRNS", struct.pack(">H", width - 2)) + chunk(b"IDAT", zlib.compress(row * 2))
    (tmp_path / "x.png").write_bytes(content + chunk(b"IEND", b""))
    (got,) = pictures.read(tmp_path / "x.png").pages
    assert got[0, :, 0].tolist() == [grey * 255 // (width - 1) for grey in greys]
    assert got[1, :, 1].tolist() == [0 if grey == width - 2 else 255 for grey in greys]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32], ids=str)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colours_that_were_multiplied_by_alpha_are_divided(tmp_path, compression, dtype):
    white = WHITE.get(dtype, 1)
    alpha = torch.linspace(0, 1, 30).view(1, -1, 1).expand(20, -1, -1)
    colours = torch.rand(20, 30, 3)
    multiplied = torch.cat((colours * alpha, alpha), 2) * white
    multiplied = multiplied if dtype.is_floating_point else multiplied.round()
    tifffile.imwrite(tmp_path / "x.tif", multiplied.to(dtype).numpy(), photometric="rgb", extrasamples=["assocalpha"],
                     compression=compression)  # fmt: skip
    (page,) = pictures.read(tmp_path / "x.tif").pages
    assert page.dtype == dtype and torch.equal(page[..., 3].float(), multiplied[..., 3])
    seen = (page[..., :3].float() / white - colours).abs() * alpha
    assert seen.max() < (1e-6 if dtype.is_floating_point else 1.5 / white)  # half for each of three roundings
    with tifffile.TiffFile(written(tmp_path / "y.tif", page)) as tiff:
        assert tiff.pages[0].extrasamples == (2,)


def test_a_channel_without_a_meaning_gets_none(tmp_path):
    page = page_of(4, torch.uint8)
    tifffile.imwrite(tmp_path / "x.tif", page.numpy(), photometric="rgb", extrasamples=["unspecified"])
    picture = pictures.read(tmp_path / "x.tif")
    with tifffile.TiffFile(written(tmp_path / "y.tif", *picture.pages, **picture.about)) as tiff:
        assert tiff.pages[0].extrasamples == (0,) and same(torch.from_numpy(tiff.pages[0].asarray()), page)


def test_slices_without_a_directory_are_not_lost_silently(tmp_path):
    for name, options in (("shaped.tif", {}), ("imagej.tif", {"imagej": True})):
        tifffile.imwrite(tmp_path / name, torch.zeros(5, 32, 40).numpy(), truncate=True, **options)
        with pytest.raises(pictures.PictureError, match="expected a directory for each page, got one for all 5x32x40"):
            pictures.read(tmp_path / name)


def test_a_tiff_that_was_cut_since_tifffile_wrote_it(tmp_path):
    """The description with the former shape is still there."""
    page = page_of(3, torch.uint8)
    tifffile.imwrite(tmp_path / "x.tif", page.numpy(), description='{"shape": [99, 98, 3]}', metadata=None)
    assert same(next(pictures.read(tmp_path / "x.tif").pages), page)


def test_a_description_beside_the_shape_that_tifffile_writes_stays(tmp_path):
    values = torch.randint(0, 256, (9, 7, 3), dtype=torch.uint8).numpy()
    tifffile.imwrite(tmp_path / "x.tif", values, description="Aufnahme 7", photometric="rgb")
    tifffile.imwrite(tmp_path / "y.tif", values, photometric="rgb")
    for name, expected in (("x", "Aufnahme 7"), ("y", '{"shape": [9, 7, 3]}')):  # its own shape, anew
        pictures.write(tmp_path / f"{name}-again.tif", pictures.read(tmp_path / f"{name}.tif"))
        with tifffile.TiffFile(tmp_path / f"{name}-again.tif") as file:
            assert (file.pages[0].description, file.pages[0].description1) == (expected, "")


def test_a_large_tiff_has_places_of_64_bits(tmp_path, monkeypatch):
    """`BIG` is more than fits into a test's disk."""
    pages = [page_of(3, torch.uint16), page_of(3, torch.uint16)]
    for big, start in ((pictures.tiff.BIG, b"II*\0"), (100, b"II+\0")):
        picture = pictures.read(written(tmp_path / "x.tif", *pages))
        assert picture.size == sum(page.nbytes for page in pages)
        monkeypatch.setattr(pictures.tiff, "BIG", big)
        pictures.write(tmp_path / f"{big}.tif", picture)
        assert (tmp_path / f"{big}.tif").read_bytes()[:4] == start
        assert all(map(same, pictures.read(tmp_path / f"{big}.tif").pages, pages))
        (tmp_path / "x.tif").unlink()


def exif_with(kind, count, raw):
    """EXIF data with the orientation alone, of a kind as in TIFF 6.0: 2 ASCII, 3 SHORT, 7 UNDEFINED, 11 FLOAT."""
    entry = struct.pack("<HHI4s", pictures.ORIENTATION, kind, count, raw)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)


EXIF = {
    "no TIFF": (b"Exif\0\0garbage that is no TIFF", 1),
    "cut off": (b"Exif\0\0II*\0", 1),
    "nothing": (b"Exif\0\0", 1),
    "a text": (exif_with(2, 2, b"6\0"), 1),
    "bytes": (exif_with(7, 1, b"\6"), 1),
    "a float": (exif_with(11, 1, struct.pack("<f", 6)), 1),
    "too large": (exif_with(3, 1, struct.pack("<H", 9)), 1),
    "right": (exif_with(3, 1, struct.pack("<H", 6)), 6),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exif, orientation", EXIF.values(), ids=EXIF)
@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp"])
def test_exif_data_that_say_nothing_stop_nothing(tmp_path, name, exif, orientation):
    Image.new("RGB", (9, 7)).save(tmp_path / name, exif=exif)
    picture = pictures.read(tmp_path / name)
    (page,) = picture.pages
    assert pictures.picture.orientation(picture.about) == orientation
    assert pictures.beside(page, page, picture.about).shape == ((14, 9, 3) if orientation > 4 else (7, 18, 3))
    for suffix in (".tif", ".jpg", ".png", ".webp"):
        (again,) = pictures.read(written(tmp_path / f"y{suffix}", page, **picture.about)).pages
        assert again.shape == page.shape
    with Image.open(tmp_path / "y.tif") as image:
        assert image.tag_v2.get(pictures.ORIENTATION, 1) == orientation


def test_alpha_does_not_get_lost_silently(tmp_path):
    with pytest.raises(pictures.PictureError, match="keeps no alpha"):
        written(tmp_path / "x.jpg", page_of(4, torch.uint8))
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written_on_a_full_disk(tmp_path, monkeypatch):
    path = written(tmp_path / "x.png", page_of(3, torch.uint16))
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        pictures.write(path, pictures.Picture("PNG", [page_of(3, torch.uint8)], {}), force=True)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("library, suffix", [("PIL", ".png"), ("tifffile", ".tif")])
def test_a_missing_library_is_one_sentence(tmp_path, monkeypatch, library, suffix):
    path = written(tmp_path / f"x{suffix}", page_of(3, torch.uint8))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r'pip install "\.\[images\]" in the folder of the project'):
        list(pictures.read(path).pages)


# ------------------------------------------------------------------------------------------- as finely as it was read


def coloured(path, **options):
    """A picture whose colours vary from pixel to pixel, with smooth brightness, as Pillow writes it."""
    colours = torch.rand(48, 64, 3, generator=torch.Generator().manual_seed(0)) * 120 + 60
    image = Image.frombytes("RGB", (64, 48), to_bytes(colours.to(torch.uint8)))
    mode = options.pop("mode", "RGB")
    image.convert(mode).save(path, **options)
    return path


def sampling(image):
    return pytest.importorskip("PIL.JpegImagePlugin").get_sampling(image)


@pytest.mark.parametrize("quality", [30, 75, 98])
@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_keeps_subsampling_and_tables(tmp_path, quality, subsampling, progressive):
    path = coloured(tmp_path / "x.jpg", quality=quality, subsampling=subsampling, progressive=progressive)
    picture = pictures.read(path)
    (page,) = picture.pages
    with Image.open(path) as old, Image.open(written(tmp_path / "y.jpg", page, **picture.about)) as new:
        assert new.quantization == old.quantization and sampling(new) == sampling(old) == subsampling
        assert bool(new.info.get("progressive")) == progressive


def test_colours_of_a_444_jpeg_survive(tmp_path):
    """Written 4:2:0 they would be 20 dB off: each varies by itself from pixel to pixel."""
    picture = pictures.read(coloured(tmp_path / "x.jpg", quality=95, subsampling=0))
    (page,) = picture.pages
    (again,) = pictures.read(written(tmp_path / "y.jpg", page, **picture.about)).pages
    assert (again.float() - page.float()).pow(2).mean() < 5
    (converted,) = pictures.read(written(tmp_path / "z.jpg", page)).pages  # as from a PNG
    assert (converted.float() - page.float()).pow(2).mean() < 20


def test_grey_rgb_and_cmyk_jpegs_keep_their_tables(tmp_path):
    kinds = {"grey": {"mode": "L"}, "inks": {"mode": "CMYK"}, "rgb": {"keep_rgb": True, "subsampling": 0}}
    for name, options in kinds.items():
        path = coloured(tmp_path / f"{name}.jpg", quality=40, **options)
        picture = pictures.read(path)
        (page,) = picture.pages
        with Image.open(path) as old, Image.open(written(tmp_path / f"{name}-new.jpg", page, **picture.about)) as new:
            assert new.quantization[0] == old.quantization[0], name
            assert new.mode == ("L" if name == "grey" else "RGB")
            assert sampling(new) == (-1 if name == "grey" else 0)
            assert (new.info.get("adobe_transform") == 0) == (name == "rgb")


def test_quality_instead_of_the_files_own(tmp_path):
    picture = pictures.read(coloured(tmp_path / "x.jpg", quality=30, subsampling=1))
    (page,) = picture.pages
    about = pictures.at_quality(picture, 98).about
    with Image.open(written(tmp_path / "y.jpg", page, **about)) as new:
        coloured(tmp_path / "z.jpg", quality=98)
        with Image.open(tmp_path / "z.jpg") as wanted:
            assert new.quantization == wanted.quantization and sampling(new) == 1


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_lossless_webp_is_lossless_again(tmp_path, channels, frames):
    pages = [page_of(channels, torch.uint8), page_of(channels, torch.uint8).flip(0)][:frames]
    images = [pictures.as_image(page, "") for page in pages]
    images[0].save(
        tmp_path / "x.webp",
        lossless=True,
        exact=True,
        save_all=frames > 1,
        append_images=images[1:],
        minimize_size=False,
    )
    picture = pictures.read(tmp_path / "x.webp")
    found = list(pictures.read(written(tmp_path / "y.webp", *picture.pages, **picture.about)).pages)
    assert len(found) == frames
    if frames == 1:  # the library may put frames together
        assert same(found[0], pages[0])
    images[0].save(tmp_path / "lossy.webp", quality=60)
    assert lossless(tmp_path / "x.webp") and not lossless(tmp_path / "lossy.webp")


def test_metadata_that_do_not_fit_are_one_error(tmp_path):
    with pytest.raises(pictures.PictureError, match=r"x\.jpg: what the picture says about itself cannot be written"):
        written(tmp_path / "x.jpg", page_of(3, torch.uint8), exif=b"Exif\0\0" + bytes(70_000))
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------- raw files and pyramids


def test_raw_files_are_refused_by_content_and_by_name(tmp_path):
    """A DNG as cameras write it, a preview in front of the sensor's data; others by how they begin; any by its name."""
    small, mosaic = page_of(3, torch.uint8).numpy()[::2, ::2], page_of(1, torch.uint16).numpy()[..., 0]
    for name in ("photo.dng", "renamed.tif"):
        with tifffile.TiffWriter(tmp_path / name) as tiff:
            tiff.write(small, photometric="rgb", subfiletype=1, subifds=1)
            tiff.write(mosaic, photometric="cfa")
    tifffile.imwrite(tmp_path / "linear.tif", small, photometric="rgb", extratags=[(50706, 1, 4, b"\1\4\0\0", True)])
    tifffile.imwrite(tmp_path / "plain.nef", small, photometric="rgb")
    starts = {"a.raf": b"FUJIFILMCCD-RAW 0201", "b.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1", "c.orf": b"IIRO\x08\0\0\0",
              "d.rw2": b"IIU\0\x18\0\0\0", "e.jpg": b"II*\0\x10\0\0\0CR\2\0", "f.x3f": b"FOVb\0\0\3\0",
              "g.arw": b"of an unknown kind"}  # fmt: skip
    for name, start in starts.items():
        (tmp_path / name).write_bytes(start + bytes(100))
    for path in tmp_path.iterdir():
        with pytest.raises(pictures.PictureError, match=f"{path.name}: a camera's raw file; develop it .* RawTherapee"):
            pictures.read(path)


def test_other_kinds_say_what_they_are(tmp_path):
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "x.heic").write_bytes(b"unknown" * 9)
    for name in ("phone.jpg", "x.heic"):
        with pytest.raises(pictures.PictureError, match=f"{name}: HEIC, which is not read here; convert it first"):
            pictures.read(tmp_path / name)


def test_a_preview_of_a_larger_picture_is_refused(tmp_path):
    page = page_of(3, torch.uint8).numpy()
    with tifffile.TiffWriter(tmp_path / "x.tif") as tiff:
        tiff.write(page[::2, ::2], photometric="rgb", subifds=1)
        tiff.write(page, photometric="rgb")
    with pytest.raises(pictures.PictureError, match="got previews of larger ones in SubIFDs"):
        pictures.read(tmp_path / "x.tif")


@pytest.mark.parametrize("kind", ["SubIFDs", "pages", "a preview first"])
def test_smaller_versions_are_no_pages_and_said(tmp_path, kind):
    """Pyramids of OME-TIFF and of cloud-optimised GeoTIFF, whose masks too are no pictures, and a scanner's preview."""
    page = page_of(3, torch.uint8)
    levels = [(page.numpy()[::step, ::step], {"photometric": "rgb", "subfiletype": 1}) for step in (2, 4)]
    mask = (page.numpy()[..., 0] > 9, {"subfiletype": 4})
    whole = (page.numpy(), {"photometric": "rgb", "subifds": 2 if kind == "SubIFDs" else 0})
    order = {"SubIFDs": [whole, *levels], "pages": [whole, *levels, mask], "a preview first": [levels[0], whole]}[kind]
    with tifffile.TiffWriter(tmp_path / "x.tif") as tiff:
        for content, options in order:
            tiff.write(content, metadata=None, **options)
    picture = pictures.read(tmp_path / "x.tif")
    (got,) = picture.pages
    assert same(got, page) and "smaller versions of its pages" in picture.note
    assert ("masks" in picture.note) == (kind == "pages")
    assert not pictures.read(written(tmp_path / "y.tif", got, **picture.about)).note
    assert [pixels.shape[2:] for pixels in pictures.pages(tmp_path / "x.tif")] == [page.shape[:2]]


# ------------------------------------------------------------------------------------------------- names, orientation


def test_the_suffix_decides_the_format():
    for name in ("x.jpe", "x.JFIF", "x.jpeg"):
        assert pictures.format_of(name, "PNG") == "JPEG"
    assert pictures.format_of("x", "PNG") == pictures.format_of("x.scan", "PNG") == "PNG"
    for name in ("x.gif", "x.heic", "x.dng", "x.jp2"):
        with pytest.raises(pictures.PictureError, match=f"{name}: expected a name in .png, "):
            pictures.format_of(name, "PNG")


def test_what_a_folder_leaves_out_has_a_reason(tmp_path):
    written(tmp_path / "a.png", page_of(3, torch.uint8))
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    for name in ("b.heic", "c.dng", "d.gif", "notes.txt", "deep/e.cr2", ".hidden.png", "deep/.hidden/x.png"):
        (tmp_path / name).touch()
    (tmp_path / "lost.png").symlink_to("nowhere")
    found = {reason: [path.name for path in files] for reason, files in pictures.left_out(tmp_path).items()}
    assert [path.name for path in pictures.picture_files(tmp_path)] == ["a.png"]
    assert found.pop("no picture by its name") == ["notes.txt"] and found.pop(IS_RAW) == ["c.dng", "e.cr2"]
    assert sorted(found.values()) == [["b.heic"], ["d.gif"], ["lost.png"]]


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_a_tiff_is_read_as_it_is_stored_and_shown_upright(tmp_path, compression, number):
    """Pillow, which reads what tifffile cannot, turns pages upright; the tag stays in the new file."""
    page = page_of(3, torch.uint8)
    image = pictures.as_image(page, "")
    image.save(tmp_path / "x.tif", compression=compression, tiffinfo={pictures.ORIENTATION: number})
    picture = pictures.read(tmp_path / "x.tif")
    assert same(next(picture.pages), page)
    (pixels,) = pictures.pages(tmp_path / "x.tif")
    assert torch.equal(pixels[0].permute(1, 2, 0), shown(page, number))


@DEPTHS
@pytest.mark.parametrize("compression", ["tiff_lzw", "zlib"])
def test_white_that_is_stored_as_0_is_white_where_pictures_are_compared(tmp_path, compression, dtype):
    page, white = page_of(1, dtype), WHITE[dtype]
    stored = (white - page.to(torch.int32)).to(dtype).numpy()[..., 0]
    if compression == "tiff_lzw" and dtype == torch.uint8:  # Pillow stores what it shows, 16 bits not so
        Image.frombytes("L", page.shape[1::-1], to_bytes(page)).save(
            tmp_path / "x.tif", compression=compression, tiffinfo={262: 0}
        )
    else:
        tifffile.imwrite(tmp_path / "x.tif", stored, photometric="miniswhite", compression="zlib")
    picture = pictures.read(tmp_path / "x.tif")
    (pixels,) = pictures.pages(tmp_path / "x.tif")
    wanted = page.to(torch.float32)[..., 0] * (255 / white)
    assert (pixels[0, 0] - wanted).abs().max() < 0.01
    (again,) = pictures.pages(written(tmp_path / "y.tif", *picture.pages, **picture.about))
    assert torch.equal(again, pixels)


PREVIEWED = {
    "turned": (page_of(3, torch.uint16), {"extratags": [(pictures.ORIENTATION, "H", 1, 6, True)]}),
    "white is 0": (page_of(1, torch.uint16)[..., 0], {"photometric": "miniswhite"}),
    "alpha": (page_of(4, torch.uint8), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "floating point": (page_of(1, torch.uint8)[..., 0] / 100 - 1, {}),
    "no value": (page_of(1, torch.uint8)[..., 0].float().where(torch.arange(53) > 3, torch.nan), {}),
}


@pytest.mark.parametrize("page, options", PREVIEWED.values(), ids=PREVIEWED)
def test_a_preview_is_the_first_page_in_eight_bits(tmp_path, page, options):
    tifffile.imwrite(tmp_path / "x.tif", page.numpy(), **{"photometric": "rgb" if page.dim() > 2 else None, **options})
    ranges = pictures.range_of(tmp_path / "x.tif")
    (tmp_path / "x.png").write_bytes(pictures.preview(tmp_path / "x.tif", ranges))
    (shown,) = pictures.pages(tmp_path / "x.png")
    if page.isnan().any():
        assert (shown[..., :4] == 0).all() and torch.equal(shown[0, 0, :, 4:], page[:, 4:].to(torch.uint8))
    else:
        (meant,) = pictures.pages(tmp_path / "x.tif", ranges)
        assert torch.equal(shown, meant.round().to(torch.uint8)) and shown.shape[3] == (
            37 if "extratags" in options else 53
        )


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_a_tiff_of_one_bit(tmp_path, photometric):
    """Uncompressed and deflated, also where 1 is black; the new file shows the same."""
    bits = page_of(1, torch.uint8)[..., 0] > 127
    white = bits if photometric == "minisblack" else ~bits
    for name, compression in (("raw.tif", None), ("packed.tif", "zlib")):
        tifffile.imwrite(tmp_path / name, bits.numpy(), compression=compression, photometric=photometric)
        picture = pictures.read(tmp_path / name)
        (page,) = picture.pages
        assert torch.equal(page[..., 0] > 0, white) and page.unique().tolist() == [0, 255]
        with Image.open(written(tmp_path / f"new-{name}", page, **picture.about)) as new:
            assert new.convert("L").tobytes() == to_bytes(page)
