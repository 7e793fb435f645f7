"""Check that the loss of `task.loss` is one that the task can use, and that `task.route` can be read."""

from configs.components import COMPONENTS
from configs.schema import Config
from utils.config.convert import Component
from utils.config.route import route_fault
from utils.config.tree import Node, Problems

__all__ = ["check_loss"]


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
    if routed and isinstance(route, tuple) and (fault := route_fault(route, takes, name)):
        _add(problems, tree, "task.route", fault)
    given = COMPONENTS["task"].literal(config.task.name, "loss_takes") or 2
    if not routed and takes and len(takes) != given:
        has = "two, an output and a target" if given == 2 else given
        told = f"task.loss: {name} takes {len(takes)} tensors ({', '.join(takes)}), and {config.task.name} has {has}"
        _add(problems, tree, "task.loss", f"{told}; --task=Supervised has others")


def _arguments(name: str) -> list[str]:
    """Return the arguments of a loss's forward; [] where they are not known."""
    known = COMPONENTS["loss"]
    name = known.aliases[name][0] if name in known.aliases else name
    found = known.method(name, "forward") if name in known.all_names() else {}
    return [one for one, parameter in found.items() if parameter.required]


def _add(problems: Problems, tree: Node, key: str, message: str) -> None:
    node = tree.at(key)
    problems.add(node.where if node else "", message)
