"""Optimisers and schedules against torch.optim, step by step; refusals of torch's type."""

import copy
import itertools

import pytest
import torch
from comparison import close

from others import nn

STEPS = 25
SHAPES = [(3, 4), (5,), (2, 1, 3, 3), ()]


def parameters(dtype=torch.float64):
    """(torch's parameters, our pairs) with the same values."""
    theirs = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in SHAPES]
    return theirs, [(tensor.detach().clone(), torch.zeros_like(tensor)) for tensor in theirs]


def draw_gradients(theirs, pairs):
    for tensor, (_, gradient) in zip(theirs, pairs, strict=True):
        tensor.grad = torch.randn_like(tensor)
        gradient.copy_(tensor.grad)


def follow(ours, torchs, theirs, pairs, between=lambda: None):
    """The same random gradients for both, compared after every step."""
    for _ in range(STEPS):
        draw_gradients(theirs, pairs)
        ours.step(), torchs.step()
        for tensor, (parameter, _) in zip(theirs, pairs, strict=True):
            close(parameter, tensor.detach())
        between()


def options(**values):
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


SGD = [
    chosen
    for chosen in options(
        lr=[0.1, 1e-3],
        momentum=[0, 0.9],
        dampening=[0, 0.3],
        weight_decay=[0, 0.1],
        nesterov=[False, True],
        maximize=[False, True],
    )
    if not chosen["nesterov"] or (chosen["momentum"] and not chosen["dampening"])
]
ADAM = options(
    lr=[0.1, 1e-3],
    betas=[(0.9, 0.999), (0.5, 0.7)],
    eps=[1e-8, 1e-2],
    weight_decay=[0, 0.1],
    amsgrad=[False, True],
    maximize=[False, True],
)


@pytest.mark.parametrize("name, grid", [("SGD", [{}, *SGD]), ("Adam", [{}, *ADAM])], ids=["SGD", "Adam"])
def test_every_option_equals_torch(name, grid):
    for chosen in grid:
        theirs, pairs = parameters()
        follow(getattr(nn, name)(pairs, **chosen), getattr(torch.optim, name)(theirs, **chosen), theirs, pairs)


@pytest.mark.parametrize("name, chosen", [("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}), ("Adam", {})])
def test_float32_equals_torch(name, chosen):
    theirs, pairs = parameters(torch.float32)
    follow(getattr(nn, name)(pairs, **chosen), getattr(torch.optim, name)(theirs, **chosen), theirs, pairs)


MUON = options(
    lr=[0.1, 1e-3],
    weight_decay=[0, 0.1],
    momentum=[0, 0.8],
    nesterov=[False, True],
    ns_steps=[0, 5],
    adjust_lr_fn=[None, "original", "match_rms_adamw"],
)


@pytest.mark.parametrize("chosen", [{}, {"ns_coefficients": (2, -1.5, 0.5), "eps": 9.0}, *MUON], ids=str)
def test_muon_equals_torch_without_its_rounding(chosen, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # torch iterates in bf16: not so here
    theirs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(3, 4), (7, 2), (1, 5), (4, 4)]]
    pairs = [(tensor.detach().clone(), torch.zeros_like(tensor)) for tensor in theirs]
    follow(nn.Muon(pairs, **chosen), torch.optim.Muon(theirs, **chosen), theirs, pairs)


@pytest.mark.parametrize("shape", [(3, 4), (7, 2), (5,), (4, 2, 3, 3), (2, 1, 1, 1), (30, 6, 3, 3), ()])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_muon_takes_a_polynomial_of_the_singular_values(shape, dtype):
    """One step from zero, against the singular value decomposition in 64 bits; singular values over four decades."""
    matrix = torch.randn(shape, dtype=torch.float64).reshape(shape[0] if len(shape) > 1 else 1, -1)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    matrix = left * torch.logspace(0, -4, left.shape[1], dtype=torch.float64) @ right
    parameter, gradient = torch.zeros(shape, dtype=dtype), matrix.reshape(shape).to(dtype)
    left, values, right = torch.linalg.svd(gradient.double().reshape(matrix.shape), full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    expected = -0.5 * (0.2 * max(matrix.shape) ** 0.5) * (left * values @ right).reshape(shape)
    nn.Muon([(parameter, gradient)], lr=0.5, momentum=0, adjust_lr_fn="match_rms_adamw").step()
    error = {torch.float64: 1e-10, torch.float32: 1e-3, torch.bfloat16: 5e-3}[dtype]
    assert parameter.dtype == dtype and (parameter.double() - expected).norm() < error * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_muon_leaves_parameters_without_a_gradient(dtype):
    parameter = torch.randn(3, 4).to(dtype)
    before = parameter.clone()
    nn.Muon([(parameter, torch.zeros_like(parameter))], weight_decay=0).step()
    assert torch.equal(parameter, before)


@pytest.mark.parametrize("name, own", [("SGD", {"momentum": 0.9}), ("Adam", {"betas": (0.8, 0.9)})])
def test_parameter_groups_equal_torch(name, own):
    theirs, pairs = parameters()
    first, second = ([{"params": p[:2], "lr": 0.2}, {"params": p[2:], **own}] for p in (theirs, pairs))
    torchs, ours = getattr(torch.optim, name)(first, weight_decay=0.1), getattr(nn, name)(second, weight_decay=0.1)
    assert [group["lr"] for group in ours.param_groups] == [0.2, 1e-3]
    follow(ours, torchs, theirs, pairs)
    late, pair = torch.randn(3).double().requires_grad_(), (torch.zeros(3).double(), torch.zeros(3).double())
    pair[0].copy_(late.detach())
    torchs.add_param_group({"params": [late], "lr": 0.5}), ours.add_param_group({"params": [pair], "lr": 0.5})
    follow(ours, torchs, [*theirs, late], [*pairs, pair])


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("lr", [torch.tensor(0.01), torch.tensor([0.01])])
def test_tensor_rates(name, lr):
    theirs, pairs = parameters()
    ours = getattr(nn, name)(pairs, lr=lr)
    follow(ours, getattr(torch.optim, name)(theirs, lr=lr.item()), theirs, pairs)
    assert not any(parameter.requires_grad for parameter, _ in pairs)


def test_a_tensor_rate_can_be_changed_between_steps():
    lr, (theirs, pairs) = torch.tensor(0.01), parameters()
    ours, torchs = nn.SGD(pairs, lr=lr), torch.optim.SGD(theirs, lr=lr.item())

    def halve():
        lr.mul_(0.5)
        torchs.param_groups[0]["lr"] = lr.item()

    follow(ours, torchs, theirs, pairs, halve)


def test_a_module_its_pairs_and_groups_of_modules_are_taken():
    net, x = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Conv2d(3, 2, 1)), torch.randn(2, 2, 4, 4)
    net.backward(torch.randn_like(net.forward(x)))
    results = []
    for make in (lambda n: n, lambda n: n.param(), lambda n: [{"params": n[0]}, {"params": n[1].param()}]):
        twin = copy.deepcopy(net)
        nn.SGD(make(twin), lr=0.1).step()
        results.append(torch.cat([p.flatten() for p in twin.parameters()]))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert not torch.equal(results[0], torch.cat([p.flatten() for p in net.parameters()]))


def test_zero_grad_is_in_place():
    _, pairs = parameters()
    for _, gradient in pairs:
        gradient.fill_(3)
    nn.Adam(pairs).zero_grad()
    assert not any(gradient.any() for _, gradient in pairs)


@pytest.mark.parametrize("name, chosen", [("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {"amsgrad": True})])
def test_training_goes_on_from_a_saved_state(name, chosen):
    make = getattr(nn, name)
    theirs, pairs = parameters()
    follow(ours := make(pairs, **chosen), torchs := getattr(torch.optim, name)(theirs, **chosen), theirs, pairs)
    saved = copy.deepcopy(ours.state_dict())
    resumed = make(pairs, lr=7.0)
    resumed.load_state_dict(saved)
    kept = copy.deepcopy(saved)["param_groups"][0]["state"]
    follow(resumed, torchs, theirs, pairs)
    again = make(pairs, lr=7.0)
    again.load_state_dict(saved)  # the first resumption did not write into it
    assert [g["lr"] for g in again.param_groups] == [g["lr"] for g in ours.param_groups]
    for state, before in zip(again.state_dict()["param_groups"][0]["state"], kept, strict=True):
        assert all(torch.equal(torch.as_tensor(state[k]), torch.as_tensor(before[k])) for k in before)


def test_muon_goes_on_from_a_saved_state():
    net = nn.Conv2d(2, 3, 2)
    whole, parts = copy.deepcopy(net), copy.deepcopy(net)
    first, second = nn.Muon(whole), nn.Muon(parts)
    for _ in range(6):
        state = second.state_dict()
        second = nn.Muon(parts, lr=7.0)
        second.load_state_dict(state)
        for (_, gradient), (_, twin) in zip(whole.param(), parts.param(), strict=True):
            twin.copy_(gradient.copy_(torch.randn_like(gradient)))
        first.step(), second.step()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    assert not torch.equal(whole.weight, net.weight)


def test_a_state_for_other_parameters_is_refused():
    _, pairs = parameters()
    with pytest.raises(ValueError, match="SGD"):
        nn.SGD(pairs[:2]).load_state_dict(nn.SGD(pairs).state_dict())


# ------------------------------------------------------------------------------------------------------------ refusals


def both(name, theirs, pairs, **chosen):
    for make, params in ((getattr(torch.optim, name), theirs), (getattr(nn, name), pairs)):
        yield lambda make=make, params=params: make(params, **chosen)


@pytest.mark.parametrize(
    "name, chosen",
    [
        ("SGD", {"lr": -1e-3}),
        ("SGD", {"momentum": -0.5}),
        ("SGD", {"weight_decay": -1}),
        ("SGD", {"nesterov": True}),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
        ("SGD", {"lr": torch.tensor([0.1, 0.2])}),
        ("Adam", {"lr": -1}),
        ("Adam", {"eps": -1e-8}),
        ("Adam", {"betas": (1.0, 0.9)}),
        ("Adam", {"betas": (0.9, -0.1)}),
        ("Adam", {"betas": (0.9, torch.tensor(0.9))}),
        ("Adam", {"weight_decay": -0.1}),
        ("Adam", {"lr": float("nan")}),
        ("Muon", {"lr": -1}),
        ("Muon", {"momentum": -0.1}),
        ("Muon", {"weight_decay": -0.1}),
        ("Muon", {"adjust_lr_fn": "adam"}),
        ("Muon", {"lr": torch.tensor([0.1, 0.2])}),
    ],
    ids=str,
)
def test_options_that_torch_refuses(name, chosen):
    for make in both(name, *parameters(), **chosen):
        with pytest.raises(ValueError):
            make()


@pytest.mark.parametrize("chosen", [{"ns_coefficients": (1, 2)}, {"ns_steps": 100}, {"ns_steps": -1}], ids=str)
def test_options_that_torchs_muon_refuses_or_would_have_to(chosen):
    with pytest.raises(ValueError, match=next(iter(chosen))):
        nn.Muon(parameters()[1], **chosen)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_parameters_that_torch_refuses(name):
    (one, *_), (pair, *_) = parameters()
    for theirs, ours, error in (
        ([], [], ValueError),
        (one, pair[0], TypeError),
        ([3.0], [3.0], TypeError),
        ([{"params": [one]}, {"params": [one]}], [{"params": [pair]}, {"params": [pair]}], ValueError),
    ):
        for make in both(name, theirs, ours):
            with pytest.raises(error):
                make()
    for make in both(name, [one, one], [pair, pair]):
        with pytest.warns(UserWarning, match="duplicate"):
            make()


def test_parameters_without_gradients_are_refused_with_a_hint():
    net = nn.Conv2d(1, 1, 1)
    for strangers in (list(net.parameters()), net.named_parameters()):
        with pytest.raises(TypeError, match=r"param\(\)"):
            nn.SGD(strangers, lr=0.1)


def test_a_refused_group_is_not_added():
    _, pairs = parameters()
    optimiser = nn.SGD(pairs[:2])
    for group in ({"params": pairs[:1]}, {"params": pairs[2:], "lr": -1}, {"params": [3]}):
        with pytest.raises((ValueError, TypeError)):
            optimiser.add_param_group(group)
    assert len(optimiser.param_groups) == 1


# ----------------------------------------------------------------------------------------------------------- schedules


def schedules(name, steps, *args, **chosen):
    """Rates of two groups over `steps` steps: (ours, torch's)."""
    histories = []
    for optim, scheduler, params in (
        (nn.SGD, getattr(nn, name), parameters()[1]),
        (torch.optim.SGD, getattr(torch.optim.lr_scheduler, name), parameters()[0]),
    ):
        optimiser = optim([{"params": params[:1]}, {"params": params[1:], "lr": 0.03}], lr=0.5, momentum=0.9)
        extra = {"cycle_momentum": False} if name == "OneCycleLR" and optim is torch.optim.SGD else {}
        schedule, history = scheduler(optimiser, *args, **chosen, **extra), []
        for _ in range(steps):
            history.append([group["lr"] for group in optimiser.param_groups])
            assert schedule.get_last_lr() == history[-1]
            optimiser.step()
            schedule.step()
        histories.append(torch.tensor(history))
    return histories


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize(
    "name, steps, args, chosen",
    [
        ("StepLR", 25, (7,), {}),
        ("StepLR", 25, (1,), {"gamma": 0.9}),
        ("CosineAnnealingLR", 25, (10,), {}),
        ("CosineAnnealingLR", 25, (24, 0.01), {}),
        ("OneCycleLR", 25, (2.0, 25), {}),
        ("OneCycleLR", 25, (2.0, 40), {"pct_start": 0.1, "div_factor": 10, "final_div_factor": 100}),
        ("OneCycleLR", 3, (2.0, 3), {"pct_start": 0.1}),
        ("OneCycleLR", 10, (0.7, 10), {"pct_start": 0.5}),
    ],
    ids=str,
)
def test_schedules_equal_torch(name, steps, args, chosen):
    ours, theirs = schedules(name, steps, *args, **chosen)
    close(ours, theirs)
    assert len(set(ours[:, 0].tolist())) > 2


def test_a_schedule_changes_the_updates():
    theirs, pairs = parameters()
    ours, torchs = nn.SGD(pairs, lr=1.0, momentum=0.9), torch.optim.SGD(theirs, lr=1.0, momentum=0.9)
    mine, other = nn.StepLR(ours, 4, 0.5), torch.optim.lr_scheduler.StepLR(torchs, 4, 0.5)
    follow(ours, torchs, theirs, pairs, lambda: (mine.step(), other.step()))


def test_one_cycle_ends_after_total_steps():
    """A loop of total_steps steps, one of the schedule in each, as in torch's documentation; one more is refused."""
    for optim, scheduler, params in (
        (nn.SGD, nn.OneCycleLR, parameters()[1]),
        (torch.optim.SGD, torch.optim.lr_scheduler.OneCycleLR, parameters()[0]),
    ):
        optimiser = optim(params, lr=0.1, momentum=0.9)
        schedule = scheduler(optimiser, max_lr=1.0, total_steps=5)
        for _ in range(5):
            optimiser.step()
            schedule.step()
        with pytest.raises(ValueError):
            schedule.step()


@pytest.mark.parametrize("total, pct", [(10, 0.1), (1, 1.0), (1, 0.3), (2, 0.5), (4, 1.0), (5, 0.0)])
def test_one_cycle_with_phases_of_no_length(total, pct):
    """Where torch divides by zero: a warm-up of one step, or no descent."""
    schedule = nn.OneCycleLR(nn.SGD(parameters()[1]), 1.0, total, pct_start=pct)
    for _ in range(total):
        assert all(0 < rate <= 1 for rate in schedule.get_last_lr())
        schedule.step()


@pytest.mark.parametrize("total, chosen", [(0, {}), (5, {"pct_start": 1.5}), (5, {"pct_start": -0.1})])
def test_one_cycle_refusals(total, chosen):
    for optim, scheduler, params in (
        (nn.SGD, nn.OneCycleLR, parameters()[1]),
        (torch.optim.SGD, torch.optim.lr_scheduler.OneCycleLR, parameters()[0]),
    ):
        with pytest.raises(ValueError):
            scheduler(optim(params, momentum=0.9), 1.0, total, **chosen)


def test_a_schedule_goes_on_from_a_saved_state():
    first, second = (nn.CosineAnnealingLR(nn.SGD(parameters()[1], lr=0.4), 20) for _ in range(2))
    for _ in range(7):
        first.step()
    second.load_state_dict(first.state_dict())
    assert second.get_last_lr() == first.get_last_lr()
    first.step(), second.step()
    assert second.get_last_lr() == first.get_last_lr()
