"""A pretended GPU for machines without one: its tensors say cuda:0, compute on the CPU, and refuse what CUDA refuses.

    with simulated_gpu() as gpu:
        x = torch.randn(4, 3).to(gpu.device)
        x.argmax().item()
    gpu.waits  # one text for each time the host waited: the operation, and the line of the project that asked for it

Tensors of two devices do not mix, nor does NumPy read the GPU's. A wait is a copy from or to ordinary memory that is
not `non_blocking`, and an operation whose result the host must know: a number, a truth, a shape that depends on values.
A copy from the GPU that nobody waits for is an error. Streams exist and do nothing. Half precision, cuDNN and NCCL are
not pretended: autocast and scaling are off.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from data.images.loader import side_stream
from utils.device import constant

GPU = torch.device("cuda", 0)
ROOT = Path(__file__).parent.parent
MADE_FROM_NUMBERS = (torch.tensor, torch.as_tensor)
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
HOST_ASKS = {
    "_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "bincount",
    "_unique", "_unique2", "unique_dim", "unique_consecutive",
}  # fmt: skip


class Gpu:
    """What happened on the device so far."""

    device = GPU

    def __init__(self):
        self.waits: list[str] = []

    def wait(self, what: str) -> None:
        self.waits.append(f"{what}, {_asking_line()}")


_gpu = Gpu()


class GpuTensor(Tensor):
    """A tensor on the pretended GPU; `inner` holds its numbers."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> GpuTensor:
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        with torch.inference_mode(
            False
        ):  # a wrapper has no numbers to protect, but may be a view of what has been there before
            made = Tensor._make_wrapper_subclass(cls, inner.shape, device="cpu", **layout)
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)

    def __repr__(self) -> str:
        return f"GpuTensor({self.inner})"

    def cpu(self) -> Tensor:
        _gpu.wait("copy from the GPU")
        return self.inner.detach().clone()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self) -> None:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def record_stream(self, stream: Stream) -> None:
        pass

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func._schema.name.removeprefix("aten::")
        if name == "copy_":
            return _copy_into(*args, **kwargs)
        _require_one_device(name, args, kwargs)
        if name in HOST_ASKS or name == "repeat_interleave" and kwargs.get("output_size") is None:
            _gpu.wait(name)
        given = {id(tensor.inner): tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, GpuTensor)}
        kwargs = {key: value for key, value in kwargs.items() if key != "device"}
        found = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        # What an operation wrote to in place is the tensor that it was given.
        return tree_map(lambda x: given[id(x)] if id(x) in given else _on_gpu(x), found)


class Placing(TorchFunctionMode):
    """Moves tensors to the GPU and makes them there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is Tensor.to:
            kwargs.pop("copy", None)
            tensor, *wanted = args
            if wanted and isinstance(wanted[0], Tensor):  # as that one is
                wanted[:1] = wanted[0].device, wanted[0].dtype
            return _moved(tensor, *torch._C._nn._parse_to(*wanted, **kwargs))
        if kwargs.get("device") is None or torch.device(kwargs["device"]).type != "cuda":
            return func(*args, **kwargs)
        del kwargs["device"]
        made = func(*args, **kwargs)
        if isinstance(made, GpuTensor):
            return made
        if func in MADE_FROM_NUMBERS:
            _gpu.wait("copy to the GPU")
        return GpuTensor(made)


class Stream:
    """A stream, and the event that it records."""

    def __init__(self, device: torch.device):
        pass

    def record_event(self) -> Stream:
        return self

    def wait_event(self, event: Stream) -> None:
        pass


@contextmanager
def simulated_gpu() -> Iterator[Gpu]:
    """The device, and the waits within the block. What was kept for another device of that name is forgotten."""
    kept = (constant, side_stream)
    _gpu.waits = []
    streams = {"Stream": Stream, "stream": lambda stream: nullcontext(), "current_stream": Stream}
    for function in kept:
        function.cache_clear()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a parameter cannot become another kind of tensor
    try:
        with mock.patch.multiple(torch.cuda, **streams), Placing():
            yield _gpu
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        for function in kept:
            function.cache_clear()


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, GpuTensor) else value


def _on_gpu(value: Any) -> Any:
    return GpuTensor(value) if isinstance(value, Tensor) else value


def _moved(tensor: Tensor, device, dtype, non_blocking: bool, layout) -> Tensor:
    here = isinstance(tensor, GpuTensor)
    there = here if device is None else device.type == "cuda"
    change: dict[str, Any] = {"dtype": dtype or tensor.dtype}
    if layout is not None:
        change["memory_format"] = layout
    if here == there:
        return Tensor.to(tensor, **change)
    if not non_blocking:
        _gpu.wait(f"copy {'to' if there else 'from'} the GPU")
    elif here:
        raise RuntimeError(f"a copy from the GPU that nobody waits for, {_asking_line()}")
    copied = _inner(tensor).detach().clone().to(**change)
    return GpuTensor(copied) if there else copied


def _copy_into(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    if isinstance(target, GpuTensor) != isinstance(source, GpuTensor) and not non_blocking:
        _gpu.wait("copy from or to the GPU")
    _inner(target).copy_(_inner(source))
    return target


def _require_one_device(name: str, args: tuple, kwargs: dict) -> None:
    """RuntimeError for a tensor of the CPU that is not a single number. Indices may be: they are copied, blocking."""
    foreign = [
        x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and not isinstance(x, GpuTensor) and x.dim()
    ]
    if name in INDEXING and isinstance(args[0], GpuTensor):
        indices = [x for x in args[1] if x is not None]
        if any(x.dtype == torch.bool for x in indices):
            _gpu.wait("nonzero")
        if any(not isinstance(x, GpuTensor) for x in indices):
            _gpu.wait("copy to the GPU")
        foreign = [x for x in foreign if not any(x is index for index in indices)]
    if foreign:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, {_asking_line()}")


def _asking_line() -> str:
    """The innermost line of the project, its tests left out."""
    frame = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] not in ("tests", ".venv"):
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "a test"
