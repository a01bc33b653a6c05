"""Tape against torch's autograd, on fixed and on random graphs."""

import copy
import operator
import pickle
import random
import re
import threading
import weakref

import pytest
import torch
from comparison import close
from torch._subclasses import FakeTensorMode

from others import nn


def image(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def twin(module):
    """The torch.nn module with the same weights."""
    kind = {"TransposeConv2d": "ConvTranspose2d", "MSE": "MSELoss"}.get(type(module).__name__, type(module).__name__)
    if kind == "Sequential":
        return torch.nn.Sequential(*map(twin, module))
    if kind == "Add":
        return lambda *inputs: sum(inputs)
    if kind == "Concat":
        return lambda *inputs: torch.cat(inputs, module.dim)
    names = {
        "Conv2d": ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
        "ConvTranspose2d": ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
        "Linear": ("in_features", "out_features"),
        "MaxPool2d": ("kernel_size", "stride"),
    }.get(kind, ())
    theirs = getattr(torch.nn, kind)(*[getattr(module, name) for name in names])
    theirs.double().load_state_dict(module.state_dict())
    return theirs


def compare(modules, function, inputs, rounds=2):
    """function(modules, *inputs) returns the outputs; upstream gradients are random, parameters' accumulate."""
    modules = [module.to(torch.float64) for module in modules]
    twins = [twin(module) for module in modules]
    inputs = [input.requires_grad_() for input in inputs]
    for _ in range(rounds):
        expected = function(twins, *inputs)
        upstream = [torch.randn_like(output) for output in expected]
        wanted = torch.autograd.grad(expected, inputs, upstream, retain_graph=True, allow_unused=True)
        torch.autograd.backward(expected, upstream, inputs=parameters(twins) or None)
        with nn.Tape() as tape:
            outputs = function(modules, *inputs)
        torch.testing.assert_close(tuple(outputs), tuple(expected))
        found = tape.backward(outputs, upstream, inputs)
        for mine, other in zip(found, wanted, strict=True):
            assert (mine is None) == (other is None)
            assert mine is None or torch.allclose(mine, other, rtol=1e-9, atol=1e-11)
    pairs = [pair for module in modules for pair in module.param()]
    for (_, gradient), parameter in zip(pairs, parameters(twins), strict=True):
        other = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(gradient, other, rtol=1e-9, atol=1e-11)


def parameters(twins):
    return [p for module in twins if isinstance(module, torch.nn.Module) for p in module.parameters()]


# ------------------------------------------------------------------------------------------------------- graphs


def test_a_network_and_its_loss():
    net = nn.Sequential(nn.Conv2d(2, 3, (3, 2), stride=2), nn.ReLU(), nn.TransposeConv2d(3, 2, (2, 3)), nn.Sigmoid())
    compare([net, nn.MSE()], lambda m, x, t: [m[1](m[0](x), t.detach())], [image(2, 2, 7, 6), image(2, 2, 4, 5)])


def test_a_module_used_twice_keeps_two_states():
    conv = nn.Conv2d(3, 3, (3, 1), padding=(1, 0))
    compare([conv, nn.Tanh()], lambda m, x: [m[1](m[0](m[1](m[0](x))))], [image(2, 3, 5, 4)])


def test_a_chain_used_twice_keeps_two_states():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Tanh(), nn.Conv2d(3, 3, (1, 3), padding=(0, 1)))
    compare([net, nn.Add()], lambda m, x: [m[1](m[0](x), m[0](m[0](x)), x)], [image(2, 3, 5, 4)])


def test_one_tensor_twice_in_one_call():
    compare([nn.Add(), nn.Tanh(), nn.Concat()], lambda m, x: [m[2](m[0](x, x, m[1](x)), x, x)], [image(2, 3, 4, 5)])


def test_shared_inputs_and_several_outputs():
    modules = [nn.Conv2d(2, 3, (1, 3)), nn.Linear(5, 4), nn.MaxPool2d((2, 3), 1), nn.Sigmoid()]

    def two_heads(m, x):
        trunk = m[3](m[0](x))
        return m[1](trunk), m[2](trunk), trunk

    compare(modules, two_heads, [image(2, 2, 4, 7)])


def test_an_input_that_does_not_matter_has_no_gradient():
    compare([nn.Conv2d(2, 3, 2)], lambda m, x, y: [m[0](y)], [image(2, 2, 4, 3), image(2, 2, 3, 4)])


def random_graph(seed):
    """A function of (modules, x, y) that calls the modules on random earlier tensors, all (2, 3, 5, 4)."""

    def graph(modules, *inputs):
        draw, values = random.Random(seed), list(inputs)
        conv_a, conv_b, merge, tanh, sigmoid, add, concat, net = modules
        makers = [
            lambda a, b, c: conv_a(a),
            lambda a, b, c: conv_b(tanh(a)),
            lambda a, b, c: merge(concat(a, b)),
            lambda a, b, c: add(a, b, c),
            lambda a, b, c: sigmoid(add(a, b)),
            lambda a, b, c: net(a),
            lambda a, b, c: tanh(a),
        ]
        for _ in range(draw.randint(4, 12)):
            values.append(draw.choice(makers)(*draw.choices(values, k=3)))
        return values[-1], draw.choice(values[2:])

    return graph


@pytest.mark.parametrize("seed", range(25))
def test_random_graphs(seed):
    modules = [
        nn.Conv2d(3, 3, (3, 1), padding=(1, 0)), nn.Conv2d(3, 3, 1), nn.Conv2d(6, 3, 1), nn.Tanh(), nn.Sigmoid(),
        nn.Add(), nn.Concat(), nn.Sequential(nn.Conv2d(3, 2, 2), nn.Tanh(), nn.TransposeConv2d(2, 3, 2)),
    ]  # fmt: skip
    compare(modules, random_graph(seed), [image(2, 3, 5, 4), image(2, 3, 5, 4)])


class Residual(nn.Module):
    """Has only a forward; one of its children is such a module too."""

    def __init__(self, inner=None):
        self.conv, self.inner, self.add = nn.Conv2d(2, 2, (1, 3), padding=(0, 1)), inner or nn.Tanh(), nn.Add()

    def forward(self, input):
        return self.add(self.inner(self.conv(input)), self.conv(input), input)


def test_a_module_with_only_a_forward_is_recorded_through_its_calls():
    net, x, upstream = Residual(Residual()).to(torch.float64), image(2, 2, 4, 5).requires_grad_(), image(2, 2, 4, 5)
    with nn.Tape() as tape:
        output = net(x)
    (found,) = tape.backward(output, upstream, [x])

    def expected(level, x):
        conv = twin(level.conv)
        convolved = conv(x)
        inner = expected(level.inner, convolved) if isinstance(level.inner, Residual) else convolved.tanh()
        twins.append((level.conv, conv))
        return inner + convolved + x

    twins = []
    expected(net, x).backward(upstream)
    torch.testing.assert_close(found, x.grad)
    for conv, theirs in twins:
        torch.testing.assert_close(conv.weight_grad, theirs.weight.grad)
        torch.testing.assert_close(conv.bias_grad, theirs.bias.grad)


class Squared(nn.Module):
    """Has a backward of its own, and a child that keeps the state: sigmoid(conv(x))."""

    def __init__(self):
        self.conv, self.sigmoid = nn.Conv2d(2, 2, (2, 1), dtype=torch.float64), nn.Sigmoid()

    def forward(self, input):
        return self.sigmoid(self.conv(input))

    def backward(self, grad_output):
        return self.conv.backward(self.sigmoid.backward(grad_output))


def test_a_module_with_its_own_backward_is_one_call_whose_children_are_put_back_too():
    module, x, upstream = Squared(), image(2, 2, 5, 4).requires_grad_(), image(2, 2, 3, 4)
    with nn.Tape() as tape:
        output = module(module(x))
        assert len(tape.calls) == 2
    (found,) = tape.backward(output, upstream, [x])
    conv = twin(module.conv)
    conv(conv(x).sigmoid()).sigmoid().backward(upstream)
    torch.testing.assert_close(found, x.grad)
    torch.testing.assert_close(module.conv.weight_grad, conv.weight.grad)


class Recomputed(nn.Module):
    """Saves its input only, and calls its child again in backward."""

    def __init__(self, body):
        self.body = body

    def forward(self, input):
        self.save(input)
        return self.body(input)

    def backward(self, grad_output):
        self.body(*self.recall())
        return self.body.backward(grad_output)


def test_what_a_module_calls_in_its_backward_is_not_recorded():
    linear, x = nn.Linear(3, 3), torch.randn(2, 3)
    module = Recomputed(linear)
    with nn.Tape() as tape:
        output = module(module(x))
    upstream = torch.randn_like(output)
    with nn.Tape() as other:
        (found,) = tape.backward(output, upstream, [x])
    assert not other.calls
    weight = linear.weight
    torch.testing.assert_close(found, upstream @ weight @ weight)
    torch.testing.assert_close(linear.weight_grad, upstream.T @ linear(x) + (upstream @ weight).T @ x)


def test_gradients_in_the_middle_can_be_asked_for():
    conv, tanh, x = nn.Conv2d(2, 3, 2, dtype=torch.float64), nn.Tanh(), image(2, 2, 4, 3)
    with nn.Tape() as tape:
        middle = conv(x)
        output = tanh(middle)
    upstream = image(*output.shape)
    found, of_x = tape.backward(output, upstream, [middle, x])
    torch.testing.assert_close(found, upstream * (1 - output * output))
    conv.forward(x)
    torch.testing.assert_close(of_x, conv.backward(found))


class Unchanged(nn.Module):
    def forward(self, input):
        self.save()
        return input

    def backward(self, grad_output):
        return grad_output * 3


def test_a_module_may_return_its_input():
    module, add, x = Unchanged(), nn.Add(), image(2, 3)
    with nn.Tape() as tape:
        output = add(module(x), x)
    upstream = image(2, 3)
    torch.testing.assert_close(tape.backward(output, upstream, [x])[0], upstream * 4)


def test_gradients_handed_out_are_not_written_into():
    add, identity, x, upstream = nn.Add(), nn.Identity(), image(2, 3), image(2, 3)
    before = upstream.clone()
    with nn.Tape() as tape:
        output = add(identity(x), x, x)
    torch.testing.assert_close(tape.backward(output, upstream, [x])[0], before * 3)
    assert torch.equal(upstream, before)


def test_temporary_tensors_are_not_confused():
    identity, add = nn.Identity(), nn.Add()
    x = image(4)
    with nn.Tape() as tape:
        total = x
        for _ in range(50):
            total = add(identity(identity(x)), total)
    torch.testing.assert_close(tape.backward(total, torch.ones_like(x), [x])[0], torch.full_like(x, 51))


# -------------------------------------------------------------------------------------------------- economy, order


def counting(kind, *arguments):
    """A module that notes which of its methods were called."""

    class Counting(kind):
        def backward(self, grad_output):
            self.notes.append("backward")
            return super().backward(grad_output)

        def accumulate(self, grad_output):
            self.notes.append("accumulate")
            return super().accumulate(grad_output)

    module = Counting(*arguments)
    module.notes = []
    return module


def test_only_needed_gradients_are_computed():
    enlarge, first, second = counting(nn.NearestUpsampling, 2), counting(nn.Linear, 8, 3), counting(nn.Linear, 3, 2)
    unused = counting(nn.Tanh)
    with nn.Tape() as tape:
        hidden = first(enlarge(torch.randn(2, 2, 3, 4)))
        unused(hidden)
        output = second(hidden)
    tape.backward(output, torch.randn_like(output))
    assert (enlarge.notes, unused.notes) == ([], [])
    assert first.notes == ["accumulate"]
    assert second.notes == ["backward", "accumulate"]  # Linear.backward calls accumulate


def test_the_graph_is_freed():
    linear, identity = nn.Linear(3, 2), nn.Identity()
    with nn.Tape() as tape:
        hidden = identity(linear(torch.randn(4, 3)))
        loss = nn.MSE()(hidden, torch.zeros(4, 2))
    alive = weakref.ref(hidden)
    del hidden
    assert alive() is not None
    tape.backward(loss)
    assert alive() is None
    before = linear.weight_grad.clone()
    with pytest.raises(RuntimeError, match="called before"):
        tape.backward(loss)
    assert torch.equal(linear.weight_grad, before)


class Remembering(nn.Module):
    """Returns its input and notes, going backward, how many of the tensors that it has seen so far are alive."""

    def __init__(self, seen):
        self.seen, self.alive = seen, []

    def forward(self, input):
        self.save(kept := input.clone())
        self.seen.append(weakref.ref(kept))
        return kept

    def backward(self, grad_output):
        self.recall()
        self.alive.append(sum(ref() is not None for ref in self.seen))
        return grad_output


def test_what_forward_saved_is_freed_while_the_tape_is_read():
    seen = []
    layers = [Remembering(seen) for _ in range(5)]
    linear, chain = nn.Linear(3, 3), nn.Sequential(nn.Skip(nn.Sequential(layers[1], layers[2])), layers[3])
    with nn.Tape() as tape:
        loss = nn.MSE()(layers[4](chain(linear(layers[0](torch.randn(2, 3))))), torch.zeros(2, 3))
    assert all(module.saved is None for module in (*chain.modules(), linear, *layers))  # it is on the tape
    tape.backward(loss)
    assert [layer.alive for layer in layers] == [[], [2], [3], [4], [5]]  # nobody needs the first one's
    assert not any(ref() is not None for ref in seen)
    assert all(module.saved is None for module in (*chain.modules(), linear, *layers))
    with pytest.raises(RuntimeError, match="forward first"):
        chain.backward(torch.ones(2, 3))


def test_what_a_forgotten_tape_saved_is_freed():
    seen = []
    with nn.Tape() as tape:
        nn.Sequential(Remembering(seen), nn.Linear(3, 3))(torch.randn(2, 3))
    del tape
    assert seen[0]() is None


def test_a_tape_can_be_used_again():
    linear, criterion, x, target = nn.Linear(3, 2), nn.MSE(), torch.randn(4, 3), torch.randn(4, 2)
    gradients, tape = [], nn.Tape()
    for _ in range(2):
        with tape:
            for _ in range(2):  # backward inside of the block: recording goes on
                tape.backward(criterion(linear(x), target))
        gradients.append(linear.weight_grad.clone())
    torch.testing.assert_close(gradients[1], 2 * gradients[0])
    assert gradients[0].abs().sum() > 0


def test_one_input_needs_no_list():
    linear, x = nn.Linear(3, 2), torch.randn(4, 3)
    with nn.Tape() as tape:
        y = linear(x)
    (gradient,) = tape.backward(y, torch.ones(4, 2), inputs=x)
    torch.testing.assert_close(gradient, linear.weight.sum(0).expand(4, 3))


def test_a_tensor_that_was_overwritten_is_not_used_again():
    """torch would give the gradient of what now stands in it; here its identity leads to what stood there before."""
    conv, relu, add = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Add()
    with nn.Tape() as tape:
        a = conv(torch.randn(2, 3, 4, 5))
        b = relu(a)
        with pytest.raises(RuntimeError, match=r"Add\(\) got a tensor that was written in place"):
            add(a, b)
        y = add(b, b)
    with pytest.raises(RuntimeError, match="backward got a tensor that was written in place"):
        tape.backward(a, torch.ones_like(a))
    tape.backward(y, torch.ones_like(y))
    close = torch.testing.assert_close
    close(conv.bias_grad, 2 * (b > 0).sum((0, 2, 3)).float())


def test_what_was_read_before_it_was_overwritten_has_its_gradient():
    class Net(nn.Module):
        def __init__(self):
            self.conv, self.relu, self.add = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Add()

        def forward(self, x):
            a = self.conv(x)
            before = self.add(a, x)
            return self.add(before, self.relu(a))

    nn.gradcheck(Net().to(torch.float64), image(2, 3, 4, 5))


# -------------------------------------------------------------------------------------------------- what is recorded


def test_nothing_is_recorded_outside_and_nothing_saved_in_eval_mode():
    linear, x = nn.Linear(3, 2), torch.randn(4, 3)
    with nn.Tape() as tape:
        linear.eval()(x)
        assert [(call.module, call.states) for call in tape.calls] == [(None, [])]  # a line that can only complain
    tape = nn.Tape()
    linear.train()(x)
    assert not tape.calls
    with tape:
        linear(x)
        assert len(tape.calls) == 1


def test_an_error_ends_the_recording():
    linear, tape = nn.Linear(3, 2), nn.Tape()
    with pytest.raises(RuntimeError, match="expected input"), tape:
        linear(torch.randn(4, 2))
    linear(torch.randn(4, 3))
    assert not tape.calls


def test_the_inner_of_two_tapes_records():
    linear, x = nn.Linear(3, 2), torch.randn(4, 3)
    with nn.Tape() as outer:
        linear(x)
        with nn.Tape() as inner:
            linear(x)
            linear(x)
        linear(x)
    assert (len(outer.calls), len(inner.calls)) == (2, 2)


def test_each_thread_has_its_own_tape():
    barrier, results = threading.Barrier(4, timeout=60), {}

    def work(seed):
        linear, x = nn.Linear(3, 2, dtype=torch.float64), image(4, 3)
        with nn.Tape() as tape:
            for _ in range(20):
                barrier.wait()
                output = linear(x)
        recorded = len(tape.calls)
        tape.backward(output, torch.ones_like(output))
        results[seed] = recorded, torch.allclose(linear.weight_grad, x.sum(0).expand(2, 3))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    with nn.Tape() as tape:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not tape.calls
    assert results == dict.fromkeys(range(4), (20, True))


def test_named_arguments_count_in_the_order_of_forward():
    linear, criterion, x, target = nn.Linear(3, 2), nn.MSE(), torch.randn(4, 3), torch.randn(4, 2)
    with nn.Tape() as tape:
        loss = criterion(target=target, input=linear(input=x))
    tape.backward(loss)
    linear.accumulate(2 * (linear(x) - target) / -8)  # minus the gradient, added to it
    assert linear.weight_grad.abs().max() < 1e-6 < x.abs().max()


class Scaled(nn.Module):
    """input + 2 other, both optional in their places."""

    def forward(self, input=None, scale=None, other=None, *, mask=None):
        return input + 2 * other

    def backward(self, grad_output):
        return grad_output, None, 2 * grad_output


def test_a_named_tensor_behind_arguments_that_are_not_given_has_its_gradient():
    linear, x = nn.Linear(3, 2), torch.randn(4, 3)
    gradients = []
    for call in (lambda scaled, y: scaled(x[:, :2], None, y), lambda scaled, y: scaled(x[:, :2], other=y)):
        linear.zero_grad()
        with nn.Tape() as tape:
            output = call(Scaled(), linear(x))
        tape.backward(output, torch.ones(4, 2))
        gradients.append(linear.weight_grad.clone())
    assert torch.equal(*gradients)
    torch.testing.assert_close(gradients[0], 2 * x.sum(0).expand(2, 3))


def test_a_tensor_that_can_only_be_named_is_refused():
    linear, x = nn.Linear(3, 2), torch.randn(4, 3)
    with nn.Tape(), pytest.raises(RuntimeError, match="takes a tensor by keyword alone"):
        Scaled()(x[:, :2], None, linear(x), mask=x)


def test_it_works_with_and_without_grad_mode():
    linear, x = nn.Linear(3, 2), torch.randn(4, 3, requires_grad=True)
    gradients = []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), nn.Tape() as tape:
            output = linear(x)
            gradients += tape.backward(output, torch.ones_like(output), [x])
    assert torch.equal(*gradients)
    assert not any(tensor.requires_grad for tensor in (*gradients, output, linear.weight_grad))


# ------------------------------------------------------------------------------------------------------- refusals


def test_an_unknown_output_is_refused():
    linear, criterion, x = nn.Linear(3, 2), nn.MSE(), torch.randn(4, 3)
    with nn.Tape() as tape:
        y = linear(x)
        loss = criterion(y * 2, torch.zeros(4, 2))  # y * 2 is arithmetic that no module has made
    for output in (loss, y * 2, linear(x)):
        with pytest.raises(RuntimeError, match="no gradient"):
            tape.backward(output, torch.ones_like(output))
    tape.backward(y, torch.ones_like(y))  # a refusal frees nothing


def test_an_evaluating_network_is_noticed():
    with nn.Tape() as tape:
        loss = nn.MSE()(nn.Linear(3, 2).eval()(torch.randn(4, 3)), torch.zeros(4, 2))
    with pytest.raises(RuntimeError, match="training mode"):
        tape.backward(loss)


def test_a_target_that_needs_a_gradient_is_refused_and_a_detached_one_is_not():
    linear, criterion, x = nn.Linear(3, 3), nn.MSE(), torch.randn(4, 3)
    with nn.Tape() as tape:
        loss = criterion(linear(x), linear(linear(x)))
    with pytest.raises(RuntimeError, match="detach"):
        tape.backward(loss)
    with nn.Tape() as tape:
        loss = criterion(linear(x), linear(linear(x)).detach())
    tape.backward(loss)


def test_an_output_of_many_numbers_needs_grad_outputs():
    with nn.Tape() as tape:
        output = nn.Linear(3, 2)(torch.randn(4, 3))
    with pytest.raises(RuntimeError, match="grad_outputs"):
        tape.backward(output)
    with pytest.raises(ValueError):
        tape.backward([output], [])


@pytest.mark.parametrize("direct", [nn.Tanh(), nn.Linear(3, 3), nn.Sequential(nn.Tanh()), nn.MSE()], ids=repr)
def test_a_forward_past_the_tape_is_an_error_that_says_how_to_call(direct):
    x = torch.randn(2, 3)
    with nn.Tape(), pytest.raises(RuntimeError, match=r"module\(input\), not module.forward\(input\)"):
        direct.forward(*[x] * (1 + isinstance(direct, nn.MSE)))
    direct.eval().forward(*[x] * (1 + isinstance(direct, nn.MSE)))


def test_part_of_a_gradient_is_not_lost_in_a_module_of_ones_own():
    class Twice(nn.Module):
        def __init__(self):
            self.body, self.add = nn.Linear(3, 3), nn.Add()

        def forward(self, input):
            once = self.body.forward(input)
            return self.add(once, self.body(once))

    with pytest.raises(RuntimeError, match=r"not module\.forward"):
        nn.gradcheck(Twice(), image(2, 3))


def test_a_parameter_as_an_input_gets_that_gradient_too():
    """A penalty on a weight, beside what the layer itself adds."""
    layer, x, target = nn.Linear(3, 2).to(torch.float64), image(4, 3), image(4, 2)
    theirs = twin(layer)
    with nn.Tape() as tape:
        loss = nn.Add()(nn.MSE()(layer(x), target), nn.MSE()(layer.weight, torch.zeros(2, 3, dtype=torch.float64)))
    (dw,) = tape.backward(loss, inputs=[layer.weight])
    mse = torch.nn.functional.mse_loss
    (mse(theirs(x), target) + theirs.weight.square().mean()).backward()
    close(layer.weight_grad, theirs.weight.grad)
    close(layer.bias_grad, theirs.bias.grad)
    close(dw, layer.weight / 3)


def test_backward_of_a_recorded_tensor_says_what_to_call():
    with nn.Tape() as tape:
        loss = nn.MSE()(nn.Linear(3, 2)(torch.randn(4, 3)), torch.zeros(4, 2))
    with pytest.raises(RuntimeError, match=r"tape.backward\(loss\)"):
        loss.backward()
    tape.backward(loss)


def test_gradients_in_a_list_are_those_in_a_tuple():
    class Product(nn.Module):
        def forward(self, a, b):
            self.save(a.detach(), b.detach())
            return a * b

        def backward(self, grad_output):
            a, b = self.recall()
            return [grad_output * b, grad_output * a]

    assert len(nn.gradcheck(Product(), image(2, 3), image(2, 3))) == 2


def test_two_tensors_from_one_call_are_refused():
    with nn.Tape(), pytest.raises(RuntimeError, match="expected one tensor"):
        nn.MaxPool2d(2, return_indices=True)(torch.randn(1, 2, 4, 4))


def test_add_and_concat_refuse_shapes_that_do_not_fit():
    with pytest.raises(RuntimeError, match="Add"):
        nn.Add()(torch.randn(2, 3), torch.randn(2, 1))
    with pytest.raises(RuntimeError):
        nn.Concat()(torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 5))
    for module in (nn.Add(), nn.Concat()):
        with pytest.raises(RuntimeError, match="before forward"):
            module.backward(torch.randn(2, 3))


# ------------------------------------------------------------------------------------- no gradient is lost silently


class Half(nn.Module):
    """Has only a forward, with arithmetic in it."""

    def __init__(self):
        self.linear, self.add = nn.Linear(3, 3), nn.Add()

    def forward(self, input):
        return self.add(input, self.linear(input) / 2)


LOST = {
    "in eval mode": ("Linear(3 -> 3) in eval mode", lambda y, add: add(y, nn.Linear(3, 3).eval()(y))),
    "a chain in eval mode": ("Sequential in eval mode", lambda y, add: add(y, nn.Sequential(nn.Tanh()).eval()(y))),
    "a forward in eval mode": ("Half in eval mode", lambda y, add: add(y, Half().eval()(y))),
    "y * 2": ("mul()", lambda y, add: add(y, y * 2)),
    "2 - y": ("rsub()", lambda y, add: add(y, 2 - y)),
    "two steps": ("add()", lambda y, add: add(y, -y + 1)),
    "a slice": ("getitem()", lambda y, add: add(y, y[[1, 0]])),
    "a transposition": ("T()", lambda y, add: nn.Linear(2, 3)(y.T)),
    "a function": ("cat()", lambda y, add: nn.Linear(6, 3)(torch.cat([y, torch.ones(2, 3)], 1))),
    "one of several": ("chunk()", lambda y, add: add(y.chunk(2)[0], y.chunk(2)[1])),
    "inside a forward": ("div()", lambda y, add: Half()(y)),
    "the output itself": ("mul()", lambda y, add: y * 2),
    "added in place": ("add()", lambda y, add: add(y, written(lambda buffer: operator.iadd(buffer, y)))),
    "copied": ("copy()", lambda y, add: add(y, written(lambda buffer: buffer.copy_(y)))),
    "written": ("setitem()", lambda y, add: add(y, written(lambda buffer: operator.setitem(buffer, slice(None), y)))),
    "written to a part": (
        "copy()",
        lambda y, add: add(y, written(lambda buffer: buffer[1].copy_(y[1].detach() + y[0]))),
    ),
    "given as out": ("mul()", lambda y, add: add(y, written(lambda buffer: torch.mul(y, 2, out=buffer)))),
    "in place with a constant": ("mul()", lambda y, add: add(y, torch.ones(2, 3).mul_(y))),
}


def written(write):
    """A plain tensor after write(tensor)."""
    buffer = torch.zeros(2, 3)
    write(buffer)
    return buffer


@pytest.mark.parametrize("name", LOST)
def test_a_gradient_that_would_be_lost_is_an_error_that_names_the_call(name):
    culprit, graph = LOST[name]
    linear, x, upstream = nn.Linear(3, 3), torch.randn(2, 3), torch.randn(2, 3)
    with nn.Tape() as tape:
        y = linear(x)
        output = graph(y, nn.Add())
    with pytest.raises(RuntimeError, match=re.escape(f"Tape: no gradient passes {culprit}")):
        tape.backward(output, upstream[: len(output)])
    assert not linear.weight_grad.any()
    tape.backward(y, upstream)  # the error has changed nothing
    torch.testing.assert_close(linear.bias_grad, upstream.sum(0))


def test_a_requested_input_behind_a_module_in_eval_mode_is_an_error():
    first, second, add, x = nn.Linear(3, 3), nn.Linear(3, 3).eval(), nn.Add(), torch.randn(2, 3)
    with nn.Tape() as tape:
        output = add(first(x), second(x))
    with pytest.raises(RuntimeError, match="in eval mode"):
        tape.backward(output, torch.ones(2, 3), [x])
    tape.backward(output, torch.ones(2, 3))  # without that input all is well
    torch.testing.assert_close(first.weight_grad, x.sum(0).expand(3, 3))


CONSTANTS = {
    "detach": lambda y: (y * 2).detach(),
    "detached before": lambda y: y.detach() * 2,
    "data": lambda y: y.data * 2,
    "zeros_like": lambda y: torch.zeros_like(y) + 1,
    "new_ones": lambda y: y.new_ones(y.shape),
    "a buffer": lambda y: written(lambda buffer: buffer.copy_(y.detach())),
    "a comparison": lambda y: (y.detach() > 0).float(),
    "a frozen module": lambda y: nn.Linear(3, 3).eval()(torch.ones(2, 3)),
    "a module in eval mode": lambda y: nn.Tanh().eval()(y).detach(),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_is_no_error(name):
    linear, add, x, upstream = nn.Linear(3, 3), nn.Add(), torch.randn(2, 3), torch.randn(2, 3)
    with nn.Tape() as tape:
        y = linear(x)
        output = add(y, CONSTANTS[name](y))
        metric = (y * 2 - output).abs().mean()  # looked at, not differentiated
    tape.backward(output, upstream)
    torch.testing.assert_close(linear.weight_grad, upstream.T @ x)
    assert metric.item() >= 0


def test_a_result_of_another_tape_is_a_constant():
    first, second, x = nn.Linear(3, 3), nn.Linear(3, 3), torch.randn(2, 3)
    with nn.Tape() as tape:
        y = first(x)
    with nn.Tape() as later:
        output = second(y)
    later.backward(output, torch.ones(2, 3))
    torch.testing.assert_close(second.weight_grad, y.detach().sum(0).expand(3, 3))
    tape.backward(y, torch.ones(2, 3))
    torch.testing.assert_close(first.weight_grad, x.sum(0).expand(3, 3))


def test_results_are_ordinary_tensors_for_everybody_else():
    with nn.Tape() as tape:
        y = nn.Linear(3, 2)(torch.randn(4, 3))
        inside = y * 2
    (found,) = tape.backward(y, y, [y])
    assert type(found) is torch.Tensor
    assert {type(value) for value in (y * 2, y.detach(), y.T, torch.cat([y, y]), inside + 1)} == {torch.Tensor}
    for twin in (copy.deepcopy(y), pickle.loads(pickle.dumps(y))):
        assert type(twin) is torch.Tensor and torch.equal(twin, y)
    assert repr(y) == repr(y.detach()) and y.tolist() == y.detach().tolist() and y.shape == (4, 2)
    assert torch.equal(nn.Tanh()(y), y.detach().tanh())


def test_fake_tensors_are_recorded_too():
    with FakeTensorMode(), nn.Tape() as tape:
        linear, x = nn.Linear(3, 2), torch.randn(4, 3)
        (found,) = tape.backward(linear(x), torch.ones(4, 2), [x])
        assert found.shape == (4, 3)
