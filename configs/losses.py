"""Check that the loss of `task.loss` is one that the task can use, and that `task.route` can be read."""

from configs.components import COMPONENTS
from configs.schema import Config
from utils.config.convert import Component
from utils.config.route import route_fault
from utils.config.tree import Node, Problems

__all__ = ["check_loss", "mixed_fault"]

NUMBERS_ONLY = ("MultiLabelMarginLoss", "MultiMarginLoss", "NLLLoss")  # torch's losses that take no shares of classes


def check_loss(config: Config, tree: Node, problems: Problems) -> None:
    """Add a line for a route that is none, or that does not have an entry for each argument of the loss.

    A loss of another number of arguments than (output, target), given to a task without a route, is told, too.
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
    if not routed and takes and len(takes) != 2:
        told = f"task.loss: {name} takes {len(takes)} tensors ({', '.join(takes)}), and {config.task.name} has two"
        _add(problems, tree, "task.loss", f"{told}, an output and a target; --task=Supervised has others")


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


def _add(problems: Problems, tree: Node, key: str, message: str) -> None:
    node = tree.at(key)
    problems.add(node.where if node else "", message)
