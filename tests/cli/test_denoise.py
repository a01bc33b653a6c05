"""`noise2noise denoise`: the real command on real files, and every way in which it can fail."""

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from drawn import scene

from Miniproject_2.model import Model
from others import cli, pictures
from others.cli import denoise
from others.data import noises
from others.diagnose import noise
from others.model import suited
from others.pictures.levels import Range

pytest.importorskip("PIL")
pytest.importorskip("tifffile")


def page(path):
    return next(iter(pictures.read(path).pages))


def expected(source, denoiser="camera"):
    """What Model.predict makes of the picture, with the limit of the camera weights."""
    model = Model(denoiser, device="cpu")
    model.load_pretrained_model()
    pixels = pictures.to_pixels(source)
    denoised = model.predict(pixels)
    if denoiser == "camera":
        denoised = noise.limited(pixels, denoised)
    return pictures.with_colours(source, denoised).to(torch.int32)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16], ids=str)
def test_kinds_of_pictures(tmp_path, here, picture, save, dtype, channels):
    source = picture(channels=channels, dtype=dtype)
    for suffix in (".png", ".tif"):
        save(tmp_path / f"x{suffix}", source)
        assert here("denoise", f"x{suffix}")[0] == 0
        result = page(tmp_path / f"x-denoised{suffix}")
        assert result.dtype == dtype and torch.equal(result.to(torch.int32), expected(source))
        if channels in (2, 4):
            assert torch.equal(result[..., -1].to(torch.int32), source[..., -1].to(torch.int32))


PEAK = """
import resource, sys
from others import cli
for folder in ("few", "many"):
    assert cli.main(["denoise", folder, "--weights", sys.argv[1]]) == 0
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_a_folder_takes_no_more_memory_than_a_few_pictures(tmp_path, environment, picture, save, weights):
    """Twenty pictures of 3 MiB, 12 MiB as floats: kept, they would be seen."""
    source = save(tmp_path / "x.bmp", picture(1024, 1024))
    for folder, count in (("few", 3), ("many", 20)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{number}.bmp").hardlink_to(source)
    command = [sys.executable, "-c", PEAK, weights]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    few, many = (int(line) for line in done.stdout.splitlines() if line.isdigit())
    assert many - few < 45, (few, many)


def test_a_folder_with_bad_files(tmp_path, here, picture, save):
    """Everything that can be denoised is, in its place; the summary names the others; inputs stay as they were."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.jpg", "c.tif", "d.bmp", "e.webp", "deep/f.png"]):
        save(folder / name, picture(seed=number))
    whole = (folder / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "wrong.jpg").write_text("a letter")
    (folder / "notes.txt").write_text("not asked for")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    status, stdout, stderr = here("denoise", "in", "-o", "out")
    assert status == 1
    assert "Denoised 6 of 9 pictures" in stdout
    assert stderr.splitlines()[-1].endswith("failed: in/cut.png, in/empty.png, in/wrong.jpg")
    assert "Traceback" not in stderr
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert made == ["a.png", "b.jpg", "c.tif", "d.bmp", "deep/f.png", "e.webp"]
    assert {path: path.read_bytes() for path in before} == before
    status, stdout, stderr = here("denoise", "in", "-o", "out")
    assert status == 1 and "Denoised 0 of 3" in stdout
    assert "6 of 9 results exist, first out/a.png; choose another name, --force to replace" in stderr


def test_exif_data_that_cannot_be_read_stop_no_folder(tmp_path, here, picture, save, weights):
    for name in ("1.png", "2.jpg", "3.png"):
        save(tmp_path / "in" / name, picture(), exif=b"Exif\0\0garbage" if name == "2.jpg" else b"")
    status, stdout, stderr = here("denoise", "in", "--compare", "--weights", weights)
    assert (status, stderr) == (0, "") and "Denoised 3 of 3" in stdout
    assert len(os.listdir(tmp_path / "in-denoised")) == 6


def test_a_missing_library_stops_no_folder(tmp_path, here, picture, save, weights, monkeypatch):
    for name in ("1.png", "2.tif", "3.png"):
        save(tmp_path / "in" / name, picture())
    monkeypatch.setitem(sys.modules, "tifffile", None)
    status, stdout, stderr = here("denoise", "in", "--weights", weights)
    assert status == 1 and "Denoised 2 of 3" in stdout
    assert "TIFF needs tifffile: pip install" in stderr.splitlines()[0]
    assert stderr.splitlines()[1:] == ["noise2noise denoise: failed: in/2.tif"]
    assert sorted(os.listdir(tmp_path / "in-denoised")) == ["1.png", "3.png"]


def test_comparison_conversion_and_force(tmp_path, here, picture, save):
    source = picture(channels=4)
    save(tmp_path / "x.png", source)
    assert here("denoise", "x.png", "-o", "y.tif", "--compare", "--denoiser", "rednet")[0] == 0
    result, both = page(tmp_path / "y.tif"), page(tmp_path / "y-compare.tif")
    assert torch.equal(result.to(torch.int32), expected(source, denoiser="rednet"))
    assert torch.equal(both, torch.cat((source, result), 1))
    status, _, stderr = here("denoise", "x.png", "-o", "y.tif")
    assert status == 1 and "y.tif exists" in stderr
    assert here("denoise", "x.png", "-o", "y.tif", "--force")[0] == 0


def test_every_page_of_a_tiff(tmp_path, here, picture, save):
    pages = [picture(channels=3), picture(16, 9, channels=1, dtype=torch.uint16), picture(seed=2)]
    save(tmp_path / "x.tif", *pages)
    assert here("denoise", "x.tif", "--compare")[0] == 0
    results = list(pictures.read(tmp_path / "x-denoised.tif").pages)
    assert [torch.equal(a.to(torch.int32), expected(b)) for a, b in zip(results, pages)] == [True] * 3
    assert len(list(pictures.read(tmp_path / "x-denoised-compare.tif").pages)) == 3


def test_patterns_and_several_files(tmp_path, here, picture, save):
    for name in ("a1.png", "a2.png", "b.png"):
        save(tmp_path / name, picture())
    assert here("denoise", "a*.png", "-o", "out")[0] == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["a1.png", "a2.png"]
    assert here("denoise", "a1.png", "b.png", "-o", "two")[0] == 0
    assert sorted(os.listdir(tmp_path / "two")) == ["a1.png", "b.png"]


def test_own_weights_choose_their_denoiser(tmp_path, here, picture, save, weights):
    source = picture()
    save(tmp_path / "x.png", source)
    assert here("denoise", "x.png", "--weights", weights, "--self-ensemble", "--precision", "bf16")[0] == 0
    model = Model("prescribed", "cpu", "bf16")
    model.load_pretrained_model(weights)
    wanted = pictures.with_colours(source, model.predict(pictures.to_pixels(source), self_ensemble=True))
    assert torch.equal(page(tmp_path / "x-denoised.png"), wanted)


@pytest.mark.parametrize("quality", [60, 94, 95, 97])
def test_a_jpeg_comes_back_as_finely_as_it_was_or_more_finely(tmp_path, here, picture, save, weights, quality):
    """Coarse tables would take away what was gained."""
    image, sampling = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.JpegImagePlugin").get_sampling
    whole = image.frombytes("RGB", (56, 40), picture(40, 56).numpy().tobytes())
    for name, wanted in (("x.jpg", quality), ("wanted.jpg", max(quality, 95))):
        whole.save(tmp_path / name, quality=wanted, subsampling=0, progressive=True)
    assert here("denoise", "x.jpg", "--weights", weights)[0] == 0
    assert here("denoise", "x.jpg", "--weights", weights, "--quality", 40, "-o", "asked.jpg")[0] == 0
    with image.open(tmp_path / "wanted.jpg") as wanted, image.open(tmp_path / "x-denoised.jpg") as new:
        assert new.quantization == wanted.quantization and sampling(new) == 0 and new.info["progressive"]
        with image.open(tmp_path / "asked.jpg") as asked:
            assert max(asked.quantization[0]) > 5 * max(new.quantization[0]) and sampling(asked) == 0
    status, _, stderr = here("denoise", "x.jpg", "-o", "x.png", "--weights", weights, "--quality", 50)
    assert status == 0 and "note: --quality does nothing where no JPEG or WebP is written" in stderr
    assert here("denoise", "x.jpg", "--quality", 101)[0] == here("denoise", "x.jpg", "--quality", 0)[0] == 2
    status, _, stderr = here("denoise", "x.jpg", "-o", "-")
    assert status == 2 and "-o -: expected a file or a folder" in stderr


@pytest.mark.parametrize("content, name", [("JPEG", "x.png"), ("PNG", "x.jpg"), ("WEBP", "x.tif"), ("JPEG", "x.jfif")])
def test_the_suffix_decides_what_is_written(tmp_path, here, picture, save, weights, content, name):
    image = pytest.importorskip("PIL.Image")
    image.frombytes("RGB", (30, 24), picture().numpy().tobytes()).save(tmp_path / name, format=content)
    status, _, stderr = here("denoise", name, "--weights", weights)
    result = tmp_path / name.replace("x.", "x-denoised.")
    with image.open(result) as made:
        assert status == 0 and made.format == pictures.FORMATS[result.suffix] and made.size == (30, 24)
    said = f"note: {name}: a {content} by its content, written as {pictures.FORMATS[result.suffix]}"
    assert (said in stderr) == (name != "x.jfif")


def test_a_name_that_is_not_written_is_said(tmp_path, here, picture, save, weights):
    save(tmp_path / "x.png", picture()).rename(tmp_path / "x.gif")
    status, _, stderr = here("denoise", "x.gif", "--weights", weights)
    assert status == 1 and "x-denoised.gif: expected a name in .png" in stderr
    assert here("denoise", "x.gif", "-o", "x.png", "--weights", weights)[0] == 0
    for name in ("out.heic", "out.dng", "out.gif"):
        status, _, stderr = here("denoise", "x.gif", "-o", name)
        assert status == 2 and "choose one of these suffixes" in stderr and not (tmp_path / name).exists()


def test_every_file_that_is_left_out_has_its_reason(tmp_path, here, picture, save, weights):
    save(tmp_path / "in" / "a.jfif", picture())
    for name in ("b.heic", "c.gif", "d.dng", "deep.txt"):
        (tmp_path / "in" / name).write_bytes(b"something")
    status, stdout, stderr = here("denoise", "in", "--weights", weights)
    assert status == 0 and "in/a.jfif -> in-denoised/a.jfif" in stdout
    notes = [line for line in stderr.splitlines() if line.startswith("note: left out: ")]
    assert [line.split(": ")[2] for line in notes] == ["in/b.heic", "in/c.gif", "in/d.dng", "in/deep.txt"]
    assert "raw file" in notes[2] and "HEIC" in notes[0] and len(stderr.splitlines()) == 4


def test_what_a_shell_makes_of_a_star(tmp_path, here, picture, save, weights):
    """An empty folder does not stop the others, and a name that begins with - is a picture, not an option."""
    (tmp_path / "empty.png").mkdir()
    for name in ("-o.png", "-dash.PNG", "x.png"):
        save(tmp_path / "one.png", picture()).rename(tmp_path / name)
    status, stdout, stderr = here("denoise", *sorted(os.listdir(tmp_path), reverse=True), "--weights", weights.name)
    assert status == 1 and "small.pth" in stderr.splitlines()[-1]  # no picture, among others
    assert stderr.startswith("note: no pictures (.png") and "in empty.png" in stderr.splitlines()[0]
    for name in ("-o", "-dash", "x"):
        assert f"{name}-denoised." in stdout


def test_a_raw_file_and_a_pyramid(tmp_path, here, picture, save, weights):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "photo.dng") as tiff:
        tiff.write(picture(8, 8).numpy(), photometric="rgb", subfiletype=1, subifds=1)
        tiff.write(picture(channels=1, dtype=torch.uint16)[..., 0].numpy(), photometric="cfa")
    status, _, stderr = here("denoise", "photo.dng", "-o", "photo.tif", "--weights", weights)
    assert status == 1 and len(stderr.splitlines()) == 1 and "a camera's raw file; develop it first" in stderr
    assert not (tmp_path / "photo.tif").exists()
    with tifffile.TiffWriter(tmp_path / "map.tif") as tiff:
        tiff.write(picture().numpy(), photometric="rgb")
        tiff.write(picture(12, 15).numpy(), photometric="rgb", subfiletype=1)
    status, _, stderr = here("denoise", "map.tif", "--weights", weights)
    assert status == 0 and "note: map.tif: written without the smaller versions of its pages" in stderr
    assert [made.shape for made in pictures.read(tmp_path / "map-denoised.tif").pages] == [(24, 30, 3)]


def test_a_folder_that_was_begun(tmp_path, here, picture, save, weights):
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", picture(seed=number))
    command = ["denoise", "in", "-o", "out", "--weights", weights]
    assert here(*command)[0] == 0
    (tmp_path / "out" / "1.png").unlink()
    kept = (tmp_path / "out" / "0.png").stat().st_mtime_ns
    status, _, stderr = here(*command)
    assert status == 1 and stderr == (
        "noise2noise denoise: 2 of 3 results exist, first out/0.png; choose another name, --force to replace or "
        "--skip-existing to keep what exists\n"
    )
    (tmp_path / "out" / "1.png").unlink()
    status, stdout, stderr = here(*command, "--skip-existing")
    assert (status, stderr) == (0, "") and "2 of 3 pictures have their results already" in stdout
    assert (tmp_path / "out" / "0.png").stat().st_mtime_ns == kept and (tmp_path / "out" / "1.png").exists()
    status, stdout, stderr = here(*command, "--skip-existing")
    assert (status, stderr) == (0, "") and "3 of 3 pictures have their results already" in stdout
    status, _, stderr = here(*command, "--skip-existing", "--compare")  # of which nothing is there
    assert (status, stderr) == (0, "") and len(list((tmp_path / "out").glob("?-compare.png"))) == 3
    assert (tmp_path / "out" / "0.png").stat().st_mtime_ns == kept
    assert here(*command, "--skip-existing", "--force")[0] == 2


def test_a_pattern_that_fits_results_of_before(tmp_path, here, picture, save, weights):
    for number in range(2):
        save(tmp_path / f"{number}.png", picture(seed=number))
    command = ["denoise", "*.png", "--skip-existing", "--weights", weights]
    assert [here(*command)[0] for _ in range(2)] == [0, 0]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "0-denoised.png",
        "0.png",
        "1-denoised.png",
        "1.png",
    ]


@pytest.mark.parametrize("given, place, made", [
    (".", "scans", "scans-denoised"), ("..", "scans/deep", "scans-denoised"), ("./", "scans", "scans-denoised"),
    ("deep/..", "scans", "scans-denoised"), ("../scans", "scans", "scans-denoised"),
    ("deep", "scans", "scans/deep-denoised"),
])  # fmt: skip
def test_a_folders_results_have_its_own_name(tmp_path, here, picture, save, weights, monkeypatch, given, place, made):
    save(tmp_path / "scans" / "deep" / "x.png", picture())
    monkeypatch.chdir(tmp_path / place)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    status = cli.main(["denoise", given, "--weights", str(weights)])
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    inside = "x.png" if given == "deep" else "deep/x.png"
    assert status == 0 and new == {tmp_path / made / inside}


def test_files_of_a_folder_named_singly_have_their_results_beside_them(tmp_path, here, picture, save, weights):
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name, picture())
    assert here("denoise", "in/a.png", "in/b.png", "--weights", weights)[0] == 0
    assert sorted(os.listdir(tmp_path / "in")) == ["a-denoised.png", "a.png", "b-denoised.png", "b.png"]
    assert not (tmp_path / "in-denoised").exists()


def test_long_names_are_said_before_the_work(tmp_path, here, picture, save, monkeypatch):
    save(tmp_path / "x.png", picture()).rename(tmp_path / ("x" * 236 + ".png"))
    monkeypatch.setattr(pictures, "read", lambda *_: pytest.fail("checked too late"))
    status, _, stderr = here("denoise", "x" * 236 + ".png")
    assert status == 1 and "File name too long" in stderr and len(stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["missing.png"], 1, "no file missing.png; check its name and folder"),
        (["*.webp"], 1, "no file fits the pattern"),
        (["empty"], 1, "no pictures"),
        (["empty", "empty"], 1, "no pictures in empty, empty; choose others"),
        (["x.png", "--weights", "missing.pth"], 1, "no weights at missing.pth"),
        (["x.png", "--weights", "x.png"], 1, "expected weights as `train` writes them, got a picture"),
        (["x.png", "--device", "nonsense"], 1, "got 'nonsense'"),
        (["x.png", "-o", "x.png", "--force"], 2, "would overwrite an input"),
        (["x.png", "-o", "link.png", "--force"], 2, "would overwrite an input"),
        (["x.png", "sub/x.png", "-o", "out"], 2, "would both be written"),
        (["x.png", "sub", "-o", "out.png"], 2, "expected a folder"),
        (["x.png", "-o", "file/out.png"], 1, "file"),
        (["x.png", "-o", "pipe.png", "--force"], 1, "expected a file or nothing there, got a folder, device or pipe"),
        (["x.png", "-o", "out.gif"], 2, "choose one of these suffixes"),
        (["x.png", "--denoiser", "other"], 2, "invalid choice"),
        ([""], 2, "expected the name of a picture or folder, got an empty one"),
        (["x.png", "-o", ""], 2, "expected the name of a file or folder, got ''"),
        (["x.png", "--weights", "a\0b"], 2, "expected the name of a file or folder"),
        ([], 2, "INPUT"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, here, picture, save, arguments, status, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    save(tmp_path / "x.png", picture())
    (tmp_path / "link.png").symlink_to("x.png")
    os.mkfifo(tmp_path / "pipe.png")
    save(tmp_path / "sub" / "x.png", picture())
    before = (tmp_path / "x.png").read_bytes()
    found, stdout, stderr = here("denoise", *arguments)
    assert (found, stdout) == (status, "")
    assert message in stderr.splitlines()[-1] and stderr.count("noise2noise denoise: ") == 1
    assert (tmp_path / "x.png").read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path, here, picture, save):
    save(tmp_path / "x.png", picture())
    (tmp_path / "closed").mkdir(mode=0o500)
    status, _, stderr = here("denoise", "x.png", "-o", "closed/y.png")
    assert status == 1 and "Permission denied" in stderr


def test_a_full_or_read_only_disk_is_said_and_leaves_nothing(tmp_path, here, picture, save, monkeypatch):
    save(tmp_path / "x.png", picture())
    for number in (28, 30):

        def refuse(*arguments, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("os.fsync", refuse)
        status, _, stderr = here("denoise", "x.png")
        assert status == 1 and os.strerror(number) in stderr
    assert os.listdir(tmp_path) == ["x.png"]


def test_interrupted(tmp_path, environment, picture, save):
    """SIGINT in the middle of a folder: status 130, one line, and every file that is there is whole."""
    for number in range(60):
        save(tmp_path / "in" / f"{number:02}.png", picture(200, 200))
    command = [sys.executable, "-m", "others", "denoise", "in", "-o", "out", "--denoiser", "rednet"]
    running = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout.readline() == "60 pictures\n" and "00.png" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)
    assert re.search(r"^\d+ of 60 done; the same command with --skip-existing goes on\.$", stdout, re.M)
    assert running.returncode == 130 and stderr.splitlines()[-1].startswith("noise2noise denoise: interrupted")
    assert "Traceback" not in stderr
    made = sorted((tmp_path / "out").iterdir())
    assert 0 < len(made) < 60 and all(page(path).shape == (200, 200, 3) for path in made)


def test_help_shows_examples(here):
    status, stdout, _ = here("denoise", "--help")
    assert status == 0 and "noise2noise denoise photo.jpg" in stdout
    assert here("unheard-of")[0] == 2


# --------------------------------------------------------------------------------------------- weights and strength


def grainy(height=64, width=72, sigma=20):
    noisy = 120 + sigma * torch.randn(height, width, 3, generator=torch.Generator().manual_seed(0))
    return noisy.round().clamp(0, 255).to(torch.uint8)


def drawn(side=96):
    """A page whose pixels are drawn from cells of a finer scene."""
    return noises.subsample_photo(scene(), 1, side, 9, torch.Generator().manual_seed(0))[0][0].permute(1, 2, 0)


@pytest.mark.parametrize("made, options, name, said", [
    (grainy, [], "camera", "noise of about sigma 20: camera weights"),
    (drawn, [], "prescribed", "pixels as if drawn from a finer picture: prescribed weights"),
    (grainy, ["--noise", "auto"], "camera", "camera weights"),
    (grainy, ["--noise", "pixels"], "prescribed", "noise of about sigma 20: prescribed weights"),
    (drawn, ["--noise", "camera"], "camera", "drawn from a finer picture: camera weights"),
    (grainy, ["--denoiser", "rednet"], "rednet", "rednet weights"),
], ids=lambda value: value.__name__ if callable(value) else None)  # fmt: skip
def test_the_picture_or_the_option_picks_the_weights(tmp_path, here, save, made, options, name, said):
    source = save(tmp_path / "x.png", made())
    status, stdout, stderr = here("denoise", source, *options)
    guessed = f"note: {source}: taken for pixels drawn from a finer picture; if it is not, --noise camera\n"
    assert status == 0 and said in stdout and stderr == guessed * (made is drawn and not options)
    assert torch.equal(page(tmp_path / "x-denoised.png").to(torch.int32), expected(made(), denoiser=name))


def test_without_camera_all_pictures_take_the_only_weights(tmp_path, here, save, monkeypatch):
    monkeypatch.setattr("others.model.denoisers", lambda: {"prescribed": None})
    assert suited(False) is None and suited(True) is None


def test_noise_does_nothing_with_a_denoiser_or_weights(tmp_path, here, save, weights):
    save(tmp_path / "x.png", grainy())
    for options in (["--denoiser", "prescribed"], ["--weights", weights]):
        status, stdout, stderr = here("denoise", "x.png", "--noise", "camera", "--force", *options)
        assert status == 0 and "--noise does nothing with --denoiser or --weights" in stderr
        assert "camera" not in stdout


@pytest.mark.parametrize("strength", [0, 0.4, 1, 1.5])
def test_strength_blends(tmp_path, here, save, strength):
    source = grainy()
    save(tmp_path / "x.png", source)
    assert here("denoise", "x.png", "--strength", strength)[0] == 0
    model = Model("camera", device="cpu")
    model.load_pretrained_model()
    pixels = pictures.to_pixels(source)
    mixed = pixels + strength * (model.predict(pixels) - pixels)
    result = page(tmp_path / "x-denoised.png").permute(2, 0, 1).float()
    assert (result - mixed[0].clamp(0, 255)).abs().max() <= 0.501


@pytest.mark.parametrize("strength", ["-0.1", "1.6", "nan", "much"])
def test_a_strength_out_of_range_is_wrong_usage(here, strength):
    status, _, stderr = here("denoise", "x.png", f"--strength={strength}")
    assert status == 2 and "--strength" in stderr


def test_the_log_tells_noise_before_and_after(tmp_path, here, save):
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "a.png", grainy(sigma=25))
    save(tmp_path / "in" / "b.png", grainy(30, 30))  # too small to tell
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    assert here("denoise", "in", "-o", "out", "--csv", "log.csv")[0] == 1
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["in/a.png", "in/b.png"]
    assert [row["result"] for row in rows] == ["out/a.png", "out/b.png"]
    assert float(rows[0]["noise_before"]) == pytest.approx(25, rel=0.15) and float(rows[0]["noise_after"]) < 5
    assert rows[1]["noise_before"] == rows[1]["noise_after"] == "" and rows[1]["weights"] == "camera weights"
    status, _, stderr = here("denoise", "in/a.png", "--csv", "log.csv", "-o", "again.png")
    assert status == 1 and "log.csv exists" in stderr and not (tmp_path / "again.png").exists()


# ------------------------------------------------------------------------------------------- black, white and stacks


def smooth(white, dtype, count=1, height=40, width=48):
    """`count` slices of noisy slopes from 0 to `white`: (count, H, W)."""
    generator = torch.Generator().manual_seed(0)
    slope = torch.linspace(0, 1, width).expand(count, height, width)
    noisy = (slope + 0.05 * torch.randn(slope.shape, generator=generator)).clamp(0, 1).double() * white
    return (noisy if dtype.is_floating_point else noisy.round()).to(dtype)


def test_a_dim_stack_keeps_units_type_and_axes(tmp_path, here):
    """12 bits in 16, four slices of three times: one line says which range, tifffile finds the same axes."""
    tifffile = pytest.importorskip("tifffile")
    numbers = smooth(4095, torch.uint16, 12).numpy().reshape(4, 3, 40, 48)
    tifffile.imwrite(tmp_path / "x.tif", numbers, imagej=True, metadata={"axes": "TZYX", "unit": "um"})
    status, _, stderr = here("denoise", "x.tif")
    said = [line for line in stderr.splitlines() if "black" in line]
    assert status == 0
    assert said == ["note: x.tif: 0 is black, 4095 white (found); --range LOW HIGH sets it"]
    with tifffile.TiffFile(tmp_path / "x.tif") as one, tifffile.TiffFile(tmp_path / "x-denoised.tif") as two:
        assert two.series[0].axes == one.series[0].axes == "TZYX" and two.series[0].dtype == "uint16"
        assert two.imagej_metadata == one.imagej_metadata
        change = abs(two.asarray().astype(float) - numbers)
    assert 10 < change.mean() < 0.05 * 4095


def test_range_is_given(tmp_path, here, save, picture, weights):
    model = Model(device="cpu")
    model.load_pretrained_model(weights)
    for kind, given in ((torch.uint8, (0, 90)), (torch.uint16, (-100, 5000))):
        source = picture(dtype=kind)
        save(tmp_path / "x.tif", source)
        status, _, stderr = here("denoise", "x.tif", "--force", "--weights", weights, "--range", *given)
        wanted = Range(*given)
        pixels = model.predict(pictures.to_pixels(source, wanted))
        beyond = (source.int() < given[0]) | (source.int() > given[1])
        share = f"note: x.tif: {float(beyond.float().mean()):.1%} of the values are outside of --range\n"
        assert status == 0 and stderr == share
        assert torch.equal(page(tmp_path / "x-denoised.tif").int(), pictures.with_colours(source, pixels, wanted).int())
    assert beyond.any() and torch.equal(page(tmp_path / "x-denoised.tif").int()[beyond], source.int()[beyond])


@pytest.mark.parametrize("given", [(5, 5), (9, 1), ("nan", 1), (0, "inf")])
@pytest.mark.parametrize("command", [("denoise", "x.png"), ("evaluate", "x.png", "x.png"), ("train", "-o", "x.pth")])
def test_a_range_that_is_none(here, command, given):
    status, _, stderr = here(*command, "--range", *given)
    assert status == 2 and stderr.splitlines()[-1].endswith("expected LOW below HIGH")


@pytest.mark.skipif(os.name == "nt", reason="its names are UTF-16")
def test_a_name_that_is_no_utf_8_is_in_the_table(tmp_path, here, save, picture):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        save(tmp_path / "in" / name, picture())
    except OSError:
        pytest.skip("this file system has no such names")
    assert here("denoise", "in", "--csv", "t.csv")[0] == 0
    assert b"in/caf\xe9.png," in (tmp_path / "t.csv").read_bytes()
    assert here("evaluate", "in", "--csv", "e.csv")[0] == 0
    assert b"in/caf\xe9.png," in (tmp_path / "e.csv").read_bytes()


@pytest.mark.parametrize("given", [(1, 1e30), (-100000, 255), (0, 100000), (300, 400)])
def test_a_range_in_which_nothing_can_be_seen(tmp_path, here, save, picture, given):
    """Black, white or without any value: said, and not denoised."""
    save(tmp_path / "x.png", picture())
    save(tmp_path / "y.png", picture())
    for command in ("denoise", "x.png"), ("evaluate", "x.png"), ("evaluate", "x.png", "y.png"):
        status, _, stderr = here(*command, "--range", *given)
        assert status == 1 and "expected values that fill the range" in stderr and "choose another --range" in stderr
    assert not (tmp_path / "x-denoised.png").exists()


def test_one_value_fills_any_range(tmp_path, here, save):
    save(tmp_path / "x.png", torch.full((9, 8, 3), 7, dtype=torch.uint8))
    assert here("denoise", "x.png", "--range", 0, 255)[0] == 0


def test_no_data_and_nan_stay(tmp_path, here):
    tifffile = pytest.importorskip("tifffile")
    numbers = smooth(100, torch.float32)[0].numpy()
    numbers[5:15, 10:20], numbers[30, 30], numbers[2, 2] = -9999, float("nan"), 1e6
    tifffile.imwrite(tmp_path / "x.tif", numbers, extratags=[(42113, "s", 6, "-9999", True)])
    status, _, stderr = here("denoise", "x.tif")
    result = tifffile.imread(tmp_path / "x-denoised.tif")
    kept = ~((numbers >= 0) & (numbers <= 100))
    assert status == 0 and "0 is black, 100 white" in stderr and result.dtype == "float32"
    assert kept.sum() == 102 and ((result == numbers) | (result != result))[kept].all()
    assert result[~kept].min() >= 0 and result[~kept].max() <= 100
    assert 0.5 < abs(result - numbers)[~kept].mean() < 5
    with tifffile.TiffFile(tmp_path / "x-denoised.tif") as tiff:
        assert tiff.pages[0].tags[42113].value == "-9999"


def test_planes_that_may_be_slices_are_said(tmp_path, here):
    tifffile = pytest.importorskip("tifffile")
    with pytest.warns(DeprecationWarning):  # tifffile's own, of the guess that this is about
        tifffile.imwrite(tmp_path / "x.tif", smooth(255, torch.uint8, 3).numpy())
    status, _, stderr = here("denoise", "x.tif")
    assert status == 0 and "note: x.tif: 3x40x48 without names of its axes: taken as planes of R, G, B" in stderr
    assert tifffile.imread(tmp_path / "x-denoised.tif").shape == (3, 40, 48)


def test_a_dim_picture_into_a_format_of_8_bits(tmp_path, here):
    """Black becomes 0 and white 255, where the units cannot be kept."""
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "x.tif", smooth(4095, torch.uint16)[0].numpy())
    assert here("denoise", "x.tif", "-o", "x.bmp", "--compare")[0] == 0
    result, both = page(tmp_path / "x.bmp").int(), page(tmp_path / "x-compare.bmp").int()
    assert result.min() < 20 and result.max() > 235
    assert torch.allclose(both[:, :48, 0].double(), smooth(255, torch.float64)[0], atol=0.6)


def test_the_table_is_kept_when_it_is_interrupted_and_goes_on(tmp_path, here, save, picture, monkeypatch):
    """What was done before Ctrl-C is in it; --skip-existing adds the rest to it."""
    for name in "abc":
        save(tmp_path / "in" / f"{name}.png", picture(40, 40))
    original, done = denoise.denoise_file, []

    def interrupted(*args):
        if done:
            raise KeyboardInterrupt
        done.append(args[1])
        return original(*args)

    def sources():
        with open(tmp_path / "log.csv", newline="") as file:
            return [row["picture"] for row in csv.DictReader(file)]

    monkeypatch.setattr(denoise, "denoise_file", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        here("denoise", "in", "-o", "out", "--csv", "log.csv")
    assert sources() == ["in/a.png"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert here("denoise", "in", "-o", "out", "--csv", "log.csv", "--skip-existing")[0] == 0
    assert sources() == ["in/a.png", "in/b.png", "in/c.png"]
    assert here("denoise", "in", "-o", "out", "--csv", "log.csv", "--skip-existing", "--compare")[0] == 0
    assert sources() == ["in/a.png", "in/b.png", "in/c.png"]  # made again, in a line each as before
    (tmp_path / "out" / "c.png").unlink()
    for other in ("a,b\n1,2\n", ",".join(denoise.COLUMNS) + "\nin/a.png\n"):
        (tmp_path / "other.csv").write_text(other)
        status, _, stderr = here("denoise", "in", "-o", "out", "--csv", "other.csv", "--skip-existing")
        assert status == 1 and "other.csv: expected a table that denoise wrote, got another file" in stderr
        assert (tmp_path / "other.csv").read_text() == other and not (tmp_path / "out" / "c.png").exists()
    with open(tmp_path / "log.csv", "a") as file:
        file.write("\n")  # an empty line, as editors leave one
    assert here("denoise", "in", "-o", "out", "--csv", "log.csv", "--skip-existing")[0] == 0
    assert sources() == ["in/a.png", "in/b.png", "in/c.png"]


def test_results_of_before_are_left_out_of_a_folder(tmp_path, here, save, picture):
    """By their names, beside the pictures that they are of; others that are called so are pictures."""
    save(tmp_path / "in" / "a.png", picture(40, 40))
    save(tmp_path / "in" / "b-denoised.png", picture(40, 40))
    assert here("denoise", "in/a.png", "--compare")[0] == 0
    status, _, stderr = here("denoise", "in", "-o", "out", "--compare")
    assert status == 0 and "left out: in/a-denoised-compare.png, in/a-denoised.png: denoised before" in stderr
    names = ["a-compare.png", "a.png", "b-denoised-compare.png", "b-denoised.png"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names
    status, _, stderr = here("denoise", "out", "-o", "more")  # and the comparisons in a folder of results
    assert status == 0 and "left out: out/a-compare.png, out/b-denoised-compare.png: denoised before" in stderr
    assert sorted(file.name for file in (tmp_path / "more").iterdir()) == ["a.png", "b-denoised.png"]


def test_results_of_before_are_left_out_of_lists_and_patterns(tmp_path, here, save, picture, weights):
    for name in ("a.png", "b-denoised.png"):
        save(tmp_path / name, picture(40, 40))
    assert here("denoise", "a.png", "--compare", "--weights", weights)[0] == 0
    for given in (["*.png"], sorted(path.name for path in tmp_path.glob("*.png"))):
        status, _, stderr = here("denoise", *given, "-o", "out", "--force", "--weights", weights)
        left = "a-denoised-compare.png, a-denoised.png: denoised before, by their names; to denoise one, name it alone"
        assert status == 0 and stderr == f"note: left out: {left}\n"
        assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "b-denoised.png"]
    assert here("denoise", "a-denoised.png", "-o", "again.png", "--weights", weights)[0] == 0


@pytest.mark.parametrize("pages, target, said", [
    ([{"channels": 4}], "y.jpg", "JPEG keeps no alpha channel"),
    ([{}, {}], "y.bmp", "2 pages fit into TIFF, PNG or WebP"),
    ([{"dtype": torch.uint16}] * 2, "y.png", "several pages of 16 bits"),
    ([{"dtype": torch.uint16}, {}], "y.jpg", "2 pages fit into TIFF, PNG or WebP"),
])  # fmt: skip
def test_what_a_format_cannot_hold_is_said_before_the_work(
    tmp_path, here, save, picture, monkeypatch, pages, target, said
):
    save(tmp_path / "x.tif", *(picture(**kind) for kind in pages))
    monkeypatch.setattr(denoise.Denoiser, "run", lambda *_: pytest.fail("denoised in vain"))
    status, _, stderr = here("denoise", "x.tif", "-o", target)
    assert status == 1 and said in stderr and len(stderr.splitlines()) == 1 and os.listdir(tmp_path) == ["x.tif"]


def test_what_a_format_does_not_keep_is_said(tmp_path, here, save, picture, weights):
    from PIL import Image, ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271] = "A camera"
    save(tmp_path / "x.jpg", picture(), icc_profile=profile, exif=exif.tobytes(), comment=b"holiday")
    for target, said in (
        ("y.bmp", "note: x.jpg: BMP keeps no colour profile and no EXIF data and no comment\n"),
        ("y.webp", "note: x.jpg: WEBP keeps no comment\n"),
        ("y.tif", "note: x.jpg: TIFF keeps no EXIF data and no comment\n"),
        ("y.jpg", ""),
    ):
        assert here("denoise", "x.jpg", "-o", target, "--weights", weights)[::2] == (0, said)
        about = pictures.read(tmp_path / target).about
        assert ("icc_profile" in about) == ("colour" not in said) and ("exif" in about) == ("EXIF" not in said)
        assert ("comment" in about) == ("comment" not in said)


def test_pages_that_become_an_animation_are_said(tmp_path, here, save, picture, weights):
    save(tmp_path / "x.tif", picture(), picture(seed=1))
    status, _, stderr = here("denoise", "x.tif", "-o", "y.png", "--weights", weights)
    assert status == 0 and "note: x.tif: its 2 pages became an animation; a name in .tif keeps them" in stderr
    assert len(list(pictures.read(tmp_path / "y.png").pages)) == 2


def test_a_table_that_is_there_may_go_on(tmp_path, here, save, picture):
    save(tmp_path / "x.png", picture())
    (tmp_path / "t.csv").write_text("something\n")
    status, _, stderr = here("denoise", "x.png", "--csv", "t.csv")
    assert status == 1 and stderr.endswith("t.csv exists; choose another name, or --force to replace it, or "
                                           "--skip-existing to go on with it\n")  # fmt: skip


def test_errors_of_the_writer_name_the_file_and_stop_no_folder(tmp_path, here, save, picture, weights):
    """Resolutions that no PNG has, in one line, before the work; the other picture is denoised."""
    tifffile = pytest.importorskip("tifffile")
    for name, kind in (("a.png", torch.uint16), ("b.png", torch.uint8)):
        tifffile.imwrite(tmp_path / "x.tif", picture(dtype=kind).numpy(), resolution=(4e9, 4e9), resolutionunit=2)
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "x.tif").rename(tmp_path / "in" / name)
    save(tmp_path / "in" / "c.png", picture())
    status, stdout, stderr = here("denoise", "in", "--weights", weights)
    assert status == 1 and "Denoised 1 of 3" in stdout and "Traceback" not in stderr
    for name in ("a.png", "b.png"):
        assert f"in-denoised/{name}: what the picture says about itself cannot be written" in stderr


def test_a_text_called_like_a_property_is_a_text(tmp_path, here, picture, weights):
    from PIL import Image, PngImagePlugin

    told = PngImagePlugin.PngInfo()
    for name in ("dpi", "comment", "exif", "xmp", "icc_profile"):
        told.add_text(name, "300")
    Image.fromarray(picture().numpy()).save(tmp_path / "x.png", pnginfo=told)
    assert here("denoise", "x.png", "-o", "y.png", "--weights", weights)[::2] == (0, "")
    with Image.open(tmp_path / "y.png") as image:
        assert image.text["dpi"] == image.text["exif"] == "300"
    said = here("denoise", "x.png", "-o", "y.jpg", "--weights", weights)
    assert said[::2] == (0, "note: x.png: JPEG keeps no texts\n")


def test_what_is_kept_otherwise_is_not_called_lost(tmp_path, here, save, picture, weights):
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6
    save(tmp_path / "x.jpg", picture(), exif=exif.tobytes())
    for target in ("y.tif", "y.bmp"):
        assert here("denoise", "x.jpg", "-o", target, "--weights", weights)[::2] == (0, "")


def test_pages_of_different_sizes_are_no_animation(tmp_path, here, save, picture, weights):
    save(tmp_path / "x.tif", picture(), picture(20, 30))
    for target in ("y.png", "y.webp"):
        status, _, stderr = here("denoise", "x.tif", "-o", target, "--weights", weights)
        assert status == 1 and f"{target}: pages of different sizes fit into TIFF alone" in stderr
        assert not (tmp_path / target).exists()


def test_what_is_no_value_is_not_outside_of_the_range(tmp_path, here, weights):
    tifffile = pytest.importorskip("tifffile")
    numbers = smooth(100, torch.float32)[0].numpy()
    numbers[3], numbers[7] = float("nan"), -9999
    tifffile.imwrite(tmp_path / "x.tif", numbers, extratags=[(42113, "s", 6, "-9999", True)])
    status, _, stderr = here("denoise", "x.tif", "--range", -10000, 101, "--weights", weights)
    assert (status, stderr) == (0, "")
    numbers[20, 20] = 500
    tifffile.imwrite(tmp_path / "x.tif", numbers, extratags=[(42113, "s", 6, "-9999", True)])
    stderr = here("denoise", "x.tif", "--range", -10000, 101, "--force", "--weights", weights)[2]
    assert stderr == "note: x.tif: less than 0.1% of the values are outside of --range\n"


def test_results_of_a_folder_are_left_out(tmp_path, here, save, picture, weights):
    save(tmp_path / "scans" / "in" / "a.png", picture())
    assert here("denoise", "scans/in", "--weights", weights)[0] == 0
    status, _, stderr = here("denoise", "scans", "-o", "out", "--weights", weights)
    assert status == 0 and "left out: scans/in-denoised/a.png: denoised before" in stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["in"]


def test_a_picture_named_twice_is_denoised_once(tmp_path, here, save, picture, weights):
    save(tmp_path / "in" / "a.png", picture())
    status, stdout, _ = here("denoise", "in", "in/a.png", "-o", "out", "--weights", weights)
    assert status == 0 and stdout.count(" -> ") == 1
    (tmp_path / "in" / "b.png").symlink_to("a.png")  # another name is another picture
    assert here("denoise", "in", "-o", "two", "--weights", weights)[0] == 0
    assert sorted(os.listdir(tmp_path / "two")) == ["a.png", "b.png"]


def test_a_suffix_that_is_none_is_no_folder(tmp_path, here, save, picture, weights):
    save(tmp_path / "x.png", picture())
    status, _, stderr = here("denoise", "x.png", "-o", "y.jgp", "--weights", weights)
    assert status == 2 and "-o y.jgp: expected a folder, or a picture in .png" in stderr
    (tmp_path / "y.v2").mkdir()
    assert here("denoise", "x.png", "-o", "y.v2", "--weights", weights)[0] == 0 and (tmp_path / "y.v2/x.png").is_file()


def test_what_is_chosen_for_drawn_pixels_says_how_to_choose_otherwise(tmp_path, here, save):
    save(tmp_path / "x.png", drawn())
    said = "note: x.png: taken for pixels drawn from a finer picture; if it is not, --noise camera\n"
    assert here("denoise", "x.png", "--csv", "t.csv")[2] == said and "--noise" not in (tmp_path / "t.csv").read_text()
    assert here("denoise", "x.png", "--force", "--noise", "pixels")[2] == ""


@pytest.mark.parametrize("quality, said", [(60, True), (69, True), (71, False), (95, False)])
def test_a_jpeg_of_low_quality_is_said(tmp_path, here, save, picture, weights, quality, said):
    from PIL import Image

    Image.fromarray(picture().numpy()).save(tmp_path / "x.jpg", quality=quality)
    stderr = here("denoise", "x.jpg", "--weights", weights)[2]
    assert stderr == "note: x.jpg: a JPEG of low quality: its noise can hardly be told from the picture\n" * said
