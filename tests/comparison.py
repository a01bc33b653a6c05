"""The comparison most tests make: a block of ours against its counterpart in torch, forward and backward."""

import torch

from others import nn

#: float64 to rounding; float32 and bfloat16 as torch.testing takes them, bfloat16 against the float32 result.
TOLERANCES = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-10},
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
    torch.bfloat16: {"rtol": 4e-2, "atol": 4e-2},
}


def close(ours, theirs, **options):
    """Same shape, dtype and values."""
    torch.testing.assert_close(ours, theirs, **TOLERANCES[theirs.dtype], **options)


def twins(name, *args, dtype=torch.float64, **options):
    """(our layer, torch's layer) made with the same arguments and holding the same weights."""
    ours = getattr(nn, name)(*args, dtype=dtype, **options)
    theirs = getattr(torch.nn, name)(*args, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def upstream(output):
    """A random gradient for this output, never contiguous where it can be otherwise."""
    gradient = torch.randn(*output.shape, 2, dtype=output.dtype).select(-1, 0)
    assert output.numel() < 2 or not gradient.is_contiguous()
    return gradient


def compare(ours, theirs, *inputs, calls=2):
    """Output, gradient of the first input and of every parameter; the parameters' add up over `calls` backwards.

    `theirs` is a torch.nn.Module, or a function that makes one's output. Returns our last output.
    """
    x, *others = inputs
    parameters = dict(theirs.named_parameters()) if isinstance(theirs, torch.nn.Module) else {}
    for _ in range(calls):
        before, leaf = x.detach().clone(), x.detach().requires_grad_()
        expected, output = theirs(leaf, *others), ours.forward(leaf, *others)
        assert not output.requires_grad
        close(output, expected.detach())
        gradient = upstream(expected)
        expected.backward(gradient)
        close(ours.backward(gradient), leaf.grad)
        assert torch.equal(leaf.detach(), before), "the input was written to"
    gradients = {name: pair[1] for (name, _), pair in zip(ours.named_parameters(), ours.param(), strict=True)}
    assert gradients.keys() == parameters.keys()
    for name, parameter in parameters.items():
        close(gradients[name], parameter.grad, msg=lambda text, name=name: f"gradient of {name}: {text}")
    return output


def prescribed_in_torch():
    """The prescribed network with channels (8, 12), written out in torch.nn."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, 2, 2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 12, 3, 2, 1),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(12, 8, 3, 2, 1, output_padding=1),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(8, 3, 5, 2, 2, output_padding=1),
        torch.nn.Sigmoid(),
    )


def mirrored_pad(images, margins):
    """(..., H, W) continued to and fro by (left, right, above, below), as a ball goes between two walls."""

    def places(size, before, after):
        for place in range(-before, size + after):
            while size > 1 and not 0 <= place < size:
                place = -place if place < 0 else 2 * (size - 1) - place
            yield place if size > 1 else 0

    rows = list(places(images.shape[-2], *margins[2:]))
    columns = list(places(images.shape[-1], *margins[:2]))
    return images[..., rows, :][..., columns]
