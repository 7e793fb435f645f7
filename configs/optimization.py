"""The registries of optimizers, schedulers and tasks: what the engine lets a config say beside their own arguments."""

from typing import Annotated, Any

from utils.config.convert import Component
from utils.config.ranges import FINITE, Fraction, Range
from utils.config.registry import Registry
from utils.config.signature import Parameter
from utils.config.tree import Node, Problems, plain_value
from utils.words import suggest

__all__ = [
    "AT_ONCE",
    "CONSTANT",
    "FUNCTIONS",
    "IN_TURN",
    "METRICS_TOO",
    "OPTIM_KEYS",
    "PARTIAL",
    "SCHEDULE_KEYS",
    "Optimizers",
    "Schedules",
    "Tasks",
]

PARTIAL = ("Muon", "SparseAdam")  # take some parameters only, and leave the others to the optimizer `rest`
IN_TURN, AT_ONCE, CONSTANT = "SequentialLR", "ChainedScheduler", "Constant"

METRICS_TOO = "metrics_too"
METRICS = Parameter(Annotated[tuple[Component, ...], "metric"], required=False, default=())

FUNCTIONS = frozenset({"LambdaLR", "MultiplicativeLR"})

OPTIM_KEYS = {
    "groups": Parameter(list[dict], required=False, default=()),
    "no_decay": Parameter(list[str], required=False, default=()),
    "layer_decay": Parameter(Fraction, required=False, default=1.0),
    "rest": Parameter(Annotated[Component | None, "optim"], required=False, default=None),
}
SCHEDULE_KEYS = {
    "warmup": Parameter(Annotated[float, Range(0, FINITE)], required=False, default=0),
    "epochs": Parameter(Annotated[int | None, Range(1, 1e9)], required=False, default=None),
}
LISTED = Parameter(Annotated[tuple[Component, ...], "schedule"])


# these set the rate, whatever another scheduler has made of it
NO_FACTORS = ("OneCycleLR", "CyclicLR", "CosineAnnealingWarmRestarts")


class Optimizers(Registry):
    """Optimizers: with groups of parameters, each with arguments of its own, and an optimizer for the rest."""

    def arguments(self, name: str) -> dict[str, Parameter]:
        """Return the constructor's arguments, and the engine's keys that make sense for this optimizer."""
        own = super().arguments(name)
        needs = {"groups": name != "LBFGS", "no_decay": "weight_decay" in own and name != "LBFGS"}
        needs |= {"layer_decay": "lr" in own and name != "LBFGS", "rest": name in PARTIAL}
        return own | {key: OPTIM_KEYS[key] for key, needed in needs.items() if needed}

    def check(self, name: Node, args: dict[str, Node], key: str, problems: Problems) -> dict[str, Any]:
        """Convert the arguments, and those in each of `groups`."""
        checked = super().check(name, args, key, problems)
        groups, known = args.get("groups"), str(name.value)
        if groups is not None and "groups" in self.arguments(known) and isinstance(groups.value, list):
            items = enumerate(groups.value)
            checked["groups"] = tuple(self._group(known, item, f"{key}.groups[{i}]", problems) for i, item in items)
        return checked

    def _group(self, name: str, node: Node, key: str, problems: Problems) -> dict[str, Any]:
        """Convert one of `groups`: its pattern, and any arguments of the optimizer."""
        own = super().arguments(name)
        match = node.at("match")
        if match is None or not isinstance(match.value, str):
            problems.add(node.where, f"{key}: needs match, a pattern of names, as in {{match: 'fc.*', lr: 0.01}}")
        found: dict[str, Any] = {"match": str(match.value) if match else ""}
        for argument, value in node.entries.items():
            if argument in own:
                parameter = own[argument].within(self.ranges.get(argument))
                found[argument] = self._argument(value, parameter, f"{key}.{argument}", problems)
            elif argument != "match":
                near = suggest(argument, [*own, "match"], f"{key}.")
                problems.add(value.where, f"{name} takes no '{key}.{argument}'{near}")
        return found


class Schedules(Registry):
    """Schedulers: each with a length in epochs, after a warm-up, in turn or at once."""

    def _unknown(self, name: str) -> str:
        """Return the reason why a name cannot be used; empty if it can."""
        if name in FUNCTIONS:
            return f"{name} takes a function, which no config can hold; write a scheduler of your own in schedules/"
        return super()._unknown(name)

    def arguments(self, name: str) -> dict[str, Parameter]:
        """Return the constructor's arguments and the engine's; of several schedulers only their list."""
        own = super().arguments(name)
        if name in (IN_TURN, AT_ONCE):
            own = {"schedulers": LISTED}
        return own | SCHEDULE_KEYS

    def check(self, name: Node, args: dict[str, Node], key: str, problems: Problems) -> dict[str, Any]:
        """Convert the arguments, and see that a list of schedulers has the lengths that it needs."""
        checked = super().check(name, args, key, problems)
        listed = args["schedulers"].value if "schedulers" in args else ()
        if str(name.value) in (IN_TURN, AT_ONCE) and isinstance(listed, list):
            for i, item in enumerate(listed):
                if fault := _part_fault(str(name.value), item, last=i + 1 == len(listed)):
                    problems.add(item.where, f"{key}.schedulers[{i}]{fault}")
            if not listed:
                problems.add(name.where, f"{key}: the list of schedulers is empty; for none write null")
        return checked


class Tasks(Registry):
    """Tasks: each with further metrics, which the engine computes from the predictions that it tells."""

    def arguments(self, name: str) -> dict[str, Parameter]:
        """Return the constructor's arguments and the engine's, for a task that tells predictions."""
        own = super().arguments(name)
        return own if self.literal(name, "predicted_kind") is None else own | {METRICS_TOO: METRICS}

    def build(self, spec: Component, key: str, *args: Any, **available: Any) -> Any:
        """Build the task without the engine's arguments."""
        own = {name: value for name, value in spec.args.items() if name != METRICS_TOO}
        return super().build(Component(spec.name, own), key, *args, **available)


def _part_fault(kind: str, item: Node, last: bool) -> str:
    """Return the fault of one scheduler of several; empty if it is good."""
    own = (item.at("name") or item).value
    if own in (IN_TURN, AT_ONCE) and (kind == AT_ONCE or own == IN_TURN):
        return f": no {own} within {kind}"
    if kind == AT_ONCE and own in NO_FACTORS:
        return f": {own} sets the rate itself, and cannot act at once with others"
    if item.at("warmup"):
        return ".warmup: the warm-up comes before all of them; write it as schedule.warmup"
    length = item.at("epochs")
    given = length is not None and plain_value(length) is not None
    if kind == IN_TURN and not last and not given:
        return ".epochs: how many epochs it takes is missing; only the last of a list may leave it out"
    return ".epochs: all of them act at once, in the whole run; leave it out" if kind == AT_ONCE and given else ""
