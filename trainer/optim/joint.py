"""From a config to one optimizer of a network; two that share its parameters act as one."""

from collections.abc import Mapping
from inspect import unwrap
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from configs import COMPONENTS, Component
from configs.optimization import OPTIM_KEYS
from trainer.optim.step import needs_closure, stepper
from trainer.parallel.divided import is_divided
from trainer.parameters.groups import Groups, Parameters, sparse_names
from utils.blame import place_of_method, refuse_other
from utils.errors import CodeError, ConfigError
from utils.torch_private import spare_compiler

__all__ = ["Joint", "make_optimizer"]

FUSED_DIVIDED = ("Adam", "AdamW")  # have a fused step for parameters that are divided among ranks
TAKE_SPARSE = ("SparseAdam", "SGD", "Adagrad")  # of torch's optimizers


class Joint(torch.optim.Optimizer):
    """Several optimizers, each of other parameters, that step together."""

    def __init__(self, parts: list[torch.optim.Optimizer]):
        common = set.intersection(*(set(part.defaults) for part in parts))
        super().__init__([p for part in parts for g in part.param_groups for p in g["params"]], {})
        self.parts, self.steps = parts, [stepper(part) for part in parts]
        self.defaults = {name: parts[0].defaults[name] for name in common}  # a scheduler asks for those that it changes
        self._join()

    def _join(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step of each."""
        for step in self.steps:
            step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # type: ignore[override]
        for part, own in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(own)
        self._join()


def make_optimizer(
    spec: Component, key: str, net: nn.Module, parameters: Parameters, role: str = "model"
) -> tuple[torch.optim.Optimizer, list[str]]:
    """Return a network's optimizer, and in words which parameters its groups took.

    Raises ConfigError for parameters that it does not take, unless an optimizer `rest` takes them.
    """
    spare_compiler()
    sparse, rest = sparse_names(net) & set(parameters), spec.args.get("rest")
    taken = {name: p for name, p in parameters.items() if _takes(spec.name, name, p, net, sparse)}
    others = {name: p for name, p in parameters.items() if name not in taken}
    _refuse(spec, key, taken, others, sparse)
    groups = Groups(spec, key, net, taken, role)
    own = {name: value for name, value in spec.args.items() if name not in OPTIM_KEYS}
    fused = _fused(spec.name, spec.args, taken) if not sparse else {}
    optimizer = COMPONENTS["optim"].build(Component(spec.name, own), key, groups.for_torch(), **fused)
    _refuse_unmade(optimizer)
    groups.scale(optimizer)
    told = groups.told(optimizer)
    if rest is None:
        return optimizer, told
    other, more = make_optimizer(rest, f"{key}.rest", net, others, role)
    if needs_closure(other):
        raise ConfigError(f"{key}.rest: {rest.name} must have all parameters; take another one, such as AdamW")
    counts = f"{key}: {spec.name} learns {len(taken)} of {len(parameters)} tensors, {rest.name} the others"
    return Joint([optimizer, other]), [counts, *told, *more]


def _refuse_unmade(optimizer: Any) -> None:
    """Raises CodeError for what is no optimizer of torch, has no rate that schedules could change, or no step."""
    refuse_other(optimizer, Optimizer)
    name, groups = type(optimizer).__name__, getattr(optimizer, "param_groups", [])
    place = place_of_method(optimizer, "__init__") or name
    if not groups or "lr" not in groups[0]:
        call = "super().__init__(params, {'lr': lr}): schedules change that rate"
        raise CodeError(f"{place}: __init__ of {name} never calls {call}")
    if unwrap(type(optimizer).step) is unwrap(Optimizer.step):  # torch wraps it
        raise CodeError(f"{place}: {name} has no step(self, closure=None), which changes the parameters")


def _takes(optimizer: str, name: str, parameter: nn.Parameter, net: nn.Module, sparse: set[str]) -> bool:
    """Return whether an optimizer takes a parameter.

    Muon takes the matrices of hidden layers; torch's documentation leaves embeddings to another optimizer.
    """
    if optimizer == "Muon":
        return parameter.ndim == 2 and not isinstance(_owner(net, name), nn.Embedding | nn.EmbeddingBag)
    return name in sparse if optimizer == "SparseAdam" else True


def _owner(net: nn.Module, name: str) -> nn.Module:
    return net.get_submodule(name.rpartition(".")[0])


def _refuse(spec: Component, key: str, taken: Parameters, others: Parameters, sparse: set[str]) -> None:
    """Raise ConfigError for parameters that nobody takes, and for an optimizer without any."""
    means = {"Muon": "matrices", "SparseAdam": "embeddings whose gradients are sparse (model.sparse: true)"}
    if not taken:
        raise ConfigError(f"{key}: {spec.name} learns {means.get(spec.name, 'parameters')} only, and there are none")
    if others and spec.args.get("rest") is None:
        name, parameter = next(iter(others.items()))
        raise ConfigError(
            f"{key}: {spec.name} learns {means[spec.name]} only, which {name} {list(parameter.shape)} is not; "
            f"name another optimizer for the rest, as {key}.rest: AdamW"
        )
    if spec.args.get("rest") is not None and not others:
        raise ConfigError(f"{key}.rest: {spec.name} takes all parameters, and nothing is left; leave rest out")
    wrong = sorted(sparse & set(taken))
    if wrong and spec.name not in TAKE_SPARSE and not COMPONENTS["optim"].origin(spec.name):
        raise ConfigError(
            f"{key}: {spec.name} takes no sparse gradients, as those of {wrong[0]}; take {', '.join(TAKE_SPARSE)}, "
            "or model.sparse: false"
        )


def _fused(optimizer: str, args: Mapping[str, Any], parameters: Parameters) -> dict[str, bool]:
    """`fused: true` where the optimizer has it and the config says nothing else: one pass over all weights."""
    # a late first gradient is not dampened in the others, see begin_momentum
    without = ("foreach", "capturable", "differentiable", "dampening")
    other = any(rule.get(key) for rule in (args, *(args.get("groups") or ())) for key in without)
    if optimizer not in FUSED_DIVIDED and any(map(is_divided, parameters.values())):
        return {}
    able = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters.values())
    return {"fused": True} if able and not other else {}
