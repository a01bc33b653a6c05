"""A second device where there is none: tensors that say "cuda:0" and are refused beside the CPU's as CUDA refuses them,
while the CPU computes them.

    with SecondDevice():
        images = images.to("cuda")

torch's own FakeTensorMode does not carry here: in a torch without CUDA nothing can be moved in it ("not linked with
support for cuda devices"); with "meta" in CUDA's place it lets in-place operations mix devices and refuses
`parameter.data = moved`; and it has no numbers for the places that look at a loss or a weight. Numbers also tell
whether a result is right.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FAR = torch.device("cuda", 0)
aten = torch.ops.aten
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}


class SecondDevice:
    """What lies on it is known by its storage, so views, `data` and what is saved need no care."""

    def __init__(self):
        self.storages = {}  # address: storage, kept so that no other gets the address
        self.modes = Devices(self), Operations(self)

    def __enter__(self):
        for mode in self.modes:
            mode.__enter__()
        return self

    def __exit__(self, *error):
        for mode in reversed(self.modes):
            mode.__exit__(*error)

    def holds(self, tensor):
        return tensor.untyped_storage()._cdata in self.storages

    def put(self, tensor, far):
        storage = tensor.untyped_storage()
        self.storages.pop(storage._cdata, None)
        if far:
            self.storages[storage._cdata] = storage
        return tensor


class Operations(TorchDispatchMode):
    """Operands of both devices are refused, but for numbers of no dimension and indices of the CPU beside tensors of
    the other, and for copies. What is made from tensors of the second device lies on it."""

    def __init__(self, second):
        super().__init__()
        self.second = second

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given, second = tensors((args, kwargs)), self.second
        far = [each for each in given if second.holds(each)]
        if far and func is not aten.copy_.default:
            free = map(id, tensors(args[1]) if func in INDEXED and second.holds(args[0]) else ())
            near = {id(each) for each in given if each.dim() and not second.holds(each)} - set(free)
            if near:
                raise RuntimeError(f"Expected all tensors to be on the same device: {func} got cpu and {FAR}")
        known = [each.untyped_storage()._cdata for each in given]
        result = func(*args, **(kwargs or {}))
        for each in tensors(result) if far else ():
            if each.untyped_storage()._cdata not in known:
                second.put(each, True)
        return result


class Devices(TorchFunctionMode):
    """The device of a tensor, and everything that is told one."""

    def __init__(self, second):
        super().__init__()
        self.second = second

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, second = kwargs or {}, self.second
        far = bool(args) and isinstance(args[0], torch.Tensor) and second.holds(args[0])
        if far and func == torch.Tensor.device.__get__:
            return FAR
        if far and func in (torch.Tensor.is_cuda.__get__, torch.Tensor.is_cpu.__get__):
            return func == torch.Tensor.is_cuda.__get__
        if far and func in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError(f"can't convert {FAR} device type tensor to numpy")
        if func in (torch.Tensor.cpu, torch.Tensor.cuda):
            return self.move(args[0], "cpu" if func is torch.Tensor.cpu else FAR)
        if func is torch.Tensor.to:
            return self.move(*args, **kwargs)
        if kwargs.get("device") is None:
            return func(*args, **kwargs)
        to_far = is_far(kwargs["device"])
        return second.put(func(*args, **{**kwargs, "device": "cpu" if to_far else kwargs["device"]}), to_far)

    def move(self, tensor, *args, device=None, **kwargs):
        """`Tensor.to`, which copies from device to device and else gives what is right as it is."""
        for each in tensors(args):
            device, kwargs["dtype"] = FAR if self.second.holds(each) else each.device, each.dtype
        device = next((each for each in args if isinstance(each, (str, torch.device))), device)
        args = [each for each in args if not isinstance(each, (str, torch.device, torch.Tensor))]
        if not any(isinstance(each, torch.dtype) for each in args):
            kwargs["dtype"] = kwargs.get("dtype") or tensor.dtype
        far = self.second.holds(tensor)
        to_far = far if device is None else is_far(device)
        moved = tensor.to(*args, **{**kwargs, "copy": kwargs.get("copy", False) or far != to_far})
        return moved if moved is tensor else self.second.put(moved, to_far)


def tensors(values):
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]


def is_far(device):
    return torch.device(device).type == FAR.type
