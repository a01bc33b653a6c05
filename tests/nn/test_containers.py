"""Sequential, Skip, Concatenate, Identity, Flatten, Add and Concat: gradients against torch, positions, sharing."""

import weakref
from collections import OrderedDict

import pytest
import torch
from comparison import close, compare

from others import nn


class TorchSkip(torch.nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


class TorchConcatenate(TorchSkip):
    def forward(self, x):
        return torch.cat((self.body(x), x), -3)


THEIRS = {"Skip": TorchSkip, "Concatenate": TorchConcatenate}


def chain(namespace, channels=4, inside=()):
    """channels -> 5 -> channels, with what is `inside` between."""
    return namespace.Sequential(
        namespace.Conv2d(channels, 5, 3, padding=1, dtype=torch.float64),
        namespace.Tanh(),
        *inside,
        namespace.ConvTranspose2d(5, channels, 3, padding=1, dtype=torch.float64),
    )


def nested(namespace, skip, concatenate):
    """A small U-Net: skips in skips, a concatenation, a bare activation around everything."""
    inner = skip(chain(namespace, 5, [skip(namespace.Tanh())]))
    wide = namespace.Conv2d(10, 5, 1, dtype=torch.float64)
    return namespace.Sequential(skip(chain(namespace, 3, [concatenate(inner), wide])), namespace.Sigmoid())


def same_weights(ours, theirs):
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def image(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_sequential_equals_torch():
    compare(*same_weights(chain(nn), chain(torch.nn)), image(2, 4, 6, 7))


@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (3, 6, 7), (0, 3, 6, 7)])
def test_nested_skips_and_concatenation_equal_torch(shape):
    """The input's gradient and every parameter's: a skip that only works forward would show in all of them."""
    ours, theirs = nested(nn, nn.Skip, nn.Concatenate), nested(torch.nn, TorchSkip, TorchConcatenate)
    compare(*same_weights(ours, theirs), image(*shape))


@pytest.mark.parametrize("name", THEIRS)
def test_skips_alone(name):
    ours, theirs = getattr(nn, name)(chain(nn)), THEIRS[name](chain(torch.nn))
    compare(*same_weights(ours, theirs), image(2, 4, 6, 7))


def nets():
    return [chain(nn), nn.Skip(chain(nn)), nn.Concatenate(chain(nn)), nn.Sequential(nn.Skip(chain(nn)), chain(nn))]


@pytest.mark.parametrize("net", nets(), ids=lambda net: type(net).__name__)
def test_accumulate_gives_the_parameter_gradients_of_backward(net):
    x = image(2, 4, 6, 7)
    g = torch.randn_like(net.forward(x))
    net.backward(g)
    expected = [gradient.clone() for _, gradient in net.param()]
    net.zero_grad()
    net.forward(x)
    assert net.accumulate(g) is None
    for (_, gradient), value in zip(net.param(), expected, strict=True):
        close(gradient, value)


@pytest.mark.parametrize("net", nets(), ids=lambda net: type(net).__name__)
def test_accumulate_and_release_gives_the_same_gradients_and_frees_all(net):
    x = image(2, 4, 6, 7)
    g = torch.randn_like(net.forward(x))
    net.backward(g)
    expected = [gradient.clone() for _, gradient in net.param()]
    net.zero_grad()
    assert net.accumulate_and_release(g) is None
    assert all(torch.equal(gradient, value) for (_, gradient), value in zip(net.param(), expected, strict=True))
    assert all(module.saved is None for module in net.modules())
    with pytest.raises(RuntimeError, match="before forward, or after what it saved was released; call forward first"):
        net.backward(g)


@pytest.mark.parametrize("seed", range(3))
def test_backward_can_be_called_again_and_adds_again_as_torch_with_retain_graph(seed):
    torch.manual_seed(seed)
    ours, theirs = same_weights(nested(nn, nn.Skip, nn.Concatenate), nested(torch.nn, TorchSkip, TorchConcatenate))
    x = image(2, 3, 6, 7)
    leaf = x.clone().requires_grad_()
    expected, output = theirs(leaf), ours.forward(x)
    upstreams, found = [image(*output.shape) for _ in range(3)], 0
    for upstream in upstreams:
        expected.backward(upstream, retain_graph=True)
    for upstream in upstreams[:2]:
        found = found + ours.backward(upstream)
    ours.accumulate(upstreams[2])
    close(found + ours.backward(upstreams[2]), leaf.grad)
    expected.backward(upstreams[2])
    for (_, gradient), parameter in zip(ours.param(), theirs.parameters(), strict=True):
        close(gradient, parameter.grad)


def test_a_container_leaves_the_modules_below_as_it_found_them():
    """A layer of a chain can go backward by itself, before and after the chain has, also where it is used twice."""
    layer, x = nn.Linear(3, 3, dtype=torch.float64), image(2, 3)
    net = nn.Sequential(layer, nn.Skip(layer), nn.Tanh(), layer)
    g = torch.randn_like(net.forward(x))
    saved, alone = [module.saved for module in net.modules()], layer.backward(g)
    net.backward(g)
    assert all(module.saved is before for module, before in zip(net.modules(), saved, strict=True))
    assert torch.equal(layer.backward(g), alone)


class Watch(nn.Module):
    """Returns its input; notes in forward and backward how many of the tensors saved by all watches are alive."""

    def __init__(self, seen):
        self.seen, self.alive = seen, []
        self.register("weight", torch.zeros(1))  # so that it is asked on the way back

    def look(self):
        self.alive.append(sum(ref() is not None for ref in self.seen))

    def forward(self, input):
        self.look()
        self.save(kept := input.clone())
        self.seen.append(weakref.ref(kept))
        return kept

    def backward(self, grad_output):
        self.recall()
        self.look()
        return grad_output


def test_memory_falls_on_the_way_back_and_two_forwards_are_never_held():
    seen = []
    a, b, c, d = watches = [Watch(seen) for _ in range(4)]
    net = nn.Sequential(a, nn.Skip(nn.Sequential(b, nn.Concatenate(nn.Sequential(c)), nn.Conv2d(4, 2, 1))), d)
    x = torch.randn(2, 2, 3, 3)
    g = torch.randn_like(net.forward(x))
    net.backward(g)  # keeps everything
    net.forward(x)  # drops it first
    net.accumulate_and_release(g)
    assert a.alive == [0, 4, 0, 1]
    assert b.alive == [1, 4, 1, 2]
    assert c.alive == [2, 4, 2, 3]
    assert d.alive == [3, 4, 3, 4]
    assert all(watch.saved is None for watch in watches) and not any(ref() is not None for ref in seen)


def test_accumulate_does_not_make_the_gradient_of_the_input(monkeypatch):
    net = chain(nn)
    net.forward(image(2, 4, 6, 7))
    monkeypatch.setattr(net[0], "backward", lambda g: pytest.fail("the first layer's backward was called"))
    net.accumulate(image(2, 4, 6, 7))


# -------------------------------------------------------------------------------------------------------- sharing


def shared(namespace, layer):
    """`layer` three times, once inside a chain of its own."""
    return namespace.Sequential(layer, namespace.Tanh(), layer, namespace.Sequential(namespace.Sigmoid(), layer))


def test_a_module_in_several_places_keeps_several_states():
    ours, theirs = (n.Conv2d(3, 3, 3, padding=1, dtype=torch.float64) for n in (nn, torch.nn))
    same_weights(ours, theirs)
    compare(shared(nn, ours), shared(torch.nn, theirs), image(2, 3, 5, 6))


class Block(nn.Module):
    """A module of one's own around a layer, which keeps the state."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, input):
        return self.layer.forward(input)

    def backward(self, grad_output):
        return self.layer.backward(grad_output)


class TorchBlock(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, input):
        return self.layer(input)


def on_tape(net, x, g):
    with nn.Tape() as tape:
        output = net(x)
    tape.backward(output, g)


WAYS = {
    "backward": lambda net, x, g: (net.forward(x), net.backward(g)),
    "accumulate": lambda net, x, g: (net.forward(x), net.accumulate(g)),
    "accumulate_and_release": lambda net, x, g: (net.forward(x), net.accumulate_and_release(g)),
    "Tape": on_tape,
}


@pytest.mark.parametrize("way", WAYS)
def test_two_blocks_around_one_layer_by_hand(way):
    layer, x, one = nn.Linear(1, 1, bias=False), torch.tensor([[3.0]]), torch.ones(1, 1)
    layer.weight = torch.tensor([[2.0]])
    for net, slope in (
        (nn.Sequential(Block(layer), Block(layer)), 12),  # w w x: 2 w x
        (nn.Sequential(nn.Skip(Block(layer)), nn.Skip(Block(layer))), 18),  # (1 + w)^2 x: 2 (1 + w) x
        (nn.Sequential(nn.Skip(layer), nn.Skip(layer)), 18),
        (Block(Block(nn.Sequential(Block(layer), Block(layer)))), 12),
    ):
        net.zero_grad()
        WAYS[way](net, x, one)
        assert layer.weight_grad.item() == slope


@pytest.mark.parametrize("way", WAYS)
def test_blocks_that_share_a_layer_equal_torch(way):
    def network(namespace, block, skip, concatenate):
        conv, narrow = namespace.Conv2d(3, 3, 3, padding=1), namespace.Conv2d(6, 3, 1)
        shared = block(namespace.Sequential(conv, namespace.Tanh()))
        return namespace.Sequential(
            skip(shared), block(concatenate(block(conv))), narrow, skip(skip(shared)), concatenate(shared), narrow
        ).to(torch.float64)

    ours = network(nn, Block, nn.Skip, nn.Concatenate)
    theirs = network(torch.nn, TorchBlock, TorchSkip, TorchConcatenate)
    x, g = image(2, 3, 5, 6), image(2, 3, 5, 6)
    same_weights(ours, theirs)
    theirs(x).backward(g)
    WAYS[way](ours, x, g)
    for (_, gradient), parameter in zip(ours.param(), theirs.parameters(), strict=True):
        close(gradient, parameter.grad)


def test_a_shared_module_counts_once():
    layer = nn.Conv2d(3, 3, 3)
    net = shared(nn, layer)
    assert len(net.param()) == 2
    assert net.modules().count(layer) == 1
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]


def test_one_activation_object_everywhere():
    act, theirs = nn.Tanh(), torch.nn.Tanh()
    compare(nn.Sequential(act, act, nn.Skip(act)), torch.nn.Sequential(theirs, theirs, TorchSkip(theirs)), image(2, 3))


# ----------------------------------------------------------------------------------------------------- list of modules


def test_access():
    layers = [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.ELU()]
    net = nn.Sequential(*layers)
    assert len(net) == 4 and list(net) == layers
    assert net[0] is layers[0] and net[-1] is layers[3]
    assert list(net[1:3]) == layers[1:3] and isinstance(net[1:3], nn.Sequential)
    assert [name for name, _ in net[1:3].children()] == ["1", "2"]
    with pytest.raises(IndexError):
        net[4]


def test_a_slice_works_and_shares_its_modules():
    net, x = chain(nn), image(2, 4, 5, 6)
    close(net[1:].forward(net[:1].forward(x)), net.forward(x))
    assert net[:1][0].weight is net[0].weight


def test_append_add_modules_and_names():
    net = nn.Sequential(nn.ReLU()).append(nn.Tanh()).add_modules(nn.ELU(), nn.Sigmoid())
    assert [name for name, _ in net.children()] == ["0", "1", "2", "3"]
    named = nn.Sequential(OrderedDict(first=nn.ReLU(), last=nn.Tanh()))
    assert [name for name, _ in named.children()] == ["first", "last"]
    assert named.first is named[0]


def test_append_to_a_slice_replaces_nothing():
    layers = [nn.ReLU(), nn.Tanh(), nn.Sigmoid()]
    added = nn.ELU()
    assert list(nn.Sequential(*layers)[1:].append(added)) == [*layers[1:], added]


@pytest.mark.parametrize("name", ["forward", "training", "a.b", "0"])
def test_names_that_are_taken_or_have_a_dot(name):
    with pytest.raises(KeyError):
        nn.Sequential(nn.ReLU()).add_modules(OrderedDict({name: nn.ReLU()}))
    if name != "0":  # torch replaces the module
        with pytest.raises(KeyError):
            torch.nn.Sequential(OrderedDict({name: torch.nn.ReLU()}))


@pytest.mark.parametrize("stranger", [3, None, "ReLU", nn.ReLU, torch.nn.ReLU()])
def test_what_is_no_module(stranger):
    with pytest.raises(TypeError, match="Sequential"):
        nn.Sequential(nn.ReLU(), stranger)


def test_an_empty_chain_is_the_identity():
    net, x = nn.Sequential(), torch.randn(2, 3, requires_grad=True)
    output = net.forward(x)
    assert torch.equal(output, x) and not output.requires_grad
    assert torch.equal(net.backward(x.detach()), x)
    assert net.param() == [] and len(net) == 0


def test_keys_of_nested_containers_are_torchs():
    ours, theirs = nested(nn, nn.Skip, nn.Concatenate), nested(torch.nn, TorchSkip, TorchConcatenate)
    assert list(ours.state_dict()) == list(theirs.state_dict())


# ---------------------------------------------------------------------------------------------------------- errors


def test_an_error_names_every_position_on_the_way():
    net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh(), nn.Conv2d(5, 6, 3)))
    with pytest.raises(RuntimeError, match=r"Sequential\[1\]: Sequential\[1\]: Conv2d\(5 -> 6, 3x3\): expected input"):
        net.forward(torch.randn(2, 4, 8, 8))


def test_an_error_in_backward_names_the_position():
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 6, 3))
    net.forward(torch.randn(2, 4, 8, 8))
    with pytest.raises(RuntimeError, match=r"Sequential\[1\]: Conv2d\(4 -> 6, 3x3\)"):
        net.backward(torch.randn(2, 6, 5, 6))


@pytest.mark.parametrize("net", nets(), ids=lambda net: type(net).__name__)
@pytest.mark.parametrize("method", ["backward", "accumulate"])
def test_backward_before_forward_names_the_container(net, method):
    with pytest.raises(RuntimeError, match=f"^{type(net).__name__}.*before forward"):
        getattr(net, method)(image(2, 4, 6, 7))


@pytest.mark.parametrize("net", nets(), ids=lambda net: type(net).__name__)
def test_eval_saves_nothing_anywhere(net):
    x = image(2, 4, 6, 7)
    expected = net.forward(x)
    assert all(module.saved is not None for module in net.modules())
    net.eval()
    assert all(module.saved is None for module in net.modules())
    assert torch.equal(net.forward(x), expected)
    assert all(module.saved is None for module in net.modules())
    with pytest.raises(RuntimeError, match="eval mode"):
        net.backward(expected)
    net.train().forward(x)
    net.backward(torch.randn_like(expected))


def test_bodies_of_the_wrong_shape():
    x = torch.randn(2, 4, 6, 6)
    for body in (nn.Conv2d(4, 3, 1), nn.Conv2d(4, 4, 3)):
        with pytest.raises(RuntimeError, match="Skip"):
            nn.Skip(body).forward(x)
    with pytest.raises(RuntimeError, match="Concatenate"):
        nn.Concatenate(nn.Conv2d(4, 3, 3)).forward(x)


def test_inplace_activations_do_not_reach_the_callers_input():
    """The first layer of a chain makes a tensor of its own; only then may an in-place layer follow."""
    net, x = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(inplace=True), nn.Identity()), torch.randn(2, 2, 3, 3)
    before = x.clone()
    net.forward(x)
    assert torch.equal(x, before)


# ----------------------------------------------------------------------------------------------------- small modules


@pytest.mark.parametrize("args", [(), (0,), (1, 2), (-2, -1), (2,)])
def test_flatten_equals_torch(args):
    compare(nn.Flatten(*args), torch.nn.Flatten(*args), image(2, 3, 4, 5))
    compare(nn.Flatten(*args), torch.nn.Flatten(*args), image(5, 4, 3, 2).permute(3, 2, 1, 0))


def test_identity_equals_torch_and_takes_any_arguments():
    compare(nn.Identity(54, unused=0.1), torch.nn.Identity(54, unused=0.1), image(2, 3))
    with pytest.raises(RuntimeError, match="Identity"):
        nn.Identity().backward(image(2))


def test_add_and_concat():
    x, y = torch.randn(2, 3, 4, 5), torch.randn(2, 2, 4, 5)
    add, concat = nn.Add(), nn.Concat()
    assert torch.equal(add.forward(x, 2 * x, x), 4 * x)
    assert all(torch.equal(g, x) for g in add.backward(x))
    joined = concat.forward(x, y)
    assert torch.equal(joined, torch.cat((x, y), 1))
    assert all(torch.equal(g, part) for g, part in zip(concat.backward(joined), (x, y), strict=True))
