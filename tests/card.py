"""A simulated card, for machines without one: tensors on it compute on the processor, but refuse to meet others."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map

CARD = torch.device("meta")  # stands for the card: a device that torch knows on every machine
CARD_TYPE = "torch.card.FloatTensor"  # what a tensor's type is called there, as torch.cuda.FloatTensor
aten = torch.ops.aten
# Their second argument, indices, may be on the processor with a real card, too.
INDEXING = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)


class LeftBehind(AssertionError):
    """An operation with tensors of the card and of the processor. A real card raises RuntimeError."""


class CardTensor(torch.Tensor):
    """A tensor on the card; `inner` has its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "CardTensor":
        options = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(cls, inner.shape, device=CARD, **options)
        tensor.inner = inner
        return tensor

    def __format__(self, spec: str) -> str:
        return format(self.inner, spec)

    @classmethod
    def __torch_dispatch__(
        cls, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Callable, args: tuple, kwargs: dict) -> Any:
    """One operation, where its tensors are. Raises LeftBehind where they are in two places (a number may be)."""
    tensors: list[torch.Tensor] = []
    asked = (args[:1] + args[2:], kwargs) if func in INDEXING else (args, kwargs)
    tree_map(lambda x: tensors.append(x) if isinstance(x, torch.Tensor) else x, asked)
    there = [isinstance(x, CardTensor) for x in tensors]
    if func not in (aten._to_copy.default, aten.copy_.default) and any(there):
        left = [tuple(x.shape) for x, on in zip(tensors, there, strict=True) if not on and x.dim()]
        if left:
            raise LeftBehind(f"{func} got a tensor {left[0]} that was left on the processor")
    target = any(there) if kwargs.get("device") is None else torch.device(kwargs["device"]) == CARD
    if func is aten.copy_.default:
        target = there[0]
    if kwargs.get("device") is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    inner_args, inner_kwargs = tree_map(lambda x: x.inner if isinstance(x, CardTensor) else x, (args, kwargs))
    out = func(*inner_args, **inner_kwargs)
    if not target:
        return out
    out = tree_map(lambda x: CardTensor(x) if isinstance(x, torch.Tensor) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if any(there) else out


class Operations(TorchDispatchMode):
    """Sends every operation through `compute`."""

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return compute(func, args, kwargs or {})


class Functions(TorchFunctionMode):
    """What is decided before there is an operation: tensors made from numbers, and the names of types."""

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = torch.device(kwargs.pop("device"))
            return func(*args, **kwargs).to(device)
        if func is torch.Tensor.tolist and isinstance(args[0], CardTensor):
            return args[0].inner.tolist()
        if func is torch.Tensor.new_tensor and isinstance(args[0], CardTensor):
            return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)).to(CARD)
        if func is torch.Tensor.type and isinstance(args[0], CardTensor) and len(args) == 1:
            return CARD_TYPE
        if func is torch.Tensor.type and args[1:] == (CARD_TYPE,):
            return args[0].to(CARD).float()
        return func(*args, **kwargs)


@contextlib.contextmanager
def simulated_card() -> Iterator[torch.device]:
    """Inside, torch computes on the card's device that it yields as on one of its own."""
    with Operations(), Functions():
        yield CARD
