"""A GPU that is not there: shapes and devices are followed through a step, nothing is computed, and waits are noted."""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from conftest import ROOT
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

COPIES = ("aten::_to_copy", "aten::copy_")
BY_MASK = ("aten::index", "aten::index_put", "aten::index_put_")
# What comes out, or how much of it, is known only when the GPU has computed it.
KNOWN_LATE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Waits(TorchDispatchMode):
    """Notes in `found`, with its place, each operation at which the host would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(tensor.is_cuda for tensor in given) and reads(func, args):
            self.note(func)
        result = func(*args, **kwargs)
        if func._schema.name in COPIES and given[-1].device != result.device and not asked_not_to_wait(args, kwargs):
            self.note(func)
        return result

    def note(self, func: Any) -> None:
        ours = f"{ROOT}{os.sep}"
        frames = [
            f for f in traceback.extract_stack() if f.filename.startswith(ours) and "site-packages" not in f.filename
        ]
        own = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
        place = f"{Path(own[-1].filename).relative_to(ROOT)}: {own[-1].line}" if own else "somewhere"
        self.found.append(f"{func._schema.name} in {place}")


def reads(func: Any, args: tuple) -> bool:
    """Return whether an operation ends only when the host has seen values that lie on the GPU."""
    if func._schema.name in BY_MASK:  # masks are counted, places on the CPU sent; one number at a mask is filled in
        places = [place for place in args[1] if place is not None]
        masks = any(place.dtype in (torch.bool, torch.uint8) for place in places)
        return not all(place.is_cuda for place in places) or (masks and not (args[2:] and args[2].numel() == 1))
    return bool(KNOWN_LATE & set(func.tags))


def asked_not_to_wait(args: tuple, kwargs: dict[str, Any]) -> bool:
    """Return whether a copy between devices is one that goes on meanwhile."""
    return bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2]))


@contextmanager
def fake_gpu(waits: Waits) -> Iterator[FakeTensorMode]:
    """Within, tensors have shape, type and device only; cuDNN, which needs a driver, is left aside."""
    mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        with mode, waits:
            yield mode
    finally:
        torch.backends.cudnn.enabled = enabled


def sent(mode: FakeTensorMode, what: Any) -> Any:
    """Return a batch with its tensors on the GPU, or a module whose parameters and buffers are there from now on."""

    def send(tensor: Tensor) -> Tensor:
        return mode.from_tensor(tensor.detach()).to("cuda", non_blocking=True)

    if not isinstance(what, nn.Module):
        return tree_map_only(Tensor, send, what)
    moved: dict[int, Any] = {}  # shared weights stay shared
    for module in what.modules():
        for name, own in module._parameters.items():
            if own is not None:
                moved.setdefault(id(own), nn.Parameter(send(own), own.requires_grad))
                module._parameters[name] = moved[id(own)]
        for name, own in module._buffers.items():
            module._buffers[name] = None if own is None else send(own)
    return what
