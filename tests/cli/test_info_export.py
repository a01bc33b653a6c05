"""`noise2noise info` and `export`: what is printed is what the networks are, and the file computes the same."""

import json
import re
import subprocess
import sys

import pytest
import torch

from Miniproject_2.model import Model
from others import denoiser_camera, nn
from others import onnx as ours
from others.cli import export
from others.model import SHIPPED
from others.storage import checkpoint, networks


def test_info(here):
    status, stdout, stderr = here("info", "--history")
    assert (status, stderr) == (0, "")
    for name in ("prescribed", "rednet"):
        model = Model(name, device="cpu")
        model.load_pretrained_model()
        parameters = sum(parameter.numel() for parameter in model.network.parameters())
        assert f"parameters: {parameters:,}" in stdout
        assert f"arguments: {model.network.arguments}\n" in stdout
    assert "receptive field: " in stdout and "date: " in stdout and "\n  weights:\n    date: " in stdout
    assert "optimizer: Muon" in stdout and "multiplications: " in stdout


def test_without_history_info_is_a_few_lines_for_each_network(here):
    status, stdout, stderr = here("info")
    assert (status, stderr) == (0, "")
    top, *found = stdout.strip().split("\n\n")
    assert top.startswith("weights: ") and len(found) == 3
    for name, said in zip(("prescribed", "rednet", "camera"), found):
        title, purpose, psnr, date, size = said.splitlines()
        record = networks.load(SHIPPED, name)["info"]
        on = record["measured"]
        assert (title, psnr) == (name, f"  PSNR A: {record['psnr_a']:.2f} dB ({on})") and len(purpose) > 20
        assert date == f"  date: {record['date']}" and re.fullmatch(r"  parameters: [\d,]+ \(\d+\.\d MiB\)", size)


def test_what_is_not_known_is_said(tmp_path, here):
    model = Model("prescribed", device="cpu")
    networks.save(tmp_path / "x.pth", "prescribed", model.network, {})
    status, stdout, _ = here("info", "--history", "--weights", tmp_path / "x.pth")
    assert status == 0 and "PSNR A: not measured" in stdout and "date: unknown" in stdout
    assert "no record of where they come from" in stdout


def test_info_reads_the_file_once(here, monkeypatch):
    reads, right = [], checkpoint.read
    monkeypatch.setattr(checkpoint, "read", lambda *arguments: reads.append(arguments) or right(*arguments))
    assert here("info")[0] == 0 and len(reads) == 1


def test_a_reader_who_has_seen_enough_is_no_error(tmp_path, environment, weights):
    """As in: noise2noise info | head -1"""
    command = [sys.executable, "-m", "others", "info", "--weights", str(weights)]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    running.stdout.close()
    assert running.stderr.read() == b"" and running.wait(60) == 0


def test_multiplications_of_a_small_network(here, weights):
    """(8, 12) channels: 75 * 8 at a quarter of the pixels, 72 * 12 at a sixteenth, and the same again, mirrored."""
    status, stdout, _ = here("info", weights, "--layers")
    expected = 2 * (75 * 8 / 4 + 72 * 12 / 16)
    assert status == 0 and f"multiplications: {expected:.0f} per pixel" in stdout
    assert "rednet" not in stdout and "Conv2d(3 -> 8" in stdout


def test_provenance_of_what_a_training_started_from(tmp_path, here):
    model = Model("prescribed", device="cpu")
    model._build(channels=(4, 4))
    path = tmp_path / "x.pth"
    networks.save(path, "prescribed", model.network, {"start": {"epochs": 7}})
    assert "    start:\n      epochs: 7\n" in here("info", "--history", "--weights", path)[1]


STATE = {"training": {"epoch": 1}}  # what train --resume keeps
NO_RECORD = {"denoisers": {"prescribed": {"arguments": {}, "state": {}, "info": "from a friend"}}}


@pytest.mark.parametrize("command", ["info", "export --onnx x.onnx", "denoise a.png"])
@pytest.mark.parametrize("content, problem", [
    (STATE, "expected weights of a denoiser, found nothing"),
    ({"denoisers": 3}, "expected weights of a denoiser, found nothing"),
    (NO_RECORD, "the entry 'prescribed' is incomplete"),
], ids=["state of a training", "a number", "no record"])  # fmt: skip
def test_a_file_without_weights_is_one_line(tmp_path, here, command, content, problem):
    checkpoint.save(tmp_path / "own.pth.state", content)
    status, _, stderr = here(*command.split(), "--weights", "own.pth.state")
    assert status == 1 and stderr.startswith(f"noise2noise {command.split()[0]}: own.pth.state: {problem}")
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize("denoiser", ["prescribed", "rednet", "camera"])
def test_export_computes_the_same(tmp_path, here, denoiser):
    onnx = pytest.importorskip("onnx")
    status, stdout, stderr = here("export", "--onnx", "x.onnx", "--denoiser", denoiser)
    assert status == 0, stderr
    assert float(stdout.split(": ")[-1].split()[0]) < 1e-5 and "opset 17" in stdout
    model = Model(denoiser, device="cpu")
    model.load_pretrained_model()
    images = torch.rand(2, 3, 8, 16)
    output = ours.run(onnx.load(tmp_path / "x.onnx"), images)
    torch.testing.assert_close(torch.from_numpy(output), model.network.forward(images), rtol=0, atol=1e-5)
    status, _, stderr = here("export", "--onnx", "x.onnx")
    assert status == 1 and "x.onnx exists" in stderr


@pytest.mark.parametrize(
    "network",
    [
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False),
        nn.Conv2d(3, 6, 4, padding="same", groups=3),
        nn.TransposeConv2d(3, 6, (4, 3), stride=(3, 2), padding=1, output_padding=(2, 1), dilation=(1, 2)),
        nn.Sequential(nn.Concatenate(nn.Conv2d(3, 2, 1)), nn.Tanh(), nn.Skip(nn.Sigmoid()), nn.Identity()),
    ],
    ids=lambda network: type(network).__name__,
)
def test_rules_of_single_modules(network):
    pytest.importorskip("onnx")
    images = torch.rand(2, 3, 9, 7)
    output = torch.from_numpy(ours.run(ours.build(network.eval()), images))
    torch.testing.assert_close(output, network.forward(images), rtol=1e-5, atol=1e-6)


SIZES = [(4, 4), (4, 12), (8, 8), (20, 36)]  # of 4, 8 and 12 pixels a margin of 12 is mirrored to and fro


@pytest.mark.parametrize("network, size", [
    *((nn.Spectrum(), size) for size in SIZES),
    *((nn.MatchedSpectrum(), size) for size in SIZES),
    (nn.Spectrum(2), (1, 1)),
    (nn.MatchedSpectrum(2, reach=3, count=5), (1, 5)),
    (nn.MatchedSpectrum(6, reach=2, count=24), (9, 15)),
    (nn.Sequential(nn.Conv2d(3, 6, 1), nn.Correction(nn.Conv2d(15, 9, 1))), (5, 7)),
], ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value))  # fmt: skip
def test_rules_of_spectra(network, size):
    pytest.importorskip("onnx")
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))  # no two blocks differ equally
    output = torch.from_numpy(ours.run(ours.build(network.eval()), images))
    torch.testing.assert_close(output, network.forward(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids="{0[0]}x{0[1]}".format)
def test_a_small_network_for_cameras(size):
    pytest.importorskip("onnx")
    network = denoiser_camera.Denoiser(channels=6, blocks=1).eval()
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    output, expected = torch.from_numpy(ours.run(ours.build(network), images)), network.forward(images)
    assert (expected - images).abs().max() > 0.1
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)


def test_the_network_for_cameras_passes_the_check_of_export():
    pytest.importorskip("onnx")
    content, proof = export.in_onnx(denoiser_camera.Denoiser().eval())
    assert len(content) > 4 * 2_000_000 and "images 1 of 4 x 4, 2 of 16 x 8: " in proof


def test_a_module_without_rule_is_named():
    pytest.importorskip("onnx")
    with pytest.raises(NotImplementedError, match="Flatten"):
        ours.build(nn.Flatten())


@pytest.mark.parametrize("difference", [0.01, float("nan")])
def test_a_graph_that_differs_is_not_written(tmp_path, here, weights, monkeypatch, difference):
    pytest.importorskip("onnx")
    right = ours.run
    monkeypatch.setattr(ours, "run", lambda *arguments: right(*arguments) + difference)
    status, _, stderr = here("export", "--onnx", "x.onnx", "--weights", weights)
    assert status == 1 and "differs" in stderr and not (tmp_path / "x.onnx").exists()


def test_a_missing_onnx_is_one_sentence(here, weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    status, _, stderr = here("export", "--onnx", "x.onnx", "--weights", weights)
    assert status == 1 and 'pip install ".[export]" in the folder of the project' in stderr
    assert here("info", "--weights", "missing.pth")[0] == 1


@pytest.mark.parametrize("denoiser", ["prescribed", "rednet", "camera"])
def test_safetensors_hold_the_weights_bit_for_bit(tmp_path, here, denoiser):
    safetensors = pytest.importorskip("safetensors")
    status, stdout, stderr = here("export", "--safetensors", "x.safetensors", "--denoiser", denoiser)
    assert status == 0 and "bit for bit" in stdout, stderr
    model = Model(denoiser, device="cpu")
    model.load_pretrained_model()
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata()["denoiser"] == denoiser
        assert json.loads(file.metadata()["arguments"]) == json.loads(json.dumps(model.network.arguments))
        state = model.network.state_dict()
        assert set(file.keys()) == set(state)
        assert all(torch.equal(file.get_tensor(key), value) for key, value in state.items())


def test_one_of_the_formats_is_asked_for(here):
    status, _, stderr = here("export")
    assert status == 2 and "expected --onnx FILE or --safetensors FILE" in stderr


def test_a_missing_safetensors_is_one_sentence(tmp_path, here, weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    status, _, stderr = here("export", "--safetensors", "x.safetensors", "--onnx", "x.onnx", "--weights", weights)
    assert status == 1 and 'pip install ".[export]" in the folder of the project' in stderr
    assert not list(tmp_path.glob("x.*"))  # neither is written without the other
