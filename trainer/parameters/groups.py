"""Groups of parameters: arguments by name, no weight decay for some, smaller rates for lower layers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from configs import Component
from trainer.parameters.names import unknown
from utils.errors import ConfigError

__all__ = ["Groups", "learnable", "sparse_names"]

BIAS = re.compile(r"(.*_)?bias|bias_.*")  # the last part of a parameter's name
BRANCHED = (nn.Sequential, nn.ModuleList)  # each of their children is a layer
Parameters = Mapping[str, nn.Parameter]  # by their names in the network


def learnable(net: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that a network's optimizer learns, by name."""
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


def sparse_names(net: nn.Module) -> set[str]:
    """Return the names of the weights whose gradients are sparse: those of embeddings with `sparse`."""
    return {f"{name}.weight".lstrip(".") for name, module in net.named_modules() if getattr(module, "sparse", False)}


class Groups:
    """The parameters of one optimizer as torch's groups; the first has the rate of the config, where it can."""

    def __init__(self, spec: Component, key: str, net: nn.Module, parameters: Parameters, role: str = "model"):
        """Raises ConfigError for a pattern that takes no parameter."""
        self.key, self.parameters, self.role = key, parameters, role
        self.others = learnable(net).keys() - parameters.keys()  # which optim.rest learns, or the optimizer before it
        self.rules: Sequence[Mapping[str, Any]] = spec.args.get("groups") or ()
        self.bare = self._without_decay(net, spec.args.get("no_decay") or ())
        decay = spec.args.get("layer_decay", 1.0)
        # of the whole network, of which optim.rest may learn the last layer
        layers = layer_numbers(net, learnable(net)) if decay != 1 else {}
        top = max(layers.values(), default=0)
        self.scales = {name: decay ** (top - layer) for name, layer in layers.items() if name in parameters}
        self.taken = {name: self._rule_of(name) for name in parameters}
        self._refuse_idle()
        kinds = {name: (self.taken[name], self.scales.get(name, 1.0), name in self.bare) for name in parameters}
        # the rate of the config first: that of no rule, and of the highest layer
        self.kinds = sorted(set(kinds.values()), key=lambda kind: (kind[0], -kind[1], kind[2]))
        self.names = [[name for name in parameters if kinds[name] == kind] for kind in self.kinds]

    def for_torch(self) -> list[Any]:
        """Return what an optimizer's constructor takes: the parameters, or groups of them with their arguments."""
        if len(self.kinds) == 1 and self.kinds[0] == (-1, 1.0, False):
            return [self.parameters[name] for name in self.names[0]]
        groups = []
        for (rule, _, bare), names in zip(self.kinds, self.names, strict=True):
            own = {k: v for k, v in self.rules[rule].items() if k != "match"} if rule >= 0 else {}
            groups.append(
                {"params": [self.parameters[name] for name in names], **({"weight_decay": 0.0} if bare else {}), **own}
            )
        return groups

    def scale(self, optimizer: Optimizer) -> None:
        """Multiply the rate of each group by the factor of its layer."""
        for (_, factor, _), group in zip(self.kinds, optimizer.param_groups, strict=True):
            if factor != 1:
                group["lr"] *= factor

    def told(self, optimizer: Optimizer) -> list[str]:
        """Return in words which parameters each rule took."""
        lines = []
        for number, rule in enumerate(self.rules):
            own = ", ".join(f"{name} {value}" for name, value in rule.items() if name != "match")
            count = sum(taken == number for taken in self.taken.values())
            lines.append(f"{self.key}.groups[{number}] {rule['match']}: {_tensors(count)}{', ' if own else ''}{own}")
        if self.bare:
            lines.append(f"{self.key}.no_decay: {len(self.bare)} of {_tensors(len(self.parameters))}")
        if self.scales:
            rates = [group["lr"] for group in optimizer.param_groups]
            layers = len(set(self.scales.values()))
            lines.append(f"{self.key}.layer_decay: {layers} layers, lr from {min(rates):.2g} to {max(rates):.2g}")
        return lines

    def _matches(self, name: str, pattern: str) -> bool:
        """Return whether a pattern means a parameter; of several networks the role may stand before its name."""
        return fnmatchcase(name, pattern) or fnmatchcase(f"{self.role}.{name}", pattern)

    def _rule_of(self, name: str) -> int:
        """Return the number of the first rule for a parameter; -1 for none."""
        fits = (i for i, rule in enumerate(self.rules) if self._matches(name, rule["match"]))
        return next(fits, -1)

    def _refuse_idle(self) -> None:
        for number, rule in enumerate(self.rules):
            if number not in self.taken.values():
                place = f"{self.key}.groups[{number}].match: '{rule['match']}'"
                if any(self._matches(name, rule["match"]) for name in self.parameters):
                    raise ConfigError(f"{place}: groups before it take all that it means; put it before them")
                raise ConfigError(f"{place}: {self._nothing(rule['match'])}")

    def _nothing(self, pattern: str) -> str:
        """Return the fault of a pattern that means nothing, with names that there are."""
        if any(self._matches(name, pattern) for name in self.others):
            return self._elsewhere()
        return f"no parameter that learns has such a name{unknown(pattern, self.parameters)}"

    def _elsewhere(self) -> str:
        """Return the fault of a word or pattern for weights that the other one of two optimizers learns."""
        other = self.key.removesuffix(".rest") if self.key.endswith(".rest") else f"{self.key}.rest"
        return f"{other} learns all that it means; write it there"

    def _without_decay(self, net: nn.Module, words: Sequence[str]) -> set[str]:
        """Return the names of the parameters that `no_decay` means."""
        found: set[str] = set()
        for number, word in enumerate(words):
            place = f"{self.key}.no_decay[{number}]: '{word}'"
            if word in ("bias", "norm"):
                meant = _of_norms(net) if word == "norm" else _biases(net)
                new = meant & set(self.parameters)
                if not new and meant & self.others:
                    raise ConfigError(f"{place}: {self._elsewhere()}")
            elif not (new := {name for name in self.parameters if self._matches(name, word)}):
                raise ConfigError(f"{place} is neither bias nor norm, and {self._nothing(word)}")
            found |= new
        return found


def layer_numbers(net: nn.Module, names: Iterator[str] | Parameters) -> dict[str, int]:
    """Return the number of the layer of each parameter, counted from the input.

    Layers are the network's children in the order of their definition, as in the fine-tuning of BEiT (Bao et al., 2021)
    and of ELECTRA. The children of a Sequential or a ModuleList take its place, and so do those of a child that holds
    one. A normalisation belongs to the layer before it, a parameter outside of all layers, such as a position
    embedding, to the first.
    """
    prefixes: list[tuple[str, int]] = []
    for prefix, module in _layers(net, "", top=True):
        joined = bool(prefixes) and _is_norm(module)
        prefixes.append((prefix, prefixes[-1][1] + (not joined) if prefixes else 0))
    return {name: next((n for prefix, n in prefixes if name.startswith(f"{prefix}.")), 0) for name in names}


def _layers(net: nn.Module, prefix: str, top: bool) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a network that have parameters, with their names."""
    children = [(prefix + name, child) for name, child in net.named_children() if _has_parameters(child)]
    if top and len(children) == 1 and not list(net.parameters(recurse=False)):  # a network in another's clothes
        yield from _layers(children[0][1], f"{children[0][0]}.", top) if list(children[0][1].children()) else children
        return
    for name, child in children:
        holds = top and any(isinstance(c, BRANCHED) and _has_parameters(c) for c in child.children())
        if isinstance(child, BRANCHED) or holds:
            yield from _layers(child, f"{name}.", top=False)
        else:
            yield name, child


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _is_norm(module: nn.Module) -> bool:
    """Return whether a layer is a normalisation, torch's or another: its class is called so."""
    return "norm" in type(module).__name__.lower()


def _biases(net: nn.Module) -> set[str]:
    """Return the names of the biases: of recurrent layers bias_hh_l0, of attention in_proj_bias."""
    return {name for name, _ in net.named_parameters() if BIAS.fullmatch(name.rpartition(".")[2])}


def _of_norms(net: nn.Module) -> set[str]:
    """Return the names of the parameters of normalisations."""
    layers = [(name, module) for name, module in net.named_modules() if _is_norm(module)]
    return {
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in layers
        for name, _ in module.named_parameters(recurse=False)
    }


def _tensors(count: int) -> str:
    return "1 tensor" if count == 1 else f"{count} tensors"
