"""Networks whose parameters, gradients and optimizer states are divided among the ranks, by torch's FSDP2."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from fnmatch import fnmatchcase

import torch
from torch import nn

from configs import Config
from trainer.task import Task
from utils import dist
from utils.errors import ConfigError

__all__ = ["divide", "reshard", "is_sharded", "standing"]

LISTS = (nn.ModuleList, nn.Sequential)  # each of their children may be a unit
LEAST = 0.01  # of a network's parameters that a unit has at least: each one costs messages
# fail on divided parameters, each in its own words, except Muon, whose steps become others
WHOLE_ONLY = ("Adafactor", "LBFGS", "Muon", "Rprop", "SparseAdam")


def is_sharded(cfg: Config) -> bool:
    """Return whether this run divides its networks: with one process there is nothing to divide."""
    return cfg.train.shard == "full" and dist.world_size() > 1


def divide(task: Task, cfg: Config, device: torch.device) -> Task | None:
    """Divide the networks that learn, in place, where the config asks for it.

    Returns the copy for averaged weights, which is divided too: a divided network cannot be copied.
    Raises ConfigError for what does not go together with that.
    """
    if not is_sharded(cfg):
        return None
    _refuse(cfg)
    twin = None if cfg.train.ema is None else deepcopy(task)
    for each in (task,) if twin is None else (task, twin):
        for role in cfg.optim:
            if isinstance(net := getattr(each, role, None), nn.Module):
                _divide(net, cfg, device)
    return twin


def _divide(net: nn.Module, cfg: Config, device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.world_size(),))
    for unit in [*units(net, cfg.train.shard_units), net]:
        fully_shard(unit, mesh=mesh)


def reshard(task: Task) -> None:
    """Let go of the parameters that are gathered still, as after a forward pass without a backward one.

    Only the parts have the names, and are frozen or freed for the next pass.
    """
    from torch.distributed.fsdp import FSDPModule

    for module in task.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def standing(nets: Iterable[nn.Module]) -> Iterator[None]:
    """Compute no gradients of these networks within the block, although a loss depends on them.

    Of divided parameters those that are gathered at the moment are in the graph; a list of `inputs` would miss them.
    """
    learning = [p for net in nets for p in net.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def units(net: nn.Module, patterns: tuple[str, ...] = ()) -> list[nn.Module]:
    """Return the layers whose parameters are gathered together, each before it computes; the rest is one more unit.

    They are those of the patterns, otherwise the blocks: children of ModuleLists and Sequentials with a hundredth of
    the parameters. A layer within another one that is chosen is no unit, nor is one that shares a parameter with
    others. Raises ConfigError for an idle pattern.
    """
    named = {name: module for name, module in net.named_modules() if name and not isinstance(module, nn.ModuleList)}
    chosen: list[str] = []
    if patterns:
        for pattern in patterns:
            found = [name for name in named if fnmatchcase(name, pattern)]
            if not found:
                raise ConfigError(
                    f"train.shard_units: '{pattern}' means no layer; there are {', '.join([*named][:8])}, …"
                )
            chosen += found
        chosen = [name for name in chosen if not any(name.startswith(f"{other}.") for other in chosen)]
    else:
        chosen = list(_blocks(net))
    return [named[name] for name in dict.fromkeys(chosen) if name in named and not _shares(net, name)]


def _blocks(net: nn.Module, path: str = "") -> Iterator[str]:
    """Yield the names of the outermost blocks."""
    least = LEAST * sum(p.numel() for p in net.parameters())
    modules = dict(net.named_modules())
    taken: list[str] = []
    for name, module in modules.items():
        inside = any(name.startswith(f"{other}.") for other in taken)
        owner = modules.get(name.rpartition(".")[0]) if name else None
        size = sum(p.numel() for p in module.parameters())
        if isinstance(owner, LISTS) and not inside and not isinstance(module, nn.ModuleList) and size >= least:
            taken.append(name)
            yield name


def _shares(net: nn.Module, name: str) -> bool:
    """Return whether a layer holds a parameter that another layer holds, too."""
    own = set(net.get_submodule(name).parameters())
    every = net.named_parameters(remove_duplicate=False)
    return any(p in own and not other.startswith(f"{name}.") for other, p in every)


def _refuse(cfg: Config) -> None:
    """Raise ConfigError for what divided networks cannot do."""
    train = cfg.train
    names = [part.name for spec in cfg.optim.values() for part in (spec, spec.args.get("rest")) if part is not None]
    wrong = {f"the optimizer {name}": name in WHOLE_ONLY for name in names}
    wrong |= {
        "train.compile": train.compile,
        "train.precision: fp16 (take bf16)": train.precision == "fp16",
        "log.histograms": bool(cfg.log.histograms),
        "log.watchers": bool(cfg.log.watchers),
        "train.profile": train.profile is not None,
        "log.pr_curves, log.embedding or log.graph": cfg.log.pr_curves or cfg.log.embedding or cfg.log.graph,
    }
    if found := [word for word, is_so in wrong.items() if is_so]:
        raise ConfigError(f"train.shard: full does not go together with {', '.join(found)}; leave that out")
