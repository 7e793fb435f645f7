"""Check the arguments of a task that depend on one another: its loss and route, and the metrics of metrics_too."""

from collections.abc import Mapping
from typing import Any

from configs.components import COMPONENTS
from configs.optimization import METRICS_TOO
from configs.schema import Config
from utils.config.convert import Component
from utils.config.route import route_fault
from utils.config.tree import Node, Problems

__all__ = ["check_loss", "check_metrics", "directions", "metric_specs", "mixed_fault", "more_metrics"]

MOST_K = 100  # the largest k of a metric that has one
NUMBERS_ONLY = ("MultiLabelMarginLoss", "MultiMarginLoss", "NLLLoss")  # torch's losses that take no shares of classes
KINDS = {"classes": "classes", "pixels": "classes of pixels", "labels": "labels", "numbers": "numbers"}


def check_loss(config: Config, tree: Node, problems: Problems) -> None:
    """Add a line for a route that is none, or that does not have an entry for each argument of the loss.

    A loss of another number of arguments than a task without a route gives it is told, too.
    """
    loss, route = config.task.args.get("loss"), config.task.args.get("route")
    takes = _arguments(loss.name) if isinstance(loss, Component) else []
    name = loss.name if isinstance(loss, Component) else ""
    known = COMPONENTS["task"].arguments(config.task.name)
    routed = "route" in known
    if "loss" in known and known["loss"].required and loss is None:
        told = f"task: {config.task.name} needs a loss, as --task.loss=MSELoss; python main.py help losses lists them"
        _add(problems, tree, "task", told)
    if name in NUMBERS_ONLY and (config.data.mix.mixup or config.data.mix.cutmix):
        _add(problems, tree, "data.mix", mixed_fault(name))
    if routed and isinstance(route, tuple) and (fault := route_fault(route, takes, name)):
        _add(problems, tree, "task.route", fault)
    given = COMPONENTS["task"].literal(config.task.name, "loss_takes") or 2
    if not routed and takes and len(takes) != given:
        has = "two, an output and a target" if given == 2 else given
        told = f"task.loss: {name} takes {len(takes)} tensors ({', '.join(takes)}), and {config.task.name} has {has}"
        _add(problems, tree, "task.loss", f"{told}; --task=Supervised has others")


def mixed_fault(loss: str) -> str:
    """Return the sentence about a loss that takes no mixed labels."""
    return (
        f"data.mix: mixed labels are shares of classes, and task.loss={loss} as it is set takes class numbers only; "
        "CrossEntropyLoss, SoftTargetCrossEntropy and FocalLoss take both"
    )


def _arguments(name: str) -> list[str]:
    """Return the arguments of a loss's forward; [] where they are not known."""
    known = COMPONENTS["loss"]
    name = known.aliases[name][0] if name in known.aliases else name
    found = known.method(name, "forward") if name in known.all_names() else {}
    return [one for one, parameter in found.items() if parameter.required]


def more_metrics(task: Component) -> dict[str, str]:
    """Return the metrics of `metrics_too` by their names in the journal, each with "min" or "max": which is better."""
    return {_label_of(spec): _literal(spec.name, "better") for spec in _specs(task)}


def metric_specs(config: Config) -> dict[str, tuple[Component, str]]:
    """Return the metrics of `metrics_too` by their names in the journal, and the key of each."""
    return {_label_of(spec): (spec, f"task.{METRICS_TOO}[{i}]") for i, spec in enumerate(_specs(config.task))}


def _label_of(spec: Component) -> str:
    """Return the name of a metric in the journal: that of its class, or with its arguments, as map_at_3."""
    name, args = _meant(spec.name)
    defaults = {key: parameter.default for key, parameter in COMPONENTS["metric"].arguments(name).items()}
    return (_literal(name, "label") or name).format(**{**defaults, **args, **spec.args})


def directions() -> dict[str, str]:
    """Return each metric that metrics_too can name, with "min" or "max"."""
    known: dict[str, str] = {}
    for name in COMPONENTS["metric"].all_names():
        ks = range(1, MOST_K + 1) if "k" in COMPONENTS["metric"].arguments(name) else [None]
        for k in ks:
            known[_label_of(Component(name, {} if k is None else {"k": k}))] = _literal(name, "better")
    return known


def check_metrics(config: Config, tree: Node, problems: Problems) -> None:
    """Add a line for each metric that does not fit the task's predictions, or stands there twice."""
    kind, task = COMPONENTS["task"].literal(config.task.name, "predicted_kind"), config.task.name
    found: set[str] = set()
    for i, spec in enumerate(_specs(config.task)):
        key, label = f"task.{METRICS_TOO}[{i}]", _label_of(spec)
        fits = _literal(spec.name, "fits") or ()
        told = ""
        if label in found:
            told = f"{label} stands there twice"
        elif kind not in fits:
            others = [n for n in COMPONENTS["metric"].all_names() if kind in (_literal(n, "fits") or ())]
            of = " or ".join(KINDS[one] for one in fits)
            told = f"{label} is of {of}, and {task} predicts {KINDS[kind]}; of these there is {', '.join(others)}"
        if told:
            _add(problems, tree, f"task.{METRICS_TOO}", f"{key}: {told}")
        found.add(label)


def _specs(task: Component) -> list[Component]:
    """Return the metrics whose names are known."""
    listed = task.args.get(METRICS_TOO)
    known = COMPONENTS["metric"]
    specs = [one for one in listed if isinstance(one, Component)] if isinstance(listed, tuple) else []
    return [one for one in specs if one.name in known.aliases or one.name in known.all_names()]


def _meant(name: str) -> tuple[str, Mapping[str, Any]]:
    return COMPONENTS["metric"].aliases.get(name, (name, {}))


def _literal(name: str, attribute: str) -> Any:
    return COMPONENTS["metric"].literal(_meant(name)[0], attribute)


def _add(problems: Problems, tree: Node, key: str, message: str) -> None:
    node = tree.at(key)
    problems.add(node.where if node else "", message)
