"""All private names of torch that the program uses, each with a test that fails when torch changes it.

In: nothing; no work is done at import. Out: functions with public names.
"""

import inspect
from typing import Any

import torch
from torch import nn
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling
from torch.utils.data._utils.pin_memory import pin_memory

__all__ = [
    "ExceptionWrapper",
    "computes_in_bf16",
    "foreach_copy_",
    "foreach_div_",
    "foreach_lerp_",
    "group_store",
    "has_step_hooks",
    "is_batch_norm",
    "keep_sigchld_handler",
    "let_iterator_go",
    "mark_as_stepped",
    "pin_memory",
    "pinning_thread",
    "profiler_runs",
    "spare_compiler",
    "with_part",
    "worker_processes",
]

foreach_copy_ = torch._foreach_copy_
foreach_div_ = torch._foreach_div_
foreach_lerp_ = torch._foreach_lerp_


def with_part(divided: Any, part: torch.Tensor) -> Any:
    """Return a tensor divided as another one is, of which this process has this part, perhaps on another device."""
    return type(divided)(part, divided._spec, requires_grad=False)


def group_store() -> Any:
    """Return the store of keys that the processes of a group share."""
    return torch.distributed.distributed_c10d._get_default_store()


def mark_as_stepped(optimizer: torch.optim.Optimizer) -> None:
    """Tell torch that the optimizer's step is called; otherwise schedulers warn."""
    optimizer._opt_called = True  # type: ignore[attr-defined]


def has_step_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether hooks are registered for the optimizer's steps."""
    own = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    module: Any = inspect.getmodule(torch.optim.Optimizer)
    return bool(own or module._global_optimizer_pre_hooks or module._global_optimizer_post_hooks)


def profiler_runs() -> bool:
    """Return whether a profiler records; it needs the label that an optimizer puts on its steps."""
    return torch._C._autograd._profiler_enabled()


def spare_compiler() -> None:
    """Mark an optimizer's methods as exempt from the compiler.

    They are wrapped by torch._disable_dynamo, which imports torch._dynamo (1.7 s) only to leave them as they are.
    """
    kind = torch.optim.Optimizer
    for method in (kind.add_param_group, kind.state_dict, kind.load_state_dict, kind.zero_grad):
        own = inspect.unwrap(method)
        setattr(own, "__dynamo_disable", own)  # torch looks for its result here


BatchNorm = nn.modules.batchnorm._BatchNorm  # of any number of dimensions


def is_batch_norm(module: nn.Module) -> bool:
    """Return whether a layer normalises over the batch, in any number of dimensions."""
    return isinstance(module, BatchNorm)


def computes_in_bf16() -> bool:
    """Return whether this processor computes in bfloat16 itself; False if torch cannot tell."""
    tests = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(test() for test in tests)


def keep_sigchld_handler() -> None:
    """Keep torch from replacing our handler for dead worker processes by its own."""
    signal_handling._SIGCHLD_handler_set = True


def worker_processes(loader: DataLoader) -> list[Any]:
    """Return the processes that read for a loader, in the order of their numbers; none before it is iterated over."""
    return list(getattr(loader._iterator, "_workers", ()))


def pinning_thread(loader: DataLoader) -> Any:
    """Return the thread that pins a loader's batches; None if there is none."""
    return getattr(loader._iterator, "_pin_memory_thread", None)


def let_iterator_go(loader: DataLoader) -> None:
    """Drop a loader's last reference to its iterator, which ends its processes."""
    loader._iterator = None
