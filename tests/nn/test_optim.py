"""Optimisers and schedules against torch.optim, step by step; refusals of torch's type."""

import copy
import itertools

import pytest
import torch
from comparison import close
from hypothesis import given
from hypothesis import strategies as st

from others import nn
from others.nn.optim import orthogonal

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


DIRECT = (3.4445, -4.7750, 2.0315)  # Muon's default coefficients


def directly(matrix, coefficients, steps):
    """Newton and Schulz's iteration in 64 bits, as it is written down."""
    matrix = matrix.double() / matrix.double().norm().clamp(min=1e-7)
    for _ in range(steps):
        square = matrix @ matrix.T
        matrix = coefficients[0] * matrix + (coefficients[1] * square + coefficients[2] * square @ square) @ matrix
    return matrix


@pytest.mark.parametrize("rank", [0, 1, 2, 8, 30])
@pytest.mark.parametrize("shape", [(64, 64), (30, 200), (130, 40)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_muon_stays_finite_for_every_rank_and_number_of_steps(shape, rank, dtype):
    """Singular values stay below the largest that the polynomial gives, 1.21; those that are 0 come from rounding."""
    for steps, scale in itertools.product([0, 4, 5, 6, 9, 10, 11, 16, 33, 99], [1, 1e-12, 1e12]):
        gradient = scale * torch.randn(shape[0], rank, dtype=dtype) @ torch.randn(rank, shape[1], dtype=dtype)
        result = orthogonal(gradient, DIRECT, steps, 1e-7)
        assert result.isfinite().all()
        assert torch.linalg.matrix_norm(result.double(), 2) < 1.25
        assert rank or not result.any()


@pytest.mark.parametrize("steps", [5, 6, 10, 17])
@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (12, 12)], ids=str)
def test_muon_equals_the_iteration_as_it_is_written(shape, steps):
    gradient = torch.randn(shape, dtype=torch.float64)
    close(orthogonal(gradient, DIRECT, steps, 1e-7), directly(gradient, DIRECT, steps), msg=str)


@pytest.mark.parametrize("dtype, error", [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (30, 25), (1, 9)], ids=str)
def test_muon_with_converging_coefficients_gives_the_polar_factor(shape, dtype, error):
    """15/8, -10/8, 3/8 have 1 for a fixed point: what is left of U S V^T is U V^T."""
    gradient = torch.randn(shape, dtype=dtype)
    left, _, right = torch.linalg.svd(gradient.double(), full_matrices=False)
    result = orthogonal(gradient, (1.875, -1.25, 0.375), 60, 1e-7)
    assert (result.double() - left @ right).abs().max() < error


@pytest.mark.parametrize("batch, size", [(1, 64), (8, 256)])
def test_muon_trains_on_gradients_of_low_rank(batch, size):
    """The gradient of a Linear has at most the rank of its batch."""
    net = nn.Linear(size, size)
    optimiser = nn.Muon(net, lr=0.01, ns_steps=10)
    for _ in range(3):
        net.zero_grad()
        net.backward(torch.randn_like(net.forward(torch.randn(batch, size))))
        optimiser.step()
    assert all(parameter.isfinite().all() and parameter.abs().max() < 1 for parameter in net.parameters())


@pytest.mark.parametrize("eps", [0.0, 1e-50])
def test_muon_leaves_zeros_with_any_eps(eps):
    parameter = torch.ones(3, 4)
    nn.Muon([(parameter, torch.zeros(3, 4))], weight_decay=0, eps=eps, ns_steps=10).step()
    assert torch.equal(parameter, torch.ones(3, 4))


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


ALL = [("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {"amsgrad": True}), ("Muon", {"lr": 0.1})]


@pytest.mark.parametrize("saved, wanted", [(torch.float32, torch.float64), (torch.float64, torch.float32),
                                           (torch.float32, torch.bfloat16)], ids=str)  # fmt: skip
@pytest.mark.parametrize("name, chosen", ALL)
def test_a_state_of_another_dtype_gets_that_of_the_parameters(name, chosen, saved, wanted):
    """As torch does; steps are counted on, and the parameters follow torch's."""
    theirs, pairs = parameters(saved)
    first, torchs = getattr(nn, name)(pairs, **chosen), None
    draw_gradients(theirs, pairs)
    first.step()
    state = first.state_dict()
    others = [(parameter.to(wanted), gradient.to(wanted)) for parameter, gradient in pairs]
    second = getattr(nn, name)(others, **chosen)
    second.load_state_dict(state)
    for old, new in zip(*(o.state_dict()["param_groups"][0]["state"] for o in (first, second)), strict=True):
        assert old.keys() == new.keys()
        for key, value in old.items():
            if torch.is_tensor(value):
                assert value.dtype == saved and torch.equal(new[key], value.to(wanted)) and new[key].dtype == wanted
            else:
                assert new[key] == value == 1
    if name != "Muon" and wanted == torch.float64:
        torchs = getattr(torch.optim, name)(theirs, **chosen)
        torchs.step()
        leaves = [parameter.clone().requires_grad_() for parameter, _ in others]
        resumed = getattr(torch.optim, name)(leaves, **chosen)
        resumed.load_state_dict(torchs.state_dict())
        for leaf, pair in zip(leaves, others, strict=True):
            leaf.data.copy_(pair[0])
        follow(second, resumed, leaves, others)
    second.step()
    assert all(parameter.isfinite().all() and parameter.dtype == wanted for parameter, _ in others)


@pytest.mark.parametrize("name, chosen", ALL)
def test_a_state_of_another_device_gets_that_of_the_parameters(name, chosen):
    """A device without memory serves: what is mixed with the CPU is an error there, too."""
    theirs, pairs = parameters(torch.float32)
    first = getattr(nn, name)(pairs, **chosen)
    draw_gradients(theirs, pairs)
    first.step()
    elsewhere = [(parameter.to("meta"), gradient.to("meta")) for parameter, gradient in pairs]
    second = getattr(nn, name)(elsewhere, **chosen)
    second.load_state_dict(first.state_dict())
    states = second.state_dict()["param_groups"][0]["state"]
    assert {value.device.type for state in states for value in state.values() if torch.is_tensor(value)} == {"meta"}
    second.step()


@pytest.mark.parametrize("name, chosen", ALL)
@pytest.mark.parametrize("other", ["SGD", "Adam", "Muon"])
def test_the_state_of_another_optimiser_is_refused(name, chosen, other):
    _, pairs = parameters()
    optimiser, stranger = getattr(nn, name)(pairs, **chosen), getattr(nn, other)(pairs, lr=7.0)
    stranger.step()
    before = copy.deepcopy(optimiser.state_dict())
    if name == other:
        optimiser.load_state_dict(stranger.state_dict())
        assert optimiser.param_groups[0]["lr"] == 7.0
        return
    with pytest.raises(ValueError, match=rf"{name}: load_state_dict: this is the state of another optimiser, without"):
        optimiser.load_state_dict(stranger.state_dict())
    assert optimiser.state_dict() == before


def test_what_is_no_state_is_refused():
    theirs, pairs = parameters()
    optimiser = nn.SGD(pairs, momentum=0.9)
    optimiser.step()
    good = optimiser.state_dict()
    for bad in (None, [], {}, {"param_groups": 3}, {"param_groups": [1]}, torch.optim.SGD(theirs).state_dict()):
        with pytest.raises(ValueError, match=r"SGD: load_state_dict: expected what state_dict\(\) of an optimiser"):
            optimiser.load_state_dict(bad)
    wrong = copy.deepcopy(good)
    wrong["param_groups"][0]["state"][0]["velocity"] = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"the state of a parameter \(3, 4\) has shape \(4, 3\)"):
        optimiser.load_state_dict(wrong)


def test_a_loaded_rate_is_not_shared():
    _, pairs = parameters()
    optimisers = [nn.SGD(pairs, lr=torch.tensor(0.1)) for _ in range(2)]
    optimisers[1].load_state_dict(optimisers[0].state_dict())
    optimisers[0].param_groups[0]["lr"].fill_(3)
    assert optimisers[1].param_groups[0]["lr"] == torch.tensor(0.1)


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


def network(space=nn):
    conv = "TransposeConv2d" if space is nn else "ConvTranspose2d"
    return space.Sequential(space.Conv2d(2, 3, 2, stride=2), space.ReLU(), getattr(space, conv)(3, 2, 3))


@pytest.mark.parametrize("name, chosen", [("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {})])
@pytest.mark.parametrize("given", [list, iter, lambda p: [{"params": p[:2]}, {"params": p[2:], "lr": 0.02}]],
                         ids=["list", "iterator", "groups"])  # fmt: skip
def test_a_list_of_tensors_is_taken_with_their_grad(name, chosen, given):
    ours, theirs = network(), network(torch.nn)
    ours.load_state_dict(theirs.state_dict())
    optimiser = getattr(nn, name)(given(list(ours.parameters())), **chosen)
    torchs = getattr(torch.optim, name)(given(list(theirs.parameters())), **chosen)
    for _ in range(4):
        x = torch.randn(2, 2, 6, 5)
        expected = theirs(x)
        g = torch.randn_like(expected)
        optimiser.zero_grad(), torchs.zero_grad()
        expected.backward(g), ours.forward(x)
        ours.backward(g)
        optimiser.step(), torchs.step()
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            close(mine, other.detach())


def test_our_optimisers_update_torchs_parameters():
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    ours.load_state_dict(theirs.state_dict())
    optimisers = nn.SGD(ours.parameters(), 0.1), torch.optim.SGD(theirs.parameters(), 0.1)
    x = torch.randn(4, 3)
    for net, optimiser in zip((ours, theirs), optimisers, strict=True):
        net(x).square().sum().backward()
        optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("name", ["SGD", "Adam", "Muon"])
def test_tensors_without_a_gradient_are_named_before_anything_changes(name):
    net = network()
    optimiser = getattr(nn, name)(list(net.parameters()), lr=0.1)
    optimiser.zero_grad()
    with pytest.raises(RuntimeError, match=rf"{name}\.step: grad is None for 4 of 4 tensors, first .* param\(\)"):
        optimiser.step()
    net[0].forward(torch.randn(1, 2, 4, 4))
    net[0].backward(torch.randn(1, 3, 2, 2))
    before = [parameter.clone() for parameter in net.parameters()]
    with pytest.raises(RuntimeError, match=r"grad is None for 2 of 4 tensors, first for one of shape \(3, 2, 3, 3\)"):
        optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("name", ["SGD", "Adam", "Muon"])
def test_parameters_that_make_no_sense(name):
    net, make = nn.Conv2d(1, 1, 1), getattr(nn, name)
    pair = torch.zeros(2), torch.zeros(2)
    for params in (net.named_parameters(), [net.weight, 3], [{"weight": net.weight}], [(net.weight,) * 3],
                   set(net.parameters()), None, 5, [{"params": [pair]}, net.weight]):  # fmt: skip
        with pytest.raises(TypeError, match=rf"{name}: expected a (module|parameter group)"):
            make(params, lr=0.1)
    with pytest.raises(ValueError, match=r"expected a gradient \(3, 1\) as the parameter, got \(3,\)"):
        make([(torch.zeros(3, 1), torch.zeros(3))], lr=0.1)


WAYS = ["foreach", "fused", "differentiable", "capturable"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["SGD", "Adam", "Muon"])
def test_ways_to_compute_a_step_are_taken_where_they_ask_for_nothing(name, way):
    _, pairs = parameters()
    make = getattr(nn, name)
    for value in (None, False):
        optimiser = make(pairs, lr=0.1, **{way: value})
        assert way not in optimiser.param_groups[0] and not optimiser.step()
        make([{"params": pairs, way: value}])
    for build in (lambda: make(pairs, lr=0.1, **{way: True}), lambda: make([{"params": pairs, way: True}])):
        with pytest.raises(NotImplementedError, match=rf"{name}: {way}=True is not supported.*leave {way} out"):
            build()
    with pytest.raises(TypeError, match=rf"{name}: unexpected option momentun"):
        make(pairs, momentun=0.9)


NUMBERS = {"SGD": ["lr", "momentum", "dampening", "weight_decay"], "Adam": ["lr", "eps", "weight_decay"],
           "Muon": ["lr", "weight_decay", "momentum", "eps"]}  # fmt: skip


@pytest.mark.parametrize("name, option", [(name, option) for name, options in NUMBERS.items() for option in options])
def test_options_that_are_no_numbers(name, option):
    _, pairs = parameters()
    for value in ("0.1", None, 1j, [0.1]):
        with pytest.raises(TypeError, match=rf"{name}: expected {option} to be a number, got"):
            getattr(nn, name)(pairs, **{option: value})
    with pytest.raises(ValueError, match=rf"{name}: expected {option} >= .*, got nan"):
        getattr(nn, name)(pairs, **{option: float("nan")})
    with pytest.raises(ValueError, match=rf"{name}: expected {option} to be a number, a tensor must have 1 element"):
        getattr(nn, name)(pairs, **{option: torch.ones(2)})


@pytest.mark.parametrize(
    "name, chosen",
    [
        ("Adam", {"betas": 0.9}),
        ("Adam", {"betas": (0.9,)}),
        ("Adam", {"betas": None}),
        ("Muon", {"ns_steps": 5.0}),
        ("Muon", {"ns_steps": "5"}),
        ("Muon", {"ns_coefficients": 3}),
        ("Muon", {"ns_coefficients": (1, 2, float("nan"))}),
    ],
    ids=str,
)
def test_options_of_the_wrong_kind(name, chosen):
    with pytest.raises(ValueError, match=rf"{name}: expected .*{next(iter(chosen))}"):
        getattr(nn, name)(parameters()[1], **chosen)


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


def both_optimisers(lr=0.5):
    """(ours, torch's, two groups each)."""
    theirs, pairs = parameters()
    return [make([{"params": params[:1]}, {"params": params[1:], "lr": 0.03}], lr=copy.deepcopy(lr), momentum=0.9)
            for make, params in ((nn.SGD, pairs), (torch.optim.SGD, theirs))]  # fmt: skip


def rates(optimiser):
    return [float(group["lr"]) for group in optimiser.param_groups]


SCHEDULES = [("StepLR", (1, 0.5), {}), ("StepLR", (3,), {}), ("CosineAnnealingLR", (6,), {}), ("StepLR", (2, 1.5), {}),
             ("CosineAnnealingLR", (1, 0.01), {}), ("CosineAnnealingLR", (9, 0.02), {}), ("OneCycleLR", (2.0, 200), {}),
             ("OneCycleLR", (0.7, 90), {"pct_start": 0.5})]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.filterwarnings("ignore:The epoch parameter")
@given(st.lists(st.one_of(st.tuples(st.just("new"), st.integers(0, len(SCHEDULES) - 1)),
                          st.tuples(st.just("step"), st.integers(0, 3)),
                          st.tuples(st.just("set"), st.floats(1e-3, 2))), min_size=4, max_size=40),
       st.booleans())  # fmt: skip
def test_any_sequence_of_schedules_steps_and_changes_by_hand_equals_torch(actions, tensors):
    ours, theirs = both_optimisers(torch.tensor(0.5, dtype=torch.float64) if tensors else 0.5)
    schedules = []
    for action, number in [("new", 0), *actions]:
        if action == "new":
            name, args, chosen = SCHEDULES[number]
            extra = {"cycle_momentum": False} if name == "OneCycleLR" else {}
            schedules.append((getattr(nn, name)(ours, *args, **chosen),
                              getattr(torch.optim.lr_scheduler, name)(theirs, *args, **chosen, **extra)))  # fmt: skip
        elif action == "step":
            for schedule in schedules[number % len(schedules)]:
                schedule.step()
        else:
            for optimiser in (ours, theirs):
                optimiser.param_groups[1]["lr"] = number
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-10, abs=1e-15)
        for mine, other in schedules:
            assert mine.get_last_lr() == pytest.approx([float(lr) for lr in other.get_last_lr()], rel=1e-10, abs=1e-15)


def test_two_schedules_of_one_optimiser_both_count():
    ours = nn.SGD(parameters()[1], lr=1.0)
    first, second = nn.StepLR(ours, 1, 0.5), nn.StepLR(ours, 1, 0.5)
    history = []
    for _ in range(3):
        first.step(), second.step()
        history += rates(ours)
    assert history == [0.25, 0.0625, 0.015625]


def test_a_rate_changed_by_hand_is_gone_on_from():
    ours = nn.SGD(parameters()[1], lr=1.0)
    schedule = nn.StepLR(ours, 2, 0.1)
    schedule.step()
    ours.param_groups[0]["lr"] = 8.0
    schedule.step()
    assert rates(ours) == pytest.approx([0.8]) and schedule.get_last_lr() == rates(ours)


def test_a_tensor_rate_stays_the_same_tensor_under_a_schedule():
    lr = torch.tensor(0.5)
    ours = nn.SGD(parameters()[1], lr=lr)
    nn.StepLR(ours, 1, 0.5).step()
    assert ours.param_groups[0]["lr"] is lr and lr.item() == 0.25
    assert ours.param_groups[0]["initial_lr"] == 0.5


FAST = [("StepLR", (1, 0.9)), ("CosineAnnealingLR", (7, 0.01)), ("OneCycleLR", (2.0, 30))]


def test_a_group_added_later_is_scheduled_too():
    _, pairs = parameters()
    for name, args in FAST:
        ours = nn.SGD(pairs[:2], lr=0.4)
        schedule = getattr(nn, name)(ours, *args)
        ours.add_param_group({"params": pairs[2:], "lr": 0.4})
        schedule.step()
        assert len(schedule.get_last_lr()) == 2 and rates(ours)[0] == pytest.approx(rates(ours)[1]) != 0.4


@pytest.mark.parametrize("name, args", FAST)
@pytest.mark.parametrize("order", ["optimiser first", "schedule first"])
def test_schedule_and_optimiser_go_on_from_saved_states(name, args, order):
    """Also after a change by hand, and whichever is loaded first."""
    first, other = (both_optimisers()[0] for _ in range(2))
    schedule, resumed = (getattr(nn, name)(optimiser, *args) for optimiser in (first, other))
    for _ in range(5):
        schedule.step()
    first.param_groups[0]["lr"] = 0.3
    loads = [(other, first.state_dict()), (resumed, schedule.state_dict())]
    for target, state in loads if order == "optimiser first" else loads[::-1]:
        target.load_state_dict(copy.deepcopy(state))
    for _ in range(12):
        assert rates(first) == rates(other)
        schedule.step(), resumed.step()
        assert schedule.get_last_lr() == resumed.get_last_lr()


def test_schedules_refuse_in_words():
    ours = nn.SGD(parameters()[1], lr=0.1)
    with pytest.raises(TypeError, match="StepLR: expected an optimiser, got Tensor"):
        nn.StepLR(torch.zeros(1), 3)
    with pytest.raises(ValueError, match="StepLR: expected step_size >= 1, got 0"):
        nn.StepLR(ours, 0)
    with pytest.raises(ValueError, match="CosineAnnealingLR: expected T_max > 0, got 0"):
        nn.CosineAnnealingLR(ours, 0)
    state = nn.StepLR(both_optimisers()[0], 3).state_dict()
    with pytest.raises(ValueError, match=r"StepLR\.load_state_dict: expected rates of 1 parameter groups, got 2"):
        nn.StepLR(ours, 3).load_state_dict(state)
