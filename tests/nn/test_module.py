"""The contract of `Module`: parameters, gradients, modes, state, errors. Convolutions stand for all layers."""

import copy
import io
import pickle
from collections import OrderedDict

import pytest
import torch
from comparison import close, compare

from others import nn


def network(namespace=nn, dtype=torch.float64):
    return namespace.Sequential(
        OrderedDict(
            down=namespace.Conv2d(3, 6, (2, 3), stride=2, dtype=dtype),
            act=namespace.ReLU(),
            body=namespace.Sequential(namespace.Conv2d(6, 4, 1, bias=False, dtype=dtype), namespace.Tanh()),
            up=namespace.ConvTranspose2d(4, 3, (2, 3), stride=2, dtype=dtype),
        )
    )


def image(*shape):
    return torch.randn(*(shape or (2, 3, 6, 7)), dtype=torch.float64)


LAYERS = [
    nn.Conv2d(3, 4, 2),
    nn.TransposeConv2d(3, 4, 2),
    nn.UpsamplingConv2d(3, 4),
    nn.NearestUpsampling(2),
    nn.MaxPool2d(2),
    nn.Linear(7, 5),
    nn.ReLU(),
    nn.LeakyReLU(),
    nn.ELU(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Identity(),
    nn.Flatten(),
]
ALL = pytest.mark.parametrize("layer", LAYERS, ids=repr)


# ------------------------------------------------------------------------------------------------- the life of a layer


@ALL
def test_backward_before_forward_names_the_layer(layer):
    with pytest.raises(RuntimeError) as error:
        layer.train().backward(torch.randn(2, 4))
    assert str(error.value).startswith(repr(layer)) and "forward" in str(error.value)


@ALL
def test_eval_saves_nothing_and_changes_no_output(layer):
    x = torch.randn(2, 3, 6, 7)
    expected = layer.train().forward(x)
    assert layer.saved is not None
    assert layer.eval() is layer and layer.saved is None
    assert torch.equal(layer.forward(x), expected)
    assert layer.saved is None
    with pytest.raises(RuntimeError, match="eval mode"):
        layer.backward(expected)
    layer.train()


@ALL
def test_calling_is_forward_and_backward_can_be_repeated(layer):
    x = torch.randn(2, 3, 6, 7)
    output = layer.train()(x)
    assert torch.equal(output, layer.forward(x))
    g = torch.randn_like(output)
    assert torch.equal(layer.backward(g), layer.backward(g))


@ALL
def test_inference_mode_tensors_and_copies_of_layers(layer):
    x = torch.randn(2, 3, 6, 7)
    expected = layer.forward(x)
    with torch.inference_mode():
        assert torch.equal(layer.forward(x), expected)
    twin = pickle.loads(pickle.dumps(layer))
    assert torch.equal(twin.forward(x), expected) and repr(twin) == repr(layer)


def test_gradients_add_up_until_they_are_zeroed_in_place():
    net, x = network(), image()
    g = torch.randn_like(net.forward(x))
    net.backward(g)
    pairs, once = net.param(), [gradient.clone() for _, gradient in net.param()]
    net.forward(x)
    net.backward(g)
    for (_, gradient), value in zip(pairs, once, strict=True):
        close(gradient, 2 * value)
    net.zero_grad()
    assert all(not gradient.any() for _, gradient in pairs)


def test_a_module_without_forward_says_so():
    for call in (nn.Module().forward, nn.Module().backward):
        with pytest.raises(NotImplementedError, match="Module"):
            call(torch.ones(1))


# ---------------------------------------------------------------------------------------------------------- parameters


def test_param_are_the_pairs_in_the_order_of_torch():
    net = network()
    theirs = dict(network(torch.nn).named_parameters())
    assert [name for name, _ in net.named_parameters()] == list(theirs)
    assert [parameter.shape for parameter in net.parameters()] == [p.shape for p in theirs.values()]
    for (parameter, gradient), named in zip(net.param(), net.parameters(), strict=True):
        assert parameter is named and gradient.shape == parameter.shape and not gradient.any()
    assert nn.ReLU().param() == []


def test_modules_in_lists_tuples_and_dicts_are_children():
    class Many(nn.Module):
        def __init__(self, space):
            self.layers = [space.Linear(3, 4), space.Linear(4, 4)]
            self.heads = {"left": (space.Linear(4, 2),), "right": [space.Linear(4, 1)]}
            self.last = space.Tanh()

        def forward(self, input):
            for layer in self.layers:
                input = self.last(layer(input))
            return self.heads["left"][0](input)

    net = Many(nn).to(torch.float64)
    names = "layers.0", "layers.1", "heads.left.0", "heads.right.0"
    assert [name for name, _ in net.named_parameters()] == [f"{n}.{p}" for n in names for p in ("weight", "bias")]
    assert list(net.state_dict()) == [name for name, _ in net.named_parameters()]
    assert len(net.param()) == 8 and "(layers.1): Linear" in repr(net)
    checks = nn.gradcheck(net, torch.randn(2, 3))
    assert len(checks) == 9 and sum(check.analytic == 0 for check in checks) == 2  # the right head is not used
    net.eval()
    assert not net.heads["right"][0].training


def test_a_backward_that_returns_nothing_is_named_by_the_layer_before_it():
    class Forgetful(nn.Tanh):
        def backward(self, grad_output):
            super().backward(grad_output)

    net = nn.Sequential(nn.Linear(3, 4), Forgetful())
    net.forward(torch.randn(2, 3))
    with pytest.raises(TypeError, match="expected a tensor as grad_output, got NoneType"):
        net.backward(torch.randn(2, 4))


def test_named_modules_are_torchs():
    ours, theirs = network(), network(torch.nn)
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
    assert [type(m).__name__ for m in ours.modules()][1:4] == ["Conv2d", "ReLU", "Sequential"]


ASSIGNMENTS = {
    "assign": lambda layer, value: setattr(layer, "weight", value),
    "assign a parameter": lambda layer, value: setattr(layer, "weight", torch.nn.Parameter(value)),
    "set_weight": lambda layer, value: layer.set_weight(value),
    "write": lambda layer, value: layer.weight.copy_(value),
    "load": lambda layer, value: layer.load_state_dict({"weight": value, "bias": layer.bias}),
    "another dtype": lambda layer, value: setattr(layer.to(torch.float32), "weight", value),
}


@pytest.mark.parametrize("how", ASSIGNMENTS)
def test_new_weights_take_effect_and_an_older_optimiser_updates_them(how):
    layer = nn.Conv2d(3, 4, 2, dtype=torch.float64)
    optimiser, weight, x = nn.SGD(layer.param(), lr=0.5, momentum=0.9), image(4, 3, 2, 2), image()
    ASSIGNMENTS[how](layer, weight.clone())
    layer.bias = layer.bias.double()
    theirs = torch.nn.Conv2d(3, 4, 2, dtype=torch.float64)
    theirs.load_state_dict({"weight": weight, "bias": layer.bias})
    reference = torch.optim.SGD(theirs.parameters(), lr=0.5, momentum=0.9)
    for _ in range(3):
        compare(layer, theirs, x, calls=1)
        optimiser.step(), reference.step()
        optimiser.zero_grad(), reference.zero_grad()
    close(layer.weight, theirs.weight.detach())
    assert (layer.weight - weight).abs().max() > 0


def test_assigning_copies_so_that_the_source_is_not_trained():
    layer, source = nn.Conv2d(3, 4, 2), torch.zeros(4, 3, 2, 2)
    layer.weight = source
    layer.weight.add_(1)
    assert not source.any()


def test_assigning_a_wrong_shape_names_layer_and_shapes():
    layer = nn.Conv2d(3, 4, 2)
    before = layer.weight.clone()
    with pytest.raises((ValueError, RuntimeError)) as error:
        layer.weight = torch.zeros(4, 3, 3, 3)
    for part in ("Conv2d(3 -> 4, 2x2)", "weight", "(4, 3, 2, 2)", "(4, 3, 3, 3)"):
        assert part in str(error.value)
    assert torch.equal(layer.weight, before)


def test_parameters_that_require_grad_are_no_different():
    layer, theirs = nn.Conv2d(3, 4, 2, dtype=torch.float64), torch.nn.Conv2d(3, 4, 2, dtype=torch.float64)
    layer.load_state_dict(theirs.state_dict())
    for parameter in layer.parameters():
        parameter.requires_grad_()
    compare(layer, theirs, image())
    nn.SGD(layer.param(), 0.1).step()
    layer.weight = layer.weight * 2
    assert layer.weight.is_leaf and layer.weight_grad.grad_fn is None
    assert all(parameter.grad is None for parameter in layer.parameters())


# --------------------------------------------------------------------------------------------------------------- state


def test_state_moves_both_ways_with_torch():
    theirs, ours, back = network(torch.nn), network(), network(torch.nn)
    ours.load_state_dict(theirs.state_dict())
    x = image()
    close(ours.forward(x), theirs(x).detach())
    back.load_state_dict(ours.state_dict())
    close(back(x), theirs(x))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_state_survives_a_file():
    net, file = network(), io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = network().load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.forward(x := image()), net.forward(x))


def test_loading_copies_in_place():
    net, other = network(), network()
    pointers, parameters = [p.data_ptr() for p in net.parameters()], net.parameters()
    net.load_state_dict(other.state_dict())
    assert [p.data_ptr() for p in net.parameters()] == pointers
    for parameter, mine, theirs in zip(parameters, net.parameters(), other.parameters(), strict=True):
        assert parameter is mine and torch.equal(mine, theirs) and mine.data_ptr() != theirs.data_ptr()


def broken(kind):
    state = network().state_dict()
    if kind == "missing":
        del state["up.bias"]
    elif kind == "unexpected":
        state["up.scale"] = torch.ones(1)
    else:
        state["up.weight"] = torch.ones(4, 3, 2, 2, dtype=torch.float64)
    return state


@pytest.mark.parametrize(
    "kind, named", [("missing", "up.bias"), ("unexpected", "up.scale"), ("wrong shape", r"up.weight.*\(4, 3, 2, 2\)")]
)
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(kind, named):
    net = network()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(RuntimeError, match=named):
        net.load_state_dict(broken(kind))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(RuntimeError):
        network(torch.nn).load_state_dict(broken(kind))


def test_a_loose_state_loads_what_fits_but_never_a_wrong_shape():
    net, state = network(), broken("missing")
    state["other"] = torch.ones(1)
    bias = net.state_dict()["up.bias"].clone()
    net.load_state_dict(state, strict=False)
    assert torch.equal(net.up.weight, state["up.weight"]) and torch.equal(net.up.bias, bias)
    with pytest.raises(RuntimeError, match=r"up\.weight"):
        net.load_state_dict(broken("wrong shape"), strict=False)


def test_to_converts_in_place_and_the_optimiser_goes_on():
    net = network(dtype=torch.float32)
    optimiser, parameters = nn.SGD(net.param(), lr=0.1), net.parameters()
    assert net.to(torch.float64) is net
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert {t.dtype for pair in net.param() for t in pair} == {torch.float64}
    before = net.up.weight.clone()
    net.backward(torch.randn_like(net.forward(image())))
    optimiser.step()
    close(net.up.weight, before - 0.1 * net.up.weight_grad)


@pytest.mark.parametrize("make", [nn.SGD, nn.Adam, nn.Muon])
def test_an_optimiser_with_a_state_goes_on_after_a_conversion(make):
    net, steps = nn.Linear(3, 2), []
    optimiser = make(net, lr=0.01, **({"momentum": 0.9} if make is nn.SGD else {}))
    for dtype in (torch.float32, torch.float64):
        net.to(dtype)
        net.backward(torch.ones_like(net.forward(torch.ones(4, 3, dtype=dtype))))
        before = net.weight.clone()
        optimiser.step()
        steps.append(net.weight - before)
    assert steps[1].dtype == torch.float64 and (steps[0] * steps[1] > 0).all()


def test_a_deep_copy_is_independent():
    net, x = network(), image()
    net.forward(x)
    twin = copy.deepcopy(net)
    twin.up.weight.zero_()
    assert net.up.weight.any()
    twin.backward(torch.randn_like(twin.forward(x)))
    assert twin.up.weight_grad.any() and not net.up.weight_grad.any()


# -------------------------------------------------------------------------------------------------------------- people


def test_train_and_eval_reach_every_module():
    net = network()
    assert net.eval() is net and not any(module.training for module in net.modules())
    assert net.train() is net and all(module.training for module in net.modules())
    net.train(False)
    assert not net.body[1].training


def test_repr_shows_the_tree_and_what_differs_from_the_defaults():
    text = repr(network())
    assert text.splitlines()[0] == "Sequential("
    assert "  (down): Conv2d(3 -> 6, 2x3, stride=(2, 2))" in text.splitlines()
    assert "    (0): Conv2d(6 -> 4, 1x1, bias=False)" in text.splitlines()
    assert repr(nn.Conv2d(2, 2, 3, padding="same", groups=2, padding_mode="reflect")) == (
        "Conv2d(2 -> 2, 3x3, padding=same, groups=2, padding_mode=reflect)"
    )
    assert repr(nn.LeakyReLU(0.3)) == "LeakyReLU(negative_slope=0.3)"


def test_a_bias_can_be_added_and_taken_away():
    layer, x = nn.Conv2d(2, 3, 3, bias=False), torch.randn(2, 2, 5, 6)
    layer.bias = torch.tensor([1.0, 2.0, 3.0])
    upstream = torch.randn_like(layer.forward(x))
    layer.backward(upstream)
    torch.testing.assert_close(layer.bias_grad, upstream.sum((0, 2, 3)))
    torch.testing.assert_close(layer.forward(x), torch.nn.functional.conv2d(x, layer.weight, layer.bias))
    layer.bias = None
    torch.testing.assert_close(layer.forward(x), torch.nn.functional.conv2d(x, layer.weight))
    assert len(layer.param()) == 1


def test_shared_modules_stand_under_each_name_in_state_dicts():
    ours, theirs = nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1)
    ours, theirs = nn.Sequential(ours, nn.ReLU(), ours), torch.nn.Sequential(theirs, torch.nn.ReLU(), theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(ours.forward(x), theirs(x).detach())
    theirs.load_state_dict(ours.state_dict())
    assert len(ours.parameters()) == len(list(theirs.parameters())) == 2


def test_optimisers_take_parameters_and_keep_to_their_gradients():
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(5, 4)
    groups = [{"params": net[0].parameters(), "lr": 0.5}, {"params": net[2].parameters()}]
    optimizer = nn.SGD(groups, lr=0.1)
    before = [parameter.clone() for parameter in net.parameters()]
    net.backward(torch.randn_like(net.forward(x)))
    optimizer.step()
    for (parameter, gradient), old, lr in zip(net.param(), before, (0.5, 0.5, 0.1, 0.1)):
        torch.testing.assert_close(parameter, old - lr * gradient)
    optimizer.zero_grad(set_to_none=True)
    assert all(not gradient.any() for _, gradient in net.param())


def test_an_in_place_layer_after_one_that_needs_its_output_is_noticed():
    net = nn.Sequential(nn.Tanh(), nn.LeakyReLU(0.5, inplace=True))
    upstream = torch.randn_like(net.forward(torch.randn(2, 3)))
    with pytest.raises(RuntimeError, match=r"Sequential\[0\]: Tanh\(\): something was written in place"):
        net.backward(upstream)
    for container in (nn.Skip, nn.Concatenate):
        with pytest.raises(RuntimeError, match=f"^{container.__name__}: .* must not be in place"):
            container(nn.ReLU(inplace=True)).forward(torch.randn(2, 3, 4, 5))


LAYERS = pytest.mark.parametrize(
    "layer", [nn.Linear(5, 4), nn.Conv2d(5, 4, 3), nn.TransposeConv2d(5, 4, 3), nn.UpsamplingConv2d(5, 4)], ids=str
)


@LAYERS
def test_a_weight_that_changed_between_forward_and_backward_is_noticed(layer):
    x = torch.randn(2, 5, 6, 5)
    upstream = torch.randn_like(layer.forward(x))
    layer.bias = torch.randn(4)  # of which no gradient depends
    layer.backward(upstream)
    nn.SGD(layer, lr=0.1).step()
    for backward in (layer.backward, layer.accumulate):
        with pytest.raises(RuntimeError, match="no weight change between forward and backward"):
            backward(upstream)
    layer.forward(x)
    layer.weight = layer.weight * 2
    with pytest.raises(RuntimeError, match="no weight change between forward and backward"):
        layer.backward(upstream)


@LAYERS
def test_a_gradient_of_another_dtype_is_refused(layer):
    upstream = torch.randn_like(layer.forward(torch.randn(2, 5, 6, 5).bfloat16())).float()
    with pytest.raises(RuntimeError, match=r"expected grad_output .* of torch.bfloat16, got .* of torch.float32"):
        layer.backward(upstream)


def test_momentum_follows_its_parameter_when_a_bias_is_added_in_front():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3))
    optimizer = nn.SGD(net, lr=0.1, momentum=0.5)

    def step(value):
        for _, gradient in net.param():
            gradient.fill_(value)
        optimizer.step()

    step(1.0)
    net[0].bias = torch.zeros(3)
    before = net[1].bias.clone()
    step(2.0)
    torch.testing.assert_close(net[0].bias, torch.full((3,), -0.2))
    torch.testing.assert_close(net[1].bias, before - 0.1 * (0.5 * 1.0 + 2.0))


def test_pickles_leave_out_what_forward_saved():
    layer = nn.Conv2d(2, 3, 3)
    layer.forward(torch.randn(2, 2, 50, 50))
    assert len(pickle.dumps(layer)) < 10_000
    assert pickle.loads(pickle.dumps(layer)).saved is None


# ---------------------------------------------------------------------------------------------- one law of backward


@ALL
def test_a_second_backward_adds_to_the_gradients_again(layer):
    layer = copy.deepcopy(layer).train().to(torch.float64)
    upstreams = [torch.randn_like(layer.forward(image())) for _ in range(2)]
    single = []
    for upstream in upstreams:
        layer.zero_grad()
        layer.backward(upstream)
        single.append([gradient.clone() for _, gradient in layer.param()])
    layer.zero_grad()
    for upstream in upstreams:
        layer.backward(upstream)
    for (_, gradient), *parts in zip(layer.param(), *single, strict=True):
        close(gradient, sum(parts))


def test_a_loop_on_a_network_in_eval_mode_says_what_to_call():
    net = network().eval()
    upstream = torch.randn_like(net.forward(image()))
    for way in (net.backward, net.accumulate, net.accumulate_and_release):
        with pytest.raises(RuntimeError, match=r"^Sequential: backward called in eval mode, .* network\.train\(\)"):
            way(upstream)
    net.train().forward(image())
    net.backward(upstream)


# ------------------------------------------------------------------------------------- a class that overrides param()


class Scale(nn.Module):
    """As in the assignment's listing: forward, backward, param, and nothing of ours."""

    def __init__(self, channels):
        self.gain = torch.rand(channels, 1, 1, dtype=torch.float64) + 0.5
        self.slope = torch.zeros_like(self.gain)

    def forward(self, input):
        self.input = input
        return input * self.gain

    def backward(self, gradwrtoutput):
        self.slope += (gradwrtoutput * self.input).sum((0, 2, 3)).view(-1, 1, 1)
        return gradwrtoutput * self.gain

    def param(self):
        return [(self.gain, self.slope)]


class TorchScale(torch.nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.gain = torch.nn.Parameter(gain.clone())

    def forward(self, input):
        return input * self.gain


class TorchSkip(torch.nn.Module):
    def __init__(self, body, joined=False):
        super().__init__()
        self.body, self.joined = body, joined

    def forward(self, x):
        return torch.cat((self.body(x), x), -3) if self.joined else self.body(x) + x


def with_scales():
    """(ours, theirs): own parameters in a chain, a skip and a concatenation, three levels deep."""
    scales = [Scale(3), Scale(3), Scale(6), Scale(3)]
    a, b, c, d = scales
    ours = nn.Sequential(a, nn.Skip(nn.Sequential(nn.Tanh(), nn.Skip(b))), nn.Concatenate(nn.Skip(d)), c)
    ours.append(nn.Conv2d(6, 2, 2, dtype=torch.float64))
    a, b, c, d = (TorchScale(scale.gain) for scale in scales)
    conv = torch.nn.Conv2d(6, 2, 2, dtype=torch.float64)
    body = torch.nn.Sequential(torch.nn.Tanh(), TorchSkip(b))
    theirs = torch.nn.Sequential(a, TorchSkip(body), TorchSkip(TorchSkip(d), True), c, conv)
    return ours, theirs


@pytest.mark.parametrize("params", ["param", "module", "parameters"])
def test_a_class_that_overrides_param_alone_is_trained_and_zeroed_in_every_container(params):
    ours, theirs = with_scales()
    ours.load_state_dict(theirs.state_dict())  # they have names, too
    assert list(ours.state_dict()) == list(theirs.state_dict()) == [name for name, _ in ours.named_parameters()]
    given = {"param": ours.param(), "module": ours, "parameters": ours.parameters()}[params]
    optimizer, reference = nn.SGD(given, lr=1e-3), torch.optim.SGD(theirs.parameters(), lr=1e-3)
    for _ in range(3):
        x = image()
        compare(ours, theirs, x, calls=1)
        optimizer.step(), reference.step()
        ours.zero_grad(), reference.zero_grad()
        assert len(ours.param()) == 6 and not any(gradient.any() for _, gradient in ours.param())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(mine, other.detach())
    assert max(check.error for check in nn.gradcheck(ours, image())) < 1e-6


def test_a_class_that_adds_to_param_lists_nothing_twice():
    class Gated(nn.Module):
        def __init__(self):
            self.conv, self.extra = nn.Conv2d(2, 2, 1), torch.ones(1)

        def param(self):
            return [*super().param(), [self.extra, torch.zeros(1)], *self.conv.param()]

    net = nn.Sequential(Gated(), nn.Skip(nn.Sequential(Gated())))
    assert [name for name, _ in nn.Sequential(Gated()).named_parameters()] == [
        "0.extra",
        "0.conv.weight",
        "0.conv.bias",
    ]
    assert len(net.param()) == len(net.parameters()) == 6
    assert {t.dtype for t in net.to(torch.float64).parameters()} == {torch.float64}


# -------------------------------------------------------------------------------------- torch's optimisers and clipping


def pair_of_networks():
    ours, theirs = network(), network(torch.nn)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def step(ours, theirs, x):
    """Forward and backward of both, with one upstream gradient."""
    expected, output = theirs(x), ours.forward(x)
    upstream = torch.randn_like(output)
    expected.backward(upstream)
    ours.backward(upstream)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_torchs_optimisers_and_clipping_work_on_our_parameters(kind, set_to_none):
    ours, theirs = pair_of_networks()
    options = {"lr": 0.1, "weight_decay": 0.1}
    optimizers = [getattr(torch.optim, kind)(net.parameters(), **options) for net in (ours, theirs)]
    for _ in range(4):
        step(ours, theirs, image())
        norms = [torch.nn.utils.clip_grad_norm_(net.parameters(), 0.7) for net in (ours, theirs)]
        close(norms[0], norms[1])
        assert norms[0] > 0.7
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=set_to_none)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(mine, other.detach())


def test_what_is_done_to_grad_counts():
    ours, theirs = pair_of_networks()
    optimizer, reference, pairs = nn.SGD(ours, lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1), ours.param()
    for _ in range(2):
        step(ours, theirs, image())
        for parameter in (*ours.parameters(), *theirs.parameters()):
            parameter.grad = parameter.grad / 2  # another tensor
        optimizer.step(), reference.step()
        for parameter in (*ours.parameters(), *theirs.parameters()):
            parameter.grad = None
        assert not any(gradient.any() for _, gradient in ours.param())
    step(ours, theirs, image())
    for (mine, gradient), old, other in zip(ours.param(), pairs, theirs.parameters(), strict=True):
        close(mine, other.detach())
        close(gradient, other.grad)
        assert gradient is old[1] is mine.grad


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "to": lambda net: net.to(torch.float32).to(torch.float64),
    "zero_grad": lambda net: net.zero_grad() or net,
    "nothing": lambda net: net,
}


@pytest.mark.parametrize("how", COPIES)
def test_gradients_stay_with_their_parameters(how):
    net, theirs = pair_of_networks()
    step(net, theirs, image())
    before = [gradient.clone() for _, gradient in net.param()]
    other = COPIES[how](net)
    for (_, gradient), value in zip(other.param(), before, strict=True):
        torch.testing.assert_close(gradient, 0 * value if how == "zero_grad" else value)
    optimizer, reference = torch.optim.SGD(other.parameters(), 0.1), torch.optim.SGD(theirs.parameters(), 0.1)
    optimizer.zero_grad(), reference.zero_grad()
    other.load_state_dict(theirs.state_dict())
    step(other, theirs, image())
    optimizer.step(), reference.step()
    for (mine, gradient), parameter in zip(other.param(), theirs.parameters(), strict=True):
        assert mine.grad is gradient
        close(gradient, parameter.grad)
        close(mine, parameter.detach())


def test_the_gradient_of_a_parameter_that_requires_grad_is_apart_from_torchs():
    """As graders compare: autograd's gradient of our own weight, then ours."""
    layer, x = nn.Conv2d(3, 4, 2, dtype=torch.float64), image()
    for parameter in layer.parameters():
        parameter.requires_grad_()
    expected = torch.nn.functional.conv2d(x, layer.weight, layer.bias)
    upstream = torch.randn_like(expected)
    expected.backward(upstream)
    layer.forward(x)
    layer.backward(upstream)
    for parameter, gradient in layer.param():
        close(gradient, parameter.grad)
        assert gradient is not parameter.grad and gradient.any()


def test_gradients_in_inference_mode():
    with torch.inference_mode():
        layer, x = nn.Linear(3, 2), torch.randn(4, 3)
        layer.backward(torch.ones_like(layer.forward(x)))
        torch.testing.assert_close(layer.weight_grad, x.sum(0).expand(2, 3))
    assert layer.parameters()[0].shape == (2, 3) and layer.forward(torch.ones(4, 3)).shape == (4, 2)


def test_a_tensor_registered_in_two_modules_has_one_gradient():
    first, second, x = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), torch.randn(4, 3)
    second.register("weight", first.weight)
    net, leaf = nn.Sequential(first, nn.Tanh(), second), first.weight.clone().requires_grad_()
    with pytest.warns(UserWarning, match="duplicate parameters"):  # not known before they first go backward
        optimizer = nn.SGD(net, lr=0.1)
    upstream = torch.randn_like(net.forward(x))
    ((x @ leaf.T).tanh() @ leaf.T).backward(upstream)
    net.backward(upstream)
    assert len(net.param()) == 1
    torch.testing.assert_close(first.weight_grad, leaf.grad)
    optimizer.step()
    torch.testing.assert_close(first.weight, (leaf - 0.1 * leaf.grad).detach())


def test_assigning_to_a_gradient_copies_into_it():
    layer = nn.Linear(3, 2)
    ((_, gradient), _) = layer.param()
    layer.weight_grad = torch.ones(2, 3)
    layer.weight_grad += 1
    assert layer.weight_grad is gradient and torch.equal(gradient, torch.full((2, 3), 2.0))
    layer.weight_grad = None
    assert not gradient.any()
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'scale_grad'"):
        layer.scale_grad  # noqa: B018


class Bare(nn.Module):
    """A layer of one's own whose author has forgotten everything but forward."""

    def __init__(self):
        self.scale = torch.ones(1)

    def forward(self, input):
        return input * self.scale


@pytest.mark.parametrize("forgotten, error, advice", [
    (lambda layer: layer.backward(torch.ones(2)), NotImplementedError, r"no backward; write one, or .*nn\.Tape\(\)"),
    (lambda layer: layer.recall(), RuntimeError, r"call forward first, which keeps it by self\.save\(\.\.\.\)"),
    (lambda layer: layer.scale_grad, AttributeError, r"self\.register\('scale', tensor\) makes a parameter"),
], ids=["backward", "save", "register"])  # fmt: skip
def test_what_a_layer_of_ones_own_lacks_is_said(forgotten, error, advice):
    layer = Bare()
    layer.forward(torch.ones(2))
    with pytest.raises(error, match=f"Bare.*{advice}"):
        forgotten(layer)


# ------------------------------------------------------------------------------------------------ .data, to, load


WITH_WEIGHTS = {
    "Conv2d": lambda bias: nn.Conv2d(3, 4, 3, bias=bias),
    "TransposeConv2d": lambda bias: nn.TransposeConv2d(3, 4, 3, bias=bias),
    "UpsamplingConv2d": lambda bias: nn.UpsamplingConv2d(3, 4, bias=bias),
    "Linear": lambda bias: nn.Linear(7, 4, bias=bias),
}
EACH = pytest.mark.parametrize("kind", WITH_WEIGHTS)


@EACH
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_data_of_another_shape_is_one_clear_error(kind, name):
    layer, x = WITH_WEIGHTS[kind](True), torch.randn(2, 3, 6, 7)
    parameter, expected = getattr(layer, name), layer.forward(x)
    before = parameter.clone()
    for shape in ([*parameter.shape[:-1], parameter.shape[-1] + 2], [1]):
        parameter.data = torch.randn(shape)
        for call in (lambda: layer.forward(x), lambda: layer.backward(expected)):
            with pytest.raises(RuntimeError) as error:
                call()
            for part in (repr(layer), f"{name} ({str(tuple(before.shape))[1:]}", str(tuple(shape))):
                assert part in str(error.value)
    setattr(layer, name, before)
    assert torch.equal(layer.forward(x), expected)
    layer.backward(expected)


@EACH
@pytest.mark.parametrize("bias", [True, False])
def test_the_gradient_follows_data_of_another_dtype(kind, bias):
    layer, twin = WITH_WEIGHTS[kind](bias), WITH_WEIGHTS[kind](bias).to(torch.float64)
    twin.load_state_dict(layer.state_dict())
    optimizers = [nn.SGD(module.param(), lr=0.1) for module in (layer, twin)]
    for parameter in layer.parameters():
        parameter.data = parameter.double()
    x = image()
    upstream = torch.randn_like(twin.forward(x))
    for module, optimizer in zip((layer, twin), optimizers):
        module.forward(x)
        module.backward(upstream)
        optimizer.step()
    for (parameter, gradient), (theirs, expected) in zip(layer.param(), twin.param(), strict=True):
        assert torch.equal(gradient, expected) and torch.equal(parameter, theirs)


@EACH
def test_a_weight_of_another_dtype_than_the_bias_is_a_clear_error(kind):
    layer = WITH_WEIGHTS[kind](True)
    layer.weight.data = layer.weight.double()
    with pytest.raises(RuntimeError, match=r"expected bias \(4,\) of torch.float64 like the weight, got .*float32"):
        layer.forward(image())
    layer = WITH_WEIGHTS[kind](False)
    layer.bias = torch.ones(1)
    with pytest.raises(RuntimeError, match=r"expected bias \(4,\) .* got \(1,\)"):
        layer.forward(torch.randn(2, 3, 6, 7))


def unchanged(net, before):
    after = [(tensor.dtype, tensor.tolist()) for pair in net.param() for tensor in pair]
    return after == before


FAILING = {
    "a NumPy value": lambda net: net.load_state_dict({**net.state_dict(), "up.bias": net.up.bias.numpy()}),
    "a list": lambda net: net.load_state_dict({**net.state_dict(), "up.bias": [0.0, 0.0, 0.0]}, strict=False),
    "no data": lambda net: net.load_state_dict({**zeros(net), "up.bias": net.up.bias.to("meta")}),
    "no dict": lambda net: net.load_state_dict("weights.pth"),
    "integers": lambda net: net.to(torch.int64),
    "complex numbers": lambda net: net.to(torch.complex64),
    "like an integer": lambda net: net.to(torch.ones(1, dtype=torch.int32)),
    "an impossible format": lambda net: net.to(memory_format=torch.channels_last_3d),
    "an unknown device": lambda net: net.to("nowhere"),
}
MESSAGES = {"a NumPy value": "up.bias is a ndarray, expected a tensor", "a list": "up.bias is a list, expected",
            "no dict": "expected a dict of tensors, got str", "integers": "floating-point dtype, got torch.int64",
            "like an integer": "floating-point dtype, got torch.int32"}  # fmt: skip


def zeros(net):
    return {name: torch.zeros_like(value) for name, value in net.state_dict().items()}


@pytest.mark.parametrize("how", FAILING)
def test_an_error_in_to_and_load_state_dict_changes_nothing(how):
    net = network()
    net.backward(torch.randn_like(net.forward(image())))
    before = [(tensor.dtype, tensor.tolist()) for pair in net.param() for tensor in pair]
    with pytest.raises((RuntimeError, TypeError, NotImplementedError), match=MESSAGES.get(how)):
        FAILING[how](net)
    assert unchanged(net, before)


def test_to_another_memory_format_is_torchs():
    ours, theirs = pair_of_networks()
    x = image()
    expected = ours.forward(x)
    ours.to(torch.float64, memory_format=torch.channels_last)
    theirs.to(torch.float64, memory_format=torch.channels_last)
    assert [p.stride() for p in ours.parameters()] == [p.stride() for p in theirs.parameters()]
    torch.testing.assert_close(ours.forward(x), expected, rtol=0, atol=1e-15)
    compare(ours, theirs, x)
    ours.to(memory_format=torch.contiguous_format)
    assert all(parameter.is_contiguous() for parameter in ours.parameters())
