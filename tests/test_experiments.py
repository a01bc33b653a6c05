"""The experiments: every declared run takes its first steps, logs are what experiments/README.md says, runs go on where
they were, and the same seed gives the same numbers."""

import json
import re
import sys
import types
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from experiments import hooks, run, show, trials  # noqa: E402
from experiments.declarations import EXPERIMENTS, declared  # noqa: E402

TIMES = ("seconds", "cpu_seconds", "machine")
FEW = trials.Places(most=16)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Everything that is declared, for a step or two, and what is drawn from it."""
    folder = tmp_path_factory.mktemp("quick")
    run.main(["--scale", "quick", "--out", str(folder)])
    show.main(["--out", str(folder)])
    return folder


def logged(folder, experiment):
    return [json.loads(line) for line in (folder / "logs" / f"{experiment}.jsonl").read_text().splitlines()]


def untimed(lines):
    return sorted(({k: v for k, v in line.items() if k not in TIMES} for line in lines), key=json.dumps)


# ------------------------------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_declared_run_is_logged_to_its_end(quick, experiment):
    lines = logged(quick, experiment)
    expected = [found for found in declared(experiment, "quick") if found["config"]["data"] != "course"]
    assert sorted({line["run"] for line in lines}) == sorted(found["run"] for found in expected)
    assert sorted(line["run"] for line in lines if line["done"]) == sorted(found["run"] for found in expected)
    for line in lines:
        assert ("machine" in line) == (line["epoch"] == 0)
        assert line["config"]["seed"] == line["seed"]
        if line["epoch"] and "failure" not in line:
            assert line["loss"] > 0 and line["psnr_a"] > 5 and line["psnr_b"] > 5 and line["cpu_seconds"] > 0


def test_the_fields_of_the_logs_are_documented(quick):
    known = set(re.findall(r"`(\w+)`", (ROOT / "experiments" / "README.md").read_text()))
    lines = [line for experiment in EXPERIMENTS for line in logged(quick, experiment)]
    for found in (lines, [line["config"] for line in lines], [line["machine"] for line in lines if "machine" in line]):
        assert {key for fields in found for key in fields} <= known


def test_tables_and_figures_are_drawn_from_the_logs(quick):
    text = (quick / "RESULTS.md").read_text()
    for section in show.SECTIONS:
        assert f"## {section.title}\n" in text
    pictures = re.findall(r"\]\((figures/.*?\.png)\)", text)
    assert len(pictures) == sum(bool(section.figure) for section in show.SECTIONS)
    assert all((quick / picture).stat().st_size > 10_000 for picture in pictures)
    best = max(line["psnr_a"] for line in logged(quick, "s1-channels") if line["done"])
    assert f"| {best:.2f} |" in text
    assert "nan" not in text and "None" not in text


LOGS = ROOT / "experiments" / "logs"


@pytest.mark.parametrize("section", show.SECTIONS, ids=lambda section: section.name or section.experiment)
def test_above_each_table_stands_what_its_runs_bear_out(section):
    shown = show.choose(section.experiment, LOGS)
    sentence, holds = show.found_out(section.name or section.experiment, shown)
    assert sentence and holds
    results = (LOGS.parent / "RESULTS.md").read_text()
    assert f"## {section.title}\n\n{sentence}\n\n{shown.note}\n\n|" in results


def test_a_finding_that_the_runs_refute_is_named(tmp_path, capsys):
    (tmp_path / "logs").mkdir()
    lines = (LOGS / "precision.jsonl").read_text().splitlines(keepends=True)
    worse = [line.replace('"psnr_a": 24', '"psnr_a": 23') if '"run": "bf16' in line else line for line in lines]
    (tmp_path / "logs" / "precision.jsonl").write_text("".join(worse))
    assert show.main(["--out", str(tmp_path)]) == 1
    assert "do not bear out the finding of precision;" in capsys.readouterr().err
    assert "\n\nDeclared, but not so in these runs: Activations in bf16" in (tmp_path / "RESULTS.md").read_text()


def test_runs_of_a_step_or_two_show_nothing(quick):
    assert show.found_out("precision", show.choose("precision", quick / "logs")) == ("", True)
    assert "Declared, but" not in (quick / "RESULTS.md").read_text()


def test_what_is_smaller_than_the_original_is_listed_once():
    results = (LOGS.parent / "RESULTS.md").read_text()
    smaller = results.split("## Run smaller than the original\n")[1].split("\n## ")[0]
    shown = {name: show.choose(name, LOGS) for name in EXPERIMENTS}
    for name, found in shown.items():
        assert (f"| {name} |" in smaller) == (found.scale != "full")


@pytest.mark.parametrize("network", ["prescribed", "stride one", "rednet of 9 channels"])
def test_ours_and_torch_start_alike_and_stay_together(quick, network):
    ends = {name: [line for line in logged(quick, "s3-curves") if line["run"] == f"{network}, {name}, seed 0"]
            for name in ("ours", "torch", "torch in 64 bits")}  # fmt: skip
    for ours, *others in zip(*ends.values(), strict=True):
        assert [ours["psnr_a"]] * 2 == pytest.approx([other["psnr_a"] for other in others], abs=1e-3)
    assert ends["ours"][-1]["loss"] == pytest.approx(ends["torch"][-1]["loss"], rel=1e-4)


def test_blocks_agree_with_torch(quick):
    for line in logged(quick, "s0-blocks"):
        limit = 1e-11 if line["config"]["network"]["dtype"] == "float64" else 2e-3
        assert max(line["differences"].values()) < limit


# ---------------------------------------------------------------------------------------------------- going on


def test_what_is_done_is_not_run_again(quick, tmp_path, capsys):
    log = tmp_path / "logs" / "s3-curves.jsonl"
    log.parent.mkdir()
    before = (quick / "logs" / "s3-curves.jsonl").read_text()
    log.write_text(before)
    run.main(["s3-curves", "--scale", "quick", "--out", str(tmp_path)])
    assert "9 runs, 9 of them done before" in capsys.readouterr().out
    assert log.read_text() == before


def test_an_unfinished_run_and_a_half_written_line_are_run_again(quick, tmp_path, capsys):
    log = tmp_path / "logs" / "s3-curves.jsonl"
    log.parent.mkdir()
    before = logged(quick, "s3-curves")
    log.write_text("\n".join(map(json.dumps, before[:-3])) + "\n" + json.dumps(before[-3])[:90])
    run.main(["s3-curves", "--scale", "quick", "--out", str(tmp_path), "--jobs", "2"])
    assert "9 runs, 7 of them done before" in capsys.readouterr().out
    assert untimed(logged(tmp_path, "s3-curves")) == untimed(before)


def test_another_scale_is_added_and_nothing_removed(quick, tmp_path):
    log = tmp_path / "logs" / "s1-channels.jsonl"
    log.parent.mkdir()
    other = {**logged(quick, "s1-channels")[1], "scale": "small", "done": True}
    log.write_text(json.dumps(other) + "\n")
    run.main(["s1-channels", "--scale", "quick", "--out", str(tmp_path)])
    assert untimed(logged(tmp_path, "s1-channels")) == untimed([other, *logged(quick, "s1-channels")])


def test_two_runners_do_not_write_to_one_folder(tmp_path):
    (tmp_path / "logs").mkdir()
    lock = run.held(tmp_path / "logs")
    with pytest.raises(BlockingIOError, match="another runner"):
        run.main(["s2-rates", "--scale", "quick", "--out", str(tmp_path)])
    run.os.close(lock)


def test_the_largest_complete_scale_is_shown(quick, tmp_path):
    (tmp_path / "logs").mkdir()
    lines = logged(quick, "s1-channels")
    larger = [{**line, "scale": "small"} for line in lines if "channels=8," in line["run"]]
    log = tmp_path / "logs" / "s1-channels.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *larger]))
    assert show.choose("s1-channels", log.parent).note.startswith("Scale quick")
    log.write_text("".join(json.dumps({**line, "scale": "small"}) + "\n" for line in lines) + log.read_text())
    assert show.choose("s1-channels", log.parent).note.startswith("Scale small")
    log.write_text("".join(json.dumps(line) + "\n" for line in larger))
    assert "So far 1 of 6 runs" in show.choose("s1-channels", log.parent).note


@pytest.mark.parametrize("argv, message", [
    (["s9"], "no experiment s9"), (["--jobs", "0"], "at least 1"), (["--data", "nowhere"], "no such folder"),
])  # fmt: skip
def test_wrong_arguments(argv, message, capsys):
    with pytest.raises(SystemExit):
        run.main(argv)
    assert message in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- a run


def short(**changes):
    """A run of a small network."""
    found = declared("s2-rates", "quick")[0]
    network = {"kind": "prescribed", "channels": [4, 6], "kernel_sizes": [3, 3]}
    changed = {"network": network, "data": "generated", "validation": "generated", "batch_size": 8, **changes}
    return {**found, "config": {**found["config"], **changed}}


def test_a_rate_that_is_too_large_is_logged_as_diverged():
    lines = list(trials.epochs(short(optimizer={"name": "SGD", "lr": 1e30}), FEW))
    assert lines[-1]["failure"].startswith("diverged") and lines[-1]["done"] and lines[-1]["loss"] is None
    json.dumps(lines, allow_nan=False)


def test_shapes_that_do_not_come_back_are_named():
    shape = {"kind": "four layers", "channels": [4, 6], "kernel_size": 3, "stride": 2, "padding": 0, "dilation": 1}
    (line,) = trials.epochs(short(network=shape), FEW)
    assert line["failure"] == "incompatible: 32 x 32 comes back as 31 x 31"
    (line,) = trials.epochs(short(network={**shape, "stride": 1, "kernel_size": 40}), FEW)
    assert line["failure"].startswith("incompatible: ") and line["done"]


def test_a_run_that_ends_by_time_ends():
    lines = list(trials.epochs(short(epochs=None, minutes=0.001), FEW))
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert [line["epoch"] for line in lines] == list(range(len(lines)))


def test_plain_descent_is_what_the_hand_computes():
    """One step on 16 images, against torch's autograd on the same network."""
    config = short(batch_size=16)["config"]
    network = trials.build(config)
    theirs = trials.in_torch(network)
    scenes = trials.training_scenes(config, FEW)
    index = next(trials.minibatches(16, 16, torch.Generator().manual_seed(0)))
    input, target = scenes.versions[0][index] / 255, scenes.versions[1][index] / 255
    with torch.enable_grad():
        (theirs(input) - target).square().mean().backward()
    trainee = trials.Ours(network, config)
    trainee.optimizer.param_groups[0]["lr"] = 3.0
    trainee.step(*trials.minibatch(scenes, index, config, None))
    for mine, other in zip(network.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, other.detach() - 3 * other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("init", ["kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_", "tiny"])
def test_initial_weights_have_the_declared_spread(init):
    """He's variance is 2 / fan_in, Glorot's here 4 / (fan_in + fan_out), whatever the distribution's shape."""
    wide = {"kind": "prescribed", "channels": [40, 60], "kernel_sizes": [3, 3]}
    network = trials.build(short(init=init, network=wide)["config"])
    weight, biases = network[2].weight, [p for p in network.parameters() if p.dim() == 1]
    fan_in, fan_out = 40 * 9, 60 * 9
    variance = {"kaiming": 2 / fan_in, "xavier": 4 / (fan_in + fan_out), "tiny": 1e-6}[init.split("_")[0]]
    assert weight.var().item() == pytest.approx(variance, rel=0.05)
    assert not any(bias.any() for bias in biases)


def test_the_seed_decides_weights_and_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    weights = [trials.build(short(seed=seed)["config"])[0].weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_rate_along_a_cycle():
    values = [trials.factor("onecycle", step / 100) for step in range(101)]
    assert max(values) == pytest.approx(1) and values[0] == 0.04 and values[-1] == 1e-4
    assert values.index(max(values)) == 10 and trials.factor("constant", 0.7) == 1


# -------------------------------------------------------------------------------------------------------- images


def test_every_image_once_before_any_twice():
    stream = trials.minibatches(10, 4, torch.Generator().manual_seed(0))
    first = [next(stream) for _ in range(6)]
    assert [len(index) for index in first] == [4, 4, 2, 4, 4, 2]
    assert all(sorted(torch.cat(first[i : i + 3]).tolist()) == list(range(10)) for i in (0, 3))


def test_input_and_target_are_turned_alike_and_never_the_same_version(pixels):
    scenes = trials.Scenes(tuple(pixels(5, 3, 8, 8) for _ in range(3)), pixels(5, 3, 8, 8))
    generator, index = torch.Generator().manual_seed(0), torch.arange(5)
    config = {"augment": True, "targets": "noisy"}
    seen = [trials.minibatch(scenes, index, config, generator) for _ in range(40)]
    assert all(torch.equal(input, target) for input, target in seen)  # all versions are equal here
    assert len({input.sum((0, 1)).flatten()[0].item() for input, _ in seen}) == 4  # four corners come first
    unlike = trials.Scenes(tuple(torch.full((5, 3, 8, 8), i) for i in range(3)), None)
    pairs = {
        tuple(int(image[0, 0, 0, 0]) for image in trials.minibatch(unlike, index, config, generator)) for _ in range(60)
    }
    assert pairs == {(i, j) for i in range(3) for j in range(3) if i != j}


def test_the_mean_of_the_other_versions_is_the_target():
    scenes = trials.Scenes(tuple(torch.full((2, 3, 8, 8), i, dtype=torch.uint8) for i in (10, 20, 60)), None)
    input, target = trials.minibatch(scenes, torch.arange(2), {"augment": False, "targets": "average"}, None)
    assert input.unique().tolist() == [10] and target.unique().tolist() == [40]


@pytest.fixture
def photo_folder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for i in range(3):
        noise = torch.randint(0, 256, (300, 310, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        image.frombytes("RGB", (310, 300), bytes(noise.flatten().tolist())).save(tmp_path / f"{i}.png")
    return tmp_path


def test_crops_of_photographs(photo_folder):
    places = trials.Places(photos=photo_folder)
    *noisy, clean = trials.photos(places, 4, 20, True)
    mean = torch.stack([version.float() for version in noisy]).mean(0)
    assert len(noisy) == 20 and not torch.equal(noisy[0], noisy[1])
    assert (mean - clean.float()).abs().mean() < 1.5 * 74 / 20**0.5  # 74: deviation of a uniform pixel
    assert all(torch.equal(a[:4], b) for a, b in zip(trials.photos(places, 7, 20, True), [*noisy, clean]))


def test_noise_variance_from_two_versions():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(400, 3, 8, 8, generator=generator) * 255
    versions = tuple(image + 20 * torch.randn(image.shape, generator=generator) for _ in range(2))
    assert trials.noise_variance(trials.Scenes(versions, None)) == pytest.approx((20 / 255) ** 2, rel=0.02)


def test_images_made_once_are_kept_in_a_file(tmp_path):
    first = trials.generated(trials.Places(cache=tmp_path), 3, 2, True)
    (file,) = tmp_path.iterdir()
    trials.generated(trials.Places(), 1, 1, False)  # out of the memory
    assert all(torch.equal(a, b) for a, b in zip(first, trials.generated(trials.Places(cache=tmp_path), 3, 2, True)))
    assert file.stat().st_size < 100_000


def test_the_spectrum_finds_a_checkerboard():
    rows = torch.arange(64)
    board = 4.0 * ((rows.view(-1, 1) + rows) % 2)
    clean = torch.full((4, 3, 32, 32), 100.0)
    noisy = clean + 5 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for strength, decibel in ((1, 10.3), (0, 0)):  # (4 * 1024 + 17 * 25) / (17 * 25), where its frequency adds
        trainee = types.SimpleNamespace(
            denoise=lambda images, k=strength: images + k * board[: images.shape[2], : images.shape[3]]
        )
        found = trials.spectrum(trainee, FEW, (noisy, clean), None)
        assert show.checkerboard(found["spectrum"])[0] == pytest.approx(decibel, abs=0.8)
        assert abs(show.checkerboard(found["spectrum"])[1]) < 1
        assert found["flat_deviation"] == pytest.approx(2 * strength, rel=0.01)


def test_the_floor_of_a_network_that_finds_the_clean_image_is_the_noise(pixels):
    clean = pixels(6, 3, 8, 8)
    noisy = [(clean.float() + 10 * torch.randn(clean.shape)).clamp(0, 255) for _ in range(2)]
    found = trials.floor(types.SimpleNamespace(denoise=lambda images: clean), FEW, None, trials.Scenes(noisy, clean))[
        "floor"
    ]
    assert found["error"] == 0 and found["loss"] == pytest.approx(found["variance"], rel=1e-6)
    assert found["variance"] == pytest.approx((noisy[1] - clean).div(255).square().mean().item(), rel=1e-5)
    same = trials.floor(types.SimpleNamespace(denoise=lambda images: noisy[1]), FEW, None, trials.Scenes(noisy, clean))[
        "floor"
    ]
    assert same["loss"] == 0 and same["error"] == pytest.approx(found["variance"], rel=1e-6)


# --------------------------------------------------------------------------------------------------------- hooks


def test_a_hook_that_is_not_installed_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(hooks, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="--wandb needs wandb: pip install wandb"):
        run.main(["s2-rates", "--scale", "quick", "--out", str(tmp_path), "--wandb", "denoiser"])


def test_lines_go_to_tensorboard(tmp_path, monkeypatch):
    written, folders = [], []

    class SummaryWriter:
        def __init__(self, folder):
            folders.append(folder)

        def add_scalar(self, name, value, step):
            written.append((name, step))

        def close(self):
            folders.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    run.perform((short(), FEW, tmp_path / "log.jsonl", {"tensorboard": "board"}))
    assert folders == ["board/s2-rates/lr=0.01, seed 0, quick", "closed"]
    assert ("psnr_a", 0) in written and ("loss", 1) in written and ("loss", 0) not in written


def test_lines_go_to_the_hooks(tmp_path, monkeypatch):
    sent = []
    session = types.SimpleNamespace(
        log=lambda numbers, step: sent.append((step, numbers)), finish=lambda: sent.append("end")
    )
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **options: session))
    job = short(), FEW, tmp_path / "log.jsonl", {"wandb": "denoiser"}
    line = run.perform(job)
    assert (
        sent[-1] == "end" and sent[-2][0] == 1 and sent[0][1].keys() == {"psnr_a", "psnr_b", "seconds", "cpu_seconds"}
    )
    assert sent[-2][1]["psnr_a"] == line["psnr_a"]
