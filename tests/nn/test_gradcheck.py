"""The gradient checker: it passes what is right, finds what is wrong, and leaves no trace."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch

from others import nn
from others.nn.gradcheck import __main__ as table
from others.nn.gradcheck import central_difference, noise


def test_all_blocks_are_in_the_table():
    exported = [getattr(nn, name) for name in nn.__all__]
    kinds = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, nn.Module)} - {nn.Module}
    assert kinds <= {type(module) for module, *_ in table.blocks()}


@pytest.mark.parametrize("block", list(table.blocks()), ids=lambda block: block[0].name())
def test_all_blocks_are_right(block):
    module, *inputs = block
    assert table.largest_error(module, *inputs) < 1e-6


def test_one_number_for_each_input_and_parameter():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 4, 2, bias=False))
    checks = nn.gradcheck(net, torch.randn(2, 3, 5, 4))
    assert [check.name for check in checks] == ["input 0", "0.weight", "0.bias", "1.weight"]
    assert all(abs(check.analytic) > 1e-3 for check in checks)
    assert [check.name for check in nn.gradcheck(nn.Add(), torch.randn(2, 3), torch.randn(2, 3))] == [
        "input 0",
        "input 1",
    ]


def test_the_numbers_are_those_of_torch():
    conv, x = nn.Conv2d(3, 2, 2, dtype=torch.float64), torch.randn(2, 3, 5, 4, dtype=torch.float64)
    random = Random(5)
    upstream = noise(conv(x), random)
    for _, gradient in conv.param():
        noise(gradient, random)
    directions = [noise(tensor, random) for tensor in (x.requires_grad_(), conv.weight, conv.bias)]
    tensors = (x, conv.weight.requires_grad_(), conv.bias.requires_grad_())
    gradients = torch.autograd.grad(torch.nn.functional.conv2d(*tensors), tensors, upstream)
    for check, gradient, direction in zip(nn.gradcheck(conv, x, seed=5), gradients, directions, strict=True):
        assert check.analytic == pytest.approx((gradient * direction).sum().item(), rel=1e-9)


def test_differences_are_of_fourth_order(monkeypatch):
    """On a quartic their error is of rounding alone, however long the step; (f(h) - f(-h)) / 2h would give 4.04."""
    monkeypatch.setitem(central_difference.__globals__, "STEP", 0.1)
    point = torch.ones((), dtype=torch.float64)
    slope = central_difference(lambda: point**4, point, torch.ones_like(point))
    assert slope.item() == pytest.approx(4, abs=1e-12)
    assert point == 1


def test_slopes_that_nearly_cancel_are_compared_as_exactly():
    """A Tanh between convolutions, slope -0.0146 in steps of length 13: differences of second order were 4e-6 off."""
    torch.manual_seed(2)
    block = next(block for block in table.blocks() if isinstance(block[0], nn.Sequential))
    assert table.largest_error(*block) < 1e-7


# ------------------------------------------------------------------------------------------------------- mistakes


class Wrong(nn.Linear):
    """A Linear with a mistake."""

    def __init__(self, mistake):
        super().__init__(4, 3)
        self.mistake = mistake

    def backward(self, grad_output):
        grad_input = super().backward(grad_output)
        return grad_input * (1 + 1e-4) if self.mistake == "input" else grad_input

    def accumulate(self, grad_output):
        if self.mistake == "overwritten":
            self.zero_grad()
        super().accumulate(grad_output)
        if self.mistake == "bias":
            self.bias_grad.sub_(grad_output.sum(0) / 2)
        if self.mistake == "sign":
            self.weight_grad.mul_(-1)


@pytest.mark.parametrize(
    "mistake, names", [("input", "input 0"), ("bias", "bias"), ("sign", "weight"), ("overwritten", "weight")]
)
def test_mistakes_are_found_and_named(mistake, names):
    nn.gradcheck(Wrong(None), torch.randn(2, 4), seed=12)
    with pytest.raises(AssertionError, match=rf"Wrong.*seed 12:\s+gradient of {names}: backward gives") as failure:
        nn.gradcheck(Wrong(mistake), torch.randn(2, 4), seed=12)
    message = str(failure.value)
    assert ("gradient of weight" in message) == (mistake in ("sign", "overwritten"))
    assert ("gradient of input" in message) == (mistake == "input")


def test_both_numbers_are_shown():
    class Half(nn.Identity):
        def backward(self, grad_output):
            return grad_output / 2

    with pytest.raises(AssertionError) as failure:
        nn.gradcheck(Half(), torch.randn(2, 3))
    words = str(failure.value).replace(",", "").split()
    analytic, numeric = float(words[words.index("gives") + 1]), float(words[words.index("differences") + 1])
    assert analytic == pytest.approx(numeric / 2, rel=1e-6)


def test_a_gradient_of_a_wrong_shape_is_found():
    class Summed(nn.Identity):
        def backward(self, grad_output):
            return grad_output.sum(0, keepdim=True)

    with pytest.raises(AssertionError, match="input 0"):
        nn.gradcheck(Summed(), torch.randn(2, 3))


def test_not_a_number_is_wrong():
    class Undefined(nn.Identity):
        def backward(self, grad_output):
            return grad_output * float("nan")

    with pytest.raises(AssertionError, match="nan"):
        nn.gradcheck(Undefined(), torch.randn(2, 3))


def test_a_gradient_that_is_missing_is_an_error():
    class First(nn.Add):
        def backward(self, grad_output):
            return grad_output

    with pytest.raises(RuntimeError, match="no gradient for input 1"):
        nn.gradcheck(First(), torch.randn(2, 3), torch.randn(2, 3))


def test_a_module_that_draws_anew_is_refused():
    class Noisy(nn.Identity):
        def forward(self, input):
            return super().forward(input) + torch.rand(input.shape)

    with pytest.raises(ValueError, match="expected the same output for the same input, got another"):
        nn.gradcheck(Noisy(), torch.randn(2, 3))


# ---------------------------------------------------------------------------------------------------- no trace


def test_nothing_is_changed():
    net, x = nn.Sequential(nn.Conv2d(3, 2, 2), nn.ReLU(inplace=True)), torch.randn(2, 3, 5, 4)
    net(x)
    net.backward(torch.randn(2, 2, 4, 3))
    net.eval()
    before = [tensor.clone() for tensor in (x, *net.parameters(), *(gradient for _, gradient in net.param()))]
    state = torch.get_rng_state()
    nn.gradcheck(net, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training or module.saved for module in net.modules())
    after = [x, *net.parameters(), *(gradient for _, gradient in net.param())]
    assert all(map(torch.equal, before, after))
    assert {tensor.dtype for tensor in after} == {torch.float32}
    net = net.train()
    net(x.clone())
    saved = net.saved
    nn.gradcheck(net, x)
    assert net.saved is saved


def test_in_place_modules_and_losses():
    nn.gradcheck(nn.Sequential(nn.ReLU(inplace=True)), torch.randn(2, 3))
    nn.gradcheck(nn.ELU(inplace=True), torch.randn(2, 3))
    (check,) = nn.gradcheck(nn.MSE(), torch.randn(2, 3), target=torch.randn(2, 3))
    assert check.name == "input 0"


def test_the_same_seed_gives_the_same_numbers():
    net, x = nn.Conv2d(3, 2, 2), torch.randn(2, 3, 5, 4)
    assert nn.gradcheck(net, x, seed=1) == nn.gradcheck(net, x, seed=1) != nn.gradcheck(net, x, seed=2)


# ---------------------------------------------------------------------------------------------------- command line


def test_the_command_prints_one_line_for_each_block():
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-m", "others.nn.gradcheck"], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stderr == ""
    assert len(run.stdout.splitlines()) == len(list(table.blocks()))


def test_the_command_counts_failures(monkeypatch, capsys):
    monkeypatch.setattr(table, "blocks", lambda: [(Wrong("sign"), table.image(2, 4)), (nn.ReLU(), table.image(2, 4))])
    assert table.main() == 1
    assert "WRONG" in capsys.readouterr().out
