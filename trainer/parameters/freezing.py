"""train.freeze and train.unfreeze: which weights stand still, a function of the epoch and of the names alone."""

from collections.abc import Container, Iterator

from torch import Tensor, nn

from configs import Config
from trainer.checkpointing.weights import saved_names
from trainer.parameters.names import matching
from trainer.task import Task
from utils.errors import ConfigError
from utils.torch_private import is_batch_norm

__all__ = ["Freezing"]


class Freezing:
    """The frozen weights by epoch. They have no gradient, so that no optimizer keeps a state of them or shrinks them.

    A layer whose weights are all frozen is in evaluation, with all that lies in it: statistics stand still, dropout is
    off. So is a norm layer whose statistics are frozen by their own names.
    """

    def __init__(self, task: Task, cfg: Config):
        """Raises ConfigError for a pattern without a name, or an epoch in which a network would not learn."""
        self.task, self.patterns = task, cfg.train.freeze
        self.names = {short: name for name, short in saved_names(task).items()} if self.patterns else {}
        self.parameters = dict(task.named_parameters(remove_duplicate=False)) if self.patterns else {}
        frozen = {name for one in self.patterns for name in matching(one, self.names, "train.freeze")}
        self.stages = {0: frozenset(self.names[name] for name in frozen)}  # by the first epoch, from 0, in the task
        for epoch, patterns in sorted((int(epoch), patterns) for epoch, patterns in cfg.train.unfreeze.items()):
            for pattern in patterns:
                frozen = frozen - set(matching(pattern, sorted(frozen), f"train.unfreeze.{epoch}"))
            self.stages[epoch - 1] = frozenset(self.names[name] for name in frozen)
        for epoch in self.stages if self.patterns else ():
            self.apply(epoch)
            self._refuse_idle(cfg.optim, epoch)
        self.loosen()

    def _refuse_idle(self, roles: Container[str], epoch: int) -> None:
        for role, net in self.task.named_children():
            own = list(net.parameters())
            if role in roles and own and not any(p.requires_grad for p in own) and self.stages[epoch]:
                raise ConfigError(
                    f"train.freeze: all of the network '{role}' is frozen in epoch {epoch + 1}, so that it cannot "
                    "learn; leave out a pattern, or free a part from the first epoch on"
                )

    def at(self, epoch: int) -> frozenset[str]:
        """Return the names in the task of all that is frozen in an epoch, counted from 0."""
        return self.stages[max(first for first in self.stages if first <= epoch)]

    def moving(self) -> Iterator[Tensor]:
        """Yield the buffers that a step may change: those of layers that stand still keep every bit."""
        for name, buffer in self.task.named_buffers():
            still = any(name.startswith(f"{path}.") for path in self.task.still)
            if not still and name.split(".")[0] not in self.task.unsaved:
                yield buffer

    def loosen(self) -> None:
        """Let everything learn that ever will, so that the optimizers know it."""
        self._freeze(self.stages[max(self.stages)])

    def apply(self, epoch: int) -> bool:
        """Freeze as the epoch, counted from 0, asks for. Returns whether that changed something."""
        if not self.patterns:
            return False
        before = [p.requires_grad for p in self.parameters.values()], self.task.still
        self._freeze(self.at(epoch))
        self.task.still = self._still(self.at(epoch))
        return before != ([p.requires_grad for p in self.parameters.values()], self.task.still)

    def _freeze(self, frozen: frozenset[str]) -> None:
        # two names may stand for one tensor: it is frozen if one of them is
        for names, learns in ((self.stages[0] - frozen, True), (frozen, False)):
            for name in names & self.parameters.keys():
                if self.parameters[name].is_floating_point():
                    self.parameters[name].requires_grad_(learns)

    def _still(self, frozen: frozenset[str]) -> frozenset[str]:
        """Return the paths of the outermost layers that are frozen whole, and of norms whose statistics are."""
        found: set[str] = set()
        for path, module in self.task.named_modules():
            inside = any(path.startswith(f"{other}.") for other in found)
            if path and not inside and (_holds(path, frozen, module) or _stands(path, frozen, module)):
                found.add(path)
        return frozenset(found)

    def tell(self, epoch: int) -> str:
        """Return in words how much is frozen in an epoch, counted from 0, and when that changes; empty for nothing."""
        if not self.patterns:
            return ""
        total = self._count(frozenset(self.names.values()))
        counts = {first: self._count(frozen) for first, frozen in self.stages.items()}
        told = f"frozen: {self._count(self.at(epoch)):,} of {total:,} parameters"
        told += f" ({', '.join(self.patterns)})" if self.at(epoch) is self.stages[0] else ""
        later = [f"{count:,} from epoch {first + 1} on" for first, count in counts.items() if first > epoch]
        return "; ".join([told, *later])

    def _count(self, names: frozenset[str]) -> int:
        return sum(p.numel() for p in {self.parameters[name] for name in names & self.parameters.keys()})


def _holds(path: str, frozen: frozenset[str], module: nn.Module) -> bool:
    """Return whether a layer has weights, no one of them learns, and the config has frozen one."""
    own = list(module.parameters())
    return bool(own) and not any(p.requires_grad for p in own) and any(n.startswith(f"{path}.") for n in frozen)


def _stands(path: str, frozen: frozenset[str], module: nn.Module) -> bool:
    """Return whether the statistics of a norm are frozen by their names."""
    return is_batch_norm(module) and {f"{path}.running_mean", f"{path}.running_var"} <= frozen
