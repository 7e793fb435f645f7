"""One network's optimizer, and everything done around its step."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from configs import Config
from models._matching import bare
from trainer.optim.schedule import Schedule
from trainer.parallel.ddp import average_
from trainer.parallel.divided import divided_like
from trainer.parameters.groups import learnable
from trainer.task import Weight
from utils import dist
from utils.errors import NonFiniteError
from utils.torch_private import foreach_div_, has_step_hooks, mark_as_stepped, profiler_runs

__all__ = ["OptimizerStep", "needs_closure", "stepper"]


class OptimizerStep:
    """One network's optimizer; called with a loss, it learns from it, every `accumulate` calls at once.

    A window of several batches has the gradient of one large batch, also the last, shorter one: the mean over samples
    or over what the task counts, or the sum.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        cfg: Config,
        schedule: Schedule | None,
        told: Sequence[str] = (),
    ):
        """`told`: in words, which parameters the optimizer's groups took."""
        self.net, self.told = net, told
        self.params = list(learnable(net).values())
        self.optimizer, self.schedule, self.step = optimizer, schedule, stepper(optimizer, cfg.train.compile)
        self.accumulate, self.clip = cfg.train.accumulate, cfg.train.clip
        self.closure = needs_closure(optimizer)  # then the optimizer drives the training step
        self.loss = torch.zeros(())  # the last one, for a closure
        self.norm: Tensor | None = None  # of the last gradient, where it is computed
        device = self.params[0].device.type
        check = cfg.train.check_gradients  # on a GPU reading the norm would make the host wait
        waits = device == "cpu" or cfg.train.on_nonfinite != "stop"  # which looks at each loss
        self.check = check if check is not None else bool(self.clip) and waits
        self.scaler = torch.amp.GradScaler(device, enabled=cfg.train.precision == "fp16")
        self.weighted = self.accumulate > 1 or dist.world_size() > 1
        self.calls, self.taken = 0, 0  # of the open window; optimizer steps so far
        self.weight: float | Tensor = 0.0  # of the open window, by which its gradients are divided
        self.counted = False  # whether the task counts; then each rank has a weight of its own
        self.window: list[int] = []  # the training steps whose gradients are in the open window
        # whether this batch's gradients stay on their rank; whether the open window has such ones
        self.apart = self.scattered = False

    def begin_batch(self) -> bool:
        """Return whether the ranks average their gradients in this batch, which closes the window."""
        self.apart = self.calls + 1 < self.accumulate
        return not self.apart

    def __call__(
        self,
        loss: Tensor,
        rank_weight: float,
        global_weight: float | None,
        inputs: Sequence[Tensor] | None,
        weight: Weight = None,
    ) -> None:
        """Compute gradients; step when the window is full.

        `rank_weight` is this rank's samples over a full share of a batch, `global_weight` its mean over the ranks,
        which average their gradients, and None where no rank knows it. `weight` takes their place where a loss is no
        mean over samples, see Update.
        """
        if self.weighted:
            loss = loss * self._weigh(rank_weight, global_weight, weight)
        if self.scaler.is_enabled():
            loss = self.scaler.scale(loss)
        loss.backward(inputs=inputs)
        self.calls += 1
        self.scattered = self.apart and dist.world_size() > 1
        if self.closure:
            self.loss = loss.detach()
        elif self.calls >= self.accumulate:
            self.close()

    def _weigh(self, rank_weight: float, global_weight: float | None, weight: Weight) -> float | Tensor:
        """Add a loss's weight to the window's and return the factor of the loss."""
        if isinstance(weight, str):
            # ranks average, but a sum over all of them is asked for; one without a share adds nothing
            return dist.world_size() if rank_weight else 0
        if weight is None and global_weight is None:  # each rank counts its own samples
            weight = rank_weight
        self.counted = weight is not None
        if weight is not None:
            weight = weight if rank_weight else weight * 0
            self.weight = self.weight + weight
            return weight
        assert global_weight is not None
        self.weight = self.weight + global_weight
        return rank_weight

    def _divide(self) -> None:
        """Divide the gradients by the window's weight; those of a sum have none."""
        if self.scattered:  # an epoch's last window, cut short
            average_([p.grad for p in self.params if p.grad is not None])
        weight = float(self.weight)
        if self.counted and dist.world_size() > 1:
            weight = sum(dist.gather(weight)) / dist.world_size()
        if weight not in (0, 1):
            foreach_div_([p.grad for p in self.params if p.grad is not None], weight)

    @torch.no_grad()
    def close(self, *closure: Callable[[], Tensor]) -> None:
        """Step with the gradients of the open window; an optimizer that needs one is handed the closure.

        Raises NonFiniteError, and takes no step, for a gradient that is not finite, where that is looked at.
        """
        if not self.calls:
            return
        if self.weighted:
            self._divide()
        if self.clip or self.check:
            self.scaler.unscale_(self.optimizer)
            self.norm = nn.utils.clip_grad_norm_(self.params, self.clip) if self.clip else self._gradient_norm()
            # a scaler looks at gradients itself: those that are not finite are its way to find its scale
            if self.check and not self.scaler.is_enabled() and not math.isfinite(self.norm):
                raise NonFiniteError(f"the gradient's norm is {self.norm.item()}", steps=self.window)
        if self.scaler.is_enabled():
            begin_momentum(self.optimizer)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.step(*closure)
        self.drop()
        self.taken += 1
        if self.schedule is not None:
            self.schedule.after_step()

    def drop(self) -> None:
        """Empty the window."""
        for parameter in self.params:  # the optimizer's zero_grad() does the same, and 30 µs of bookkeeping
            parameter.grad = None
        self.calls, self.weight, self.window, self.scattered = 0, 0.0, [], False

    def _gradient_norm(self) -> Tensor:
        return nn.utils.get_total_norm([p.grad for p in self.params if p.grad is not None])

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, schedule, scaler and the open window with its gradients."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "names": self.names(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "scaler": self.scaler.state_dict(),
            "window": self._window_state(),
            "taken": self.taken,
        }

    def names(self) -> list[str]:
        """Return the names of the optimizer's parameters in its order, which its state knows by number alone."""
        known = {parameter: bare(name) for name, parameter in self.net.named_parameters()}
        return [known.get(parameter, "") for group in self.optimizer.param_groups for parameter in group["params"]]

    def _window_state(self) -> dict[str, Any]:
        """Return the open window; of several ranks that have not shared its gradients yet, those of each."""
        weight, gradients = float(self.weight), [p.grad for p in self.params] if self.calls else []
        state = {"calls": self.calls, "weight": weight, "gradients": gradients}
        if self.counted:
            state["counted"] = True
        if self.calls and dist.world_size() > 1:
            own = [g if g is None else g.cpu() for g in gradients] if self.scattered else None
            state["ranks"] = dist.gather([weight, own])
        return state

    def _load_window(self, window: Mapping[str, Any]) -> None:
        """Open a window again; where there are other ranks than before, each has the mean of those."""
        self.calls, self.weight, self.counted = window["calls"], window["weight"], window.get("counted", False)
        gradients, self.window = window["gradients"], []
        ranks, world = window.get("ranks", [[self.weight, None]]), dist.world_size()
        if len(ranks) == world:
            self.weight, own = ranks[dist.rank()]
            self.scattered, gradients = own is not None, gradients if own is None else own
        else:
            if ranks[0][1] is not None:
                gradients = means([rank[1] for rank in ranks])
            # counts are summed over the ranks, and their gradients with them
            scale = len(ranks) / world if self.counted and self.calls else 1.0
            self.weight = scale * sum(weight for weight, _ in ranks) / len(ranks)
            gradients = [g if g is None or scale == 1 else g * scale for g in gradients]
        for parameter, gradient in zip(self.params, gradients, strict=False):
            copied = None if gradient is None else gradient.to(parameter.device, copy=True)
            parameter.grad = None if copied is None else divided_like(copied, parameter)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._load_optimizer(deepcopy(state["optimizer"]))  # whose tensors may lie in a file
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
            self.scaler.scale(
                torch.zeros((), device=self.params[0].device)
            )  # otherwise an open window could not be closed
        self.taken = state["taken"]
        self._load_window(state["window"])

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """Load a state of whole tensors, also where each rank has a part; whether a step is fused is not the run's."""
        fused = [group.get("fused") for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, own in zip(self.optimizer.param_groups, fused, strict=True):
            group.update({"fused": own} if "fused" in group else {})
        for part in getattr(self.optimizer, "parts", [self.optimizer]):
            for parameter, own in part.state.items():
                own.update({name: divided_like(v, parameter) for name, v in own.items() if isinstance(v, Tensor)})


def means(ranks: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
    """Return the mean of each tensor over the ranks; None counts as zeros."""
    found = ([tensor for tensor in tensors if tensor is not None] for tensors in zip(*ranks, strict=True))
    return [torch.stack(some).sum(0) / len(ranks) if some else None for some in found]


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer's step cannot be called without a closure that evaluates the loss again."""
    closure = inspect.signature(inspect.unwrap(type(optimizer).step)).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def stepper(optimizer: torch.optim.Optimizer, compiled: bool = False) -> Callable[..., object]:
    """Return what takes an optimizer's step; to be called under no_grad.

    It leaves out torch's wrappers, which take 30 to 70 µs a step and import torch's compiler, which takes longer than
    many a first epoch. Where the optimizer has hooks, a profiler runs or networks are compiled, they are needed.
    """
    mark_as_stepped(optimizer)
    bare = partial(inspect.unwrap(type(optimizer).step), optimizer)

    def step(*closure: Callable[[], Tensor]) -> object:
        begin_momentum(optimizer)
        whole = compiled or profiler_runs() or has_step_hooks(optimizer)
        return optimizer.step(*closure) if whole else bare(*closure)  # type: ignore[arg-type]

    return step


def begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give a momentum of 0 to parameters whose first gradient comes after that of others of their group.

    torch's fused SGD fails for these, such as those of a layer that was frozen.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    groups = [group for group in optimizer.param_groups if group["fused"] and group["momentum"]]
    if len(optimizer.state) == sum(len(group["params"]) for group in groups):
        return  # as after the first step of most networks
    for group in groups:
        states = [(p, optimizer.state.get(p, {})) for p in group["params"] if p.grad is not None]
        late = [p for p, state in states if state.get("momentum_buffer") is None]
        for p in late if len(late) < len(states) else ():
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
