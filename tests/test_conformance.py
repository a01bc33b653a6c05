"""A representative part of `make conformance`, the published file, and a torch script with the import changed."""

import re

import pytest
import torch
from comparison import TOLERANCES

from benchmarks import conformance
from others import nn

FILE = conformance.ROOT / "docs/results/conformance.md"
SOURCES = ("module_db", "op_db", "common_nn", "optim_db")


@pytest.fixture(scope="module")
def cases():
    try:
        return list(conformance.all_cases())
    except ImportError as error:
        pytest.skip(f"torch's internal test modules cannot be imported here: {error}")


def representative(cases, source):
    """Everything but for max_pool2d, of whose 2880 samples every 30th."""
    chosen = [case for case in cases if case.source == source and not case.reason]
    pooling = [case for case in chosen if "max_pool2d float" in case.name]
    return [case for case in chosen if case not in pooling] + pooling[::30]


@pytest.mark.parametrize("source", SOURCES)
def test_torchs_own_inputs(cases, source):
    chosen = representative(cases, source)
    assert len(chosen) > 30
    failed = [result for result in map(conformance.attempt, chosen) if result.failure]
    assert not failed, "\n".join(f"{case.block} {case.name}: {failure}" for case, failure in failed)


def test_every_case_in_scope_of_the_published_number_is_counted(cases):
    """The published file is not older than the code: for the same torch it has as many cases, and no failure."""
    passed, tried = map(int, re.search(r"(\d+) of (\d+) cases in scope pass", FILE.read_text()).groups())
    assert passed == tried
    if f"torch {torch.__version__.split('+')[0]}" in FILE.read_text():
        assert tried == sum(not case.reason for case in cases)


@pytest.mark.parametrize(
    "owner, method, wrong, source, block",
    [
        (nn.ReLU, "backward", lambda self, g: g * 1.0, "module_db", "ReLU"),
        (nn.Conv2d, "add_gradients", lambda self, weight, g: self.weight_grad.add_(weight), "op_db", "Conv2d"),
        (nn.MSELoss, "slope", lambda self, difference: difference, "common_nn", "MSELoss"),
        (nn.SGD, "update", lambda self, p, g, state, group: p.sub_(g * 0.1), "optim_db", "SGD"),
        (nn.optim.Optimizer, "check_duplicates", lambda self, pairs: None, "optim_db", "Adam"),
        (nn.losses.Loss, "save", lambda self, *values: setattr(self, "saved", values), "module_db", "L1Loss"),
    ],
)
def test_a_wrong_block_is_found(cases, monkeypatch, owner, method, wrong, source, block):
    monkeypatch.setattr(owner, method, wrong)
    chosen = [case for case in representative(cases, source) if case.block == block]
    results = [conformance.attempt(case) for case in chosen]
    assert any(result.failure for result in results)
    assert "## Failed" in conformance.report(results)


def test_names_out_of_scope_are_listed_in_runs():
    assert conformance.joined(["a 0", "a 1", "a 2", "b", "c d 4", "a 4"]) == ["a 0 .. 2", "b", "c d 4", "a 4"]


def script(nn, optimiser, learn, data):
    """A short torch training script: `nn` and `optimiser` come from either side -> (network, losses)."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.LeakyReLU(0.1),
        nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1),
        nn.ELU(),
        nn.Upsample(scale_factor=2),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 3, 3, padding="same", padding_mode="reflect"),
        nn.Sigmoid(),
    )
    criterion, losses = nn.MSELoss(), []
    optimizer = optimiser(net)
    for input, target in data:
        optimizer.zero_grad()
        output = net(input)
        loss = criterion(output, target)
        learn(net, criterion, loss)
        optimizer.step()
        losses.append(loss.item())
    return net, losses


def test_a_training_script_with_the_import_changed_gives_the_same_losses():
    data = [(image, image.square()) for image in torch.rand(50, 4, 3, 12, 10)]
    torch.manual_seed(3)
    theirs, expected = script(
        torch.nn,
        lambda net: torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9, nesterov=True),
        lambda net, criterion, loss: loss.backward(),
        data,
    )
    torch.manual_seed(3)
    ours, losses = script(
        nn,
        lambda net: nn.SGD(net.parameters(), lr=0.5, momentum=0.9, nesterov=True),
        lambda net, criterion, loss: net.backward(criterion.backward()),
        data,
    )
    assert losses == pytest.approx(expected, abs=1e-5)
    assert losses[-1] < losses[0]
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], **TOLERANCES[torch.float32])
