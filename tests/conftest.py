"""What several test files share. HYPOTHESIS_PROFILE chooses 'ci' (default: few examples, the same ones every time) or
'nightly' (HYPOTHESIS_EXAMPLES, 10,000 if not set, new ones every time). RELIABILITY names a file: tests then try full
counts and write them down."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from hypothesis import settings

from others import denoiser, denoiser_bonus, denoiser_camera

settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", 10_000)), deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

#: Files whose set-up takes seconds: with `-n` one process runs all of such a file.
TOGETHER = ("test_experiments.py", "test_conformance.py", "test_packaging.py", "test_any_input.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Every other test goes to the next process that is free."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            return file if file.endswith(TOGETHER) else nodeid

    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The tensors of the tests are small: a second thread only waits. So it is in the processes that they start."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A shell's background processes ignore SIGINT, and so would those that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def small(monkeypatch):
    """Makes Model() build tiny networks, which train in milliseconds."""
    monkeypatch.setattr(denoiser.Denoiser.__init__, "__defaults__", ((8, 12), (3, 3)))
    monkeypatch.setattr(denoiser_bonus.Denoiser.__init__, "__defaults__", (((8, 3, 1), (12, 3, 2)),))
    monkeypatch.setattr(denoiser_camera.Denoiser.__init__, "__defaults__", (8, 1))


@pytest.fixture
def pixels():
    """pixels(N, 3, H, W, seed=0): random uint8 images."""

    def make(*shape, seed=0):
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of one megabyte of its own, which really is full when it is."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def run_python():
    """run_python(script, cwd, *arguments): its output, from a fresh interpreter that knows nothing of this project."""

    def run(script, cwd, *arguments):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", script, *map(str, arguments)]
        patience = None if "RELIABILITY" in os.environ else 300
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=patience)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def count(request):
    """count("bits flipped", 50, 2000): how often to try; the second number with RELIABILITY set, where what was tried
    is written down when the test passes."""
    asked = {}

    def choose(what, few, many):
        asked[what] = many if "RELIABILITY" in os.environ else few
        return asked[what]

    yield choose
    if "RELIABILITY" in os.environ and request.node.passed:
        with open(os.environ["RELIABILITY"], "a") as file:
            for what, number in asked.items():
                file.write(json.dumps([request.node.nodeid, what, number]) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.passed = report.passed
    return report
