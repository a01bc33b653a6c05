"""`noise2noise evaluate`: the printed and the written figures, against PSNR and SSIM computed here."""

import csv
import json
import math
import re

import pytest
import torch
from drawn import scene

from Miniproject_2.model import Model
from others import data, pictures
from others.data import noises
from others.diagnose import noise
from others.evaluation import metrics, taken
from others.model import suited

pytest.importorskip("PIL")
pytest.importorskip("tifffile")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def course(tmp_path):
    noisy, clean = data.generated_validation(5)
    torch.save((noisy, clean), tmp_path / "val_data.pkl")
    return noisy, clean


@pytest.fixture
def folders(tmp_path, course, save):
    for folder, images in zip(("noisy", "clean"), course):
        for number, image in enumerate(images):
            save(tmp_path / folder / f"{number}.png", image.permute(1, 2, 0))
    return course


def picked(pixels):
    """Denoised by the weights that `denoise` takes for a picture, with the limit of those of camera."""
    name = suited(noise.look(pixels).drawn)
    model = Model(name, device="cpu")
    model.load_pretrained_model()
    denoised = model.predict(pixels)
    return noise.limited(pixels, denoised) if name == "camera" else denoised


def psnr(images, clean):
    unit = images.float() / 255, clean.float() / 255
    return metrics.psnr_a(*unit), metrics.psnr_b(*unit)


def test_folders_tables_and_figures(tmp_path, here, folders):
    pytest.importorskip("matplotlib")
    skimage = pytest.importorskip("skimage.metrics")
    pytest.importorskip("pywt")
    options = ["--csv", "t.csv", "--json", "t.json", "--figure", "grid.png", "--gains", "gains.png"]
    status, stdout, stderr = here("evaluate", "noisy", "clean", *options)
    assert (status, stderr) == (0, "")
    noisy, clean = folders
    found = json.loads((tmp_path / "t.json").read_text())["means"]
    denoised = torch.cat([picked(image) for image in noisy.split(1)])
    for method, images in (("noisy", noisy), ("noise2noise", denoised)):
        assert (found[method]["psnr_a"], found[method]["psnr_b"]) == pytest.approx(psnr(images, clean), abs=1e-4)
        pairs = [[i.permute(1, 2, 0).float().numpy() / 255 for i in pair] for pair in zip(images, clean)]
        ssim = [skimage.structural_similarity(*pair, channel_axis=2, data_range=1) for pair in pairs]
        assert found[method]["ssim"] == pytest.approx(sum(ssim) / 5, abs=1e-5)
        assert f"{found[method]['psnr_a']:.2f}" in stdout
    assert found.keys() == {"noisy", "noise2noise", "non-local means", "wavelet", "total variation"}
    assert found["total variation"]["psnr_a"] > found["noisy"]["psnr_a"]
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert len(rows) == 25
    each = metrics.psnr_per_image(noisy / 255, clean / 255).tolist()
    assert [float(row["psnr_db"]) for row in rows if row["method"] == "noisy"] == pytest.approx(each, abs=1e-3)
    assert all((tmp_path / name).read_bytes().startswith(PNG) for name in ("grid.png", "gains.png"))
    status, _, stderr = here("evaluate", "noisy", "clean", *options)
    assert status == 1 and "t.csv exists" in stderr


def test_own_weights_have_the_name_of_their_file(tmp_path, here, folders, weights):
    """Not that of their network, which the shipped ones have."""
    assert here("evaluate", "noisy", "clean", "--weights", weights, "--json", "t.json")[0] == 0
    found = json.loads((tmp_path / "t.json").read_text())["means"]
    assert weights.name in found and not {"noise2noise", "prescribed"} & found.keys()


def test_pictures_without_a_partner_are_left_out_by_name(tmp_path, here, course, folders):
    (tmp_path / "noisy" / "0.png").rename(tmp_path / "noisy" / "alone.png")
    status, table, stderr = here("evaluate", "noisy", "clean", "--plain")
    assert status == 0 and "PSNR A" in table and "alone" not in table
    for folder, name in (("noisy", "alone"), ("clean", "0")):
        assert f"note: left out of {folder}, without a partner of the same name: 1 ({name})" in stderr


def test_the_courses_file_and_a_pair_of_pictures(tmp_path, here, course, folders):
    status, table, stderr = here("evaluate", "val_data.pkl", "--plain")
    (tmp_path / "train_data.pkl").write_bytes((tmp_path / "val_data.pkl").read_bytes())
    noisy = here("evaluate", "train_data.pkl", "--plain")
    assert noisy == (0, table, "note: train_data.pkl: its targets are noisy, too: PSNR against them is lower than "
                               "against clean images\n") and stderr == ""  # fmt: skip
    assert status == 0 and "total variation" not in table
    assert f"{psnr(*course)[0]:.2f}" in table
    status, table, _ = here("evaluate", "noisy/2.png", "clean/2.png", "--plain", "--self-ensemble")
    assert status == 0 and f"{psnr(course[0][2:3], course[1][2:3])[0]:.2f}" in table


def test_equal_images(tmp_path, here, folders, save):
    """They have no PSNR: "identical" in every table, counted, and left out of the means and of the figure of gains."""
    pytest.importorskip("matplotlib")
    noisy, clean = folders
    save(tmp_path / "some" / "0.png", clean[0].permute(1, 2, 0))
    save(tmp_path / "some" / "1.png", noisy[1].permute(1, 2, 0))
    for number in range(2):
        save(tmp_path / "two" / f"{number}.png", clean[number].permute(1, 2, 0))
    options = ["--plain", "--json", "t.json", "--csv", "t.csv", "--gains", "gains.png", "--figure", "grid.svg"]
    status, table, _ = here("evaluate", "some", "two", *options)
    assert status == 0 and ["identical", "1", "0"] in [line.split() for line in table.splitlines()]
    found = json.loads((tmp_path / "t.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert found["images"][0]["psnr"] == "identical" and found["means"]["noisy"]["identical"] == 1
    assert found["means"]["noisy"]["psnr_a"] == pytest.approx(psnr(noisy[1:2], clean[1:2])[0], abs=1e-4)
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert rows[0]["psnr_db"] == "identical"
    said = [table, *((tmp_path / name).read_text() for name in ("t.json", "t.csv", "grid.svg"))]
    assert not any(re.search(r"\b(inf|infinity|nan)\b", text, re.IGNORECASE) for text in said)
    status, _, stderr = here("evaluate", "two/0.png", "two/0.png", "--plain", "--gains", "other.png")
    assert status == 1 and "differs from the clean" in stderr


def test_without_scikit_image(here, course, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    status, table, _ = here("evaluate", "val_data.pkl")
    assert status == 0 and "SSIM " not in table.splitlines()[-2]
    assert 'pip install ".[eval]" in the folder of the project' in table


def test_two_pictures_of_one_name_are_named(here, tmp_path, folders, save):
    """With other suffixes, of which one would have been left out."""
    save(tmp_path / "noisy" / "3.bmp", folders[0][0].permute(1, 2, 0))
    status, stdout, stderr = here("evaluate", "noisy", "clean")
    assert (status, stdout) == (1, "") and len(stderr.splitlines()) == 1
    assert "noisy/3.bmp and noisy/3.png: expected one picture of each name, whatever its suffix" in stderr


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["val_data.pkl", "clean"], 2, "holds the clean images too"),
        (["noisy", "other"], 1, "noisy and other: expected the same names in both, found none; rename"),
        (["nothing", "clean"], 1, "no pictures (.png"),
        (["nois", "clean"], 1, "nois: expected a folder, as clean is one, got nothing"),
        (["noisy", "clean/0.png"], 1, "expected a folder"),
        (["noisy/0.png", "other/large.png"], 1, "different shapes"),
        (["missing.pkl"], 1, "no data file missing.pkl"),
        (["missing.png", "clean/0.png"], 1, "no file missing.png"),
        (["damaged.pkl"], 1, "not a file of tensors"),
        (["empty.pkl"], 1, "empty.pkl: expected one image or more, got none"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, here, folders, picture, save, arguments, status, message):
    save(tmp_path / "other" / "large.png", picture(40, 40))
    torch.save(data.generated_validation(0), tmp_path / "empty.pkl")
    (tmp_path / "damaged.pkl").write_bytes((tmp_path / "val_data.pkl").read_bytes()[:-300])
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "0.heic").write_bytes(b"something")
    found, _, stderr = here("evaluate", *arguments)
    assert found == status and message in stderr.splitlines()[-1]


def test_a_broken_pair_does_not_stop_the_others(here, tmp_path, folders):
    """It is named, the others are measured as if it were not there, and the exit status says so."""
    for folder in ("noisy", "clean"):
        (tmp_path / folder / "1.png").rename(tmp_path / f"{folder}-1.png")
    assert here("evaluate", "noisy", "clean", "--plain", "--csv", "without.csv")[0] == 0
    for folder, kept in (("noisy", 60), ("clean", None)):
        (tmp_path / folder / "1.png").write_bytes((tmp_path / f"{folder}-1.png").read_bytes()[:kept])
    status, table, stderr = here("evaluate", "noisy", "clean", "--plain", "--csv", "with.csv")
    first, last = stderr.splitlines()
    assert status == 1 and first.startswith("note: pair 1 left out: noisy/1.png: ")
    assert last == "noise2noise evaluate: failed: 1" and "PSNR A, dB" in table
    assert (tmp_path / "with.csv").read_bytes() == (tmp_path / "without.csv").read_bytes()
    for file in (tmp_path / "noisy").iterdir():
        file.write_bytes(b"nothing")
    status, table, stderr = here("evaluate", "noisy", "clean", "--plain", "--csv", "none.csv")
    assert status == 1 and table == "" and not (tmp_path / "none.csv").exists()
    assert "expected a pair that can be read or more, got 5 that cannot" in stderr.splitlines()[-1]


def test_two_files_of_one_picture_have_one_range(tmp_path, here):
    """Of 12 bits, given or found: the PSNR is that of white at 4095, not at 65535."""
    tifffile = pytest.importorskip("tifffile")
    clean = torch.linspace(0, 4095, 40 * 48, dtype=torch.float64).round().view(40, 48)
    noisy = (clean + 200 * torch.randn(40, 48, generator=torch.Generator().manual_seed(0))).round().clamp(0, 4095)
    for name, image in (("noisy.tif", noisy), ("clean.tif", clean)):
        tifffile.imwrite(tmp_path / name, image.to(torch.uint16).numpy())
    wanted = float(-10 * ((noisy - clean) / 4095).square().mean().log10())
    for given, white in ((), 4095), (("--range", 0, 8190), 8190):
        command = ("evaluate", "noisy.tif", "clean.tif", "--plain", "--csv", "x.csv", "--force", *given)
        status, _, stderr = here(*command)
        (row,) = [line.split(",") for line in (tmp_path / "x.csv").read_text().splitlines() if ",noisy," in line]
        assert status == 0 and float(row[2]) == pytest.approx(wanted + 20 * math.log10(white / 4095), abs=0.01)
        assert ("0 is black, 4095 white (found)" in stderr) == (not given)


def test_black_frames(tmp_path, here, save):
    """All of a table's numbers are numbers, or "identical" where all images are."""
    save(tmp_path / "black.png", torch.zeros(16, 16, 3, dtype=torch.uint8))
    status, table, _ = here("evaluate", "black.png", "black.png", "--plain", "--json", "t.json")
    found = json.loads((tmp_path / "t.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert status == 0 and found["means"]["noisy"]["psnr_a"] == found["means"]["noisy"]["psnr_b"] == "identical"
    assert "inf" not in table and isinstance(found["means"]["noise2noise"]["psnr_b"], (float, str))


def turn(path, number, target):
    """The same picture, stored so that orientation `number` shows it as `path`: 6 is a quarter turn."""
    image = pytest.importorskip("PIL.Image")
    back = {3: image.Transpose.ROTATE_180, 6: image.Transpose.ROTATE_90, 8: image.Transpose.ROTATE_270}[number]
    target.parent.mkdir(exist_ok=True)
    with image.open(path) as upright:
        exif = image.Exif()
        exif[0x0112] = number
        stored = upright.transpose(back)
        options = {"tiffinfo": {0x0112: number}} if target.suffix == ".tif" else {"exif": exif}
        stored.save(target, **options)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("number", [3, 6, 8])
def test_a_turned_picture_beside_an_upright_one(tmp_path, here, picture, save, number, suffix):
    """Both are upright when they are compared: the table is that of two upright ones."""
    save(tmp_path / "noisy.png", picture(40, 56, seed=1))
    save(tmp_path / "clean.png", picture(40, 56, seed=1) // 2 + 60)
    turn(tmp_path / "noisy.png", number, tmp_path / f"turned{suffix}")
    tables = [here("evaluate", name, "clean.png", "--plain") for name in ("noisy.png", f"turned{suffix}")]
    assert [status for status, *_ in tables] == [0, 0]
    rows = [table.splitlines()[1].split()[1:] for _, table, _ in tables]
    assert rows[0] == rows[1] and float(rows[0][0]) < 40


@pytest.mark.parametrize("name", ["grid.pdf", "grid.svg", "grid.jpg", "grid.png", "grid"])
def test_a_figure_is_what_its_name_says(tmp_path, here, course, name):
    pytest.importorskip("matplotlib")
    starts = {".pdf": b"%PDF", ".svg": b"<?xml", ".jpg": b"\xff\xd8", ".png": PNG, "": PNG}
    assert here("evaluate", "val_data.pkl", "--plain", "--figure", name, "--gains", f"gains-{name}")[0] == 0
    for path in (tmp_path / name, tmp_path / f"gains-{name}"):
        assert path.read_bytes().startswith(starts[path.suffix])


def test_a_figure_that_cannot_be_drawn_is_said_first(here, course, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("others.cli.evaluate.load_pairs", lambda *_: pytest.fail("checked too late"))
    status, _, stderr = here("evaluate", "val_data.pkl", "--figure", "grid.xyz")
    assert status == 1 and "grid.xyz: expected the name of a figure, in ." in stderr and ".pdf" in stderr
    assert len(stderr.splitlines()) == 1


def test_what_folders_leave_out_is_said(tmp_path, here, folders):
    (tmp_path / "noisy" / "9.heic").write_bytes(b"x")
    (tmp_path / "clean" / "notes.txt").write_bytes(b"x")
    status, _, stderr = here("evaluate", "noisy", "clean", "--plain")
    assert status == 0 and "note: left out: noisy/9.heic: HEIC" in stderr
    assert "note: left out: clean/notes.txt: no picture by its name" in stderr
    assert "--range does nothing with a .pkl" in here("evaluate", "val_data.pkl", "--plain", "--range", "0", "9")[2]


# ------------------------------------------------------------------------------------------- what belongs together


@pytest.fixture
def photographs():
    """[(noisy, clean)], pages (150, 200, 3) of three photographs."""
    skimage = pytest.importorskip("skimage.data")
    generator, found = torch.Generator().manual_seed(0), []
    for name in ("astronaut", "coffee", "chelsea"):
        clean = torch.tensor(getattr(skimage, name)())[60:210, 80:280]
        noisy = clean + 20 * torch.randn(clean.shape, generator=generator)
        found.append((noisy.round().clamp(0, 255).to(torch.uint8), clean))
    return found


def test_a_pair_of_different_scenes_is_refused(tmp_path, here, photographs, save):
    """Names rotated by one; mirrored; --unchecked measures them."""
    for number, (noisy, clean) in enumerate(photographs):
        save(tmp_path / "shots" / f"{number}.png", noisy)
        save(tmp_path / "right" / f"{number}.png", clean)
        save(tmp_path / "rotated" / f"{(number + 1) % 3}.png", clean)
        save(tmp_path / "mirrored" / f"{number}.png", clean.flip(1))
    assert here("evaluate", "shots", "right", "--plain")[::2] == (0, "")
    for folder, said in (("rotated", "they show different scenes"), ("mirrored", "the second is mirrored or turned")):
        status, stdout, stderr = here("evaluate", "shots", folder, "--plain", "--csv", "t.csv")
        assert (status, stdout) == (1, "") and not (tmp_path / "t.csv").exists()
        assert f"shots/0.png and {folder}/0.png: {said}; pair them anew, or --unchecked" in stderr
    assert here("evaluate", "shots", "rotated", "--plain", "--unchecked")[0] == 0


def test_other_exposure_and_what_cannot_be_told_are_said(tmp_path, here, photographs, save):
    noisy, clean = photographs[1]
    save(tmp_path / "shots" / "dark.png", noisy)
    save(tmp_path / "right" / "dark.png", (clean.float() / 2).to(torch.uint8))
    wall = torch.full((80, 90, 3), 100, dtype=torch.uint8)
    save(tmp_path / "shots" / "wall.png", wall + torch.randint(20, wall.shape, dtype=torch.uint8))
    save(tmp_path / "right" / "wall.png", wall + 10)
    status, stdout, stderr = here("evaluate", "shots", "right", "--plain")
    assert status == 0 and "Cannot tell whether they show one scene: 1 (wall)." in stdout
    assert "note: dark: the second is exposed differently (0.5" in stderr and "PSNR counts that" in stderr


def test_every_page_is_measured(tmp_path, here, photographs, save):
    save(tmp_path / "shots.tif", *(noisy for noisy, _ in photographs))
    save(tmp_path / "right.tif", *(clean for _, clean in photographs))
    status, _, _ = here("evaluate", "shots.tif", "right.tif", "--plain", "--csv", "t.csv")
    assert status == 0
    rows = [row for row in csv.DictReader((tmp_path / "t.csv").open()) if row["method"] == "noisy"]
    assert [row["image"] for row in rows] == [f"shots.tif page {number}" for number in (1, 2, 3)]
    each = [psnr(*(page.permute(2, 0, 1)[None] for page in pair))[0] for pair in photographs]
    assert [float(row["psnr_db"]) for row in rows] == pytest.approx(each, abs=1e-3)
    save(tmp_path / "right.tif", *(clean for _, clean in photographs[:2]))
    status, _, stderr = here("evaluate", "shots.tif", "right.tif", "--plain")
    assert status == 1 and "shots.tif and right.tif: expected as many pages in both, got 3 and 2" in stderr


def test_pictures_are_upright_before_they_are_compared(tmp_path, here, photographs, save):
    """The first row of a file of orientation 6 is the right side of the picture."""
    exif = pytest.importorskip("PIL.Image").Exif()
    exif[pictures.ORIENTATION] = 6
    noisy, clean = photographs[0]
    save(tmp_path / "shot.png", noisy.flip(1).transpose(0, 1).contiguous(), exif=exif.tobytes())
    save(tmp_path / "right.png", clean)
    status, table, stderr = here("evaluate", "shot.png", "right.png", "--plain")
    assert (status, stderr) == (0, "")
    assert f"{psnr(*(page.permute(2, 0, 1)[None] for page in (noisy, clean)))[0]:.2f}" in table


# ------------------------------------------------------------------------------------------------ without clean ones


def grainy(sigma, height=96, width=104):
    generator = torch.Generator().manual_seed(0)
    clean = noises.average_photo(scene(), 1, 96, 9, generator)[0][:, :height, :width]
    noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
    return noisy.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


def test_without_clean_pictures_it_says_what_was_taken(tmp_path, here, save):
    pytest.importorskip("matplotlib")
    save(tmp_path / "in" / "a.png", grainy(20))
    save(tmp_path / "in" / "b.tif", grainy(0), grainy(20, 20, 20))
    status, stdout, stderr = here("evaluate", "in", "--csv", "t.csv", "--figure", "t.png")
    assert (status, stderr) == (0, "")
    lines = stdout.splitlines()
    assert "looks like noise" in lines[0] and "too small or too even" in lines[2]
    assert lines[2].startswith("in/b.tif page 2") and lines[3] == "Weights picked: camera."
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["in/a.png", "in/b.tif", "in/b.tif page 2"]
    before, after, amount = (float(rows[0][key]) for key in ("before", "after", "amount"))
    assert before == pytest.approx(20, rel=0.15) and after < 4 and amount == pytest.approx(20, rel=0.2)
    assert float(rows[1]["amount"]) < 6 and rows[2]["verdict"] == ""
    assert (tmp_path / "t.png").stat().st_size > 10_000


def test_a_bad_picture_without_a_clean_one_does_not_stop_the_others(tmp_path, here, save):
    save(tmp_path / "in" / "b.png", grainy(20, 40, 40))
    (tmp_path / "in" / "a.png").write_bytes((tmp_path / "in" / "b.png").read_bytes()[:900])
    (tmp_path / "in" / "c.png").write_text("no picture")
    status, stdout, stderr = here("evaluate", "in", "--csv", "t.csv")
    assert status == 1 and stdout.startswith("in/b.png: ") and len(stdout.splitlines()) == 2
    assert len(stderr.splitlines()) == 3 and stderr.endswith("noise2noise evaluate: failed: in/a.png, in/c.png\n")
    assert "copy it anew" in stderr.splitlines()[0] and "in/b.png" in (tmp_path / "t.csv").read_text()
    (tmp_path / "in" / "b.png").unlink()
    status, _, stderr = here("evaluate", "in")
    assert status == 1 and stderr.endswith("in: expected a picture that can be read, got none; see above\n")


def test_a_denoiser_that_blurs_is_found_out():
    image = grainy(8).permute(2, 0, 1).unsqueeze(0).float()
    blurred = torch.nn.functional.avg_pool2d(image, 5, 1, 2, count_include_pad=False)
    assert "detail may be lost" in str(taken.measure(image, blurred))
    assert "hardly anything" in str(taken.measure(image, image + 0.5))
    clean = noises.average_photo(scene(), 1, 96, 9, torch.Generator().manual_seed(0))[..., :104]
    assert "looks like noise" in str(taken.measure(image, clean.round()))


def test_options_that_need_clean_pictures_are_named(tmp_path, here, save):
    save(tmp_path / "a.png", grainy(10, 40, 40))
    status, _, stderr = here("evaluate", "a.png", "--gains", "g.png", "--plain")
    assert status == 0 and "--gains and --plain do nothing without CLEAN" in stderr
    status, _, stderr = here("evaluate", "missing.png")
    assert status == 1 and "missing.png" in stderr
