"""Test-time augmentation: a network that sees several views of each picture and gives the average of its outputs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs import COMPONENTS, Component, Config
from trainer.inference.views import View
from trainer.task import Task
from utils.errors import ConfigError
from utils.randomness import same_random_state
from utils.terminal import show

__all__ = ["with_views"]

Kind = Literal["classes", "labels", "numbers", "masks"]
FLIPS = ("RandomHorizontalFlip", "RandomVerticalFlip")  # a view is flipped, not only now and then


def with_views(task: Task, cfg: Config, meta: Mapping[str, Any]) -> Task:
    """Let the task's network see the views of test.views, besides the pictures themselves.

    Classes and labels: the average of the probabilities. Numbers: that of the outputs. Masks: that of the pixels'
    probabilities, each moved back to its place.

    Raises ConfigError where the task's outputs are none of them, or a view of masks cannot be undone.
    """
    if not cfg.test.views:
        return task
    known: dict[str | None, Kind] = {"class": "classes", "number": "numbers", "labels": "labels"}
    kind = "masks" if "mask_values" in meta else known.get(task.target_kind)
    if kind is None or "model" not in dict(task.named_children()):
        raise ConfigError(
            f"test.views: {type(task).__name__} does not predict classes, labels, numbers or masks; leave it out"
        )
    views = [_build(spec, i) for i, spec in enumerate(cfg.test.views)]
    for spec, view in zip(cfg.test.views, views, strict=True):
        if kind == "masks" and not isinstance(view, View):
            raise ConfigError(f"test.views: {spec.name} cannot be undone in a mask; take flips, turns or scale")
    task.model = Viewed(task.get_submodule("model"), views, kind)
    show(f"views: the pictures, {', '.join(spec.name for spec in cfg.test.views)} (test.views)")
    return task


def _build(spec: Component, place: int) -> nn.Module:
    args = {"p": 1.0, **spec.args} if spec.name in FLIPS else spec.args
    return COMPONENTS["view"].build(Component(spec.name, args), f"test.views[{place}]")


class Viewed(nn.Module):
    """A network whose output is the average over views of its input; of classes and labels it is that of probabilities,
    as logits.
    """

    def __init__(self, network: nn.Module, views: Sequence[nn.Module], kind: Kind):
        super().__init__()
        self.network, self.views, self.kind = network, nn.ModuleList(views), kind

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the average output. Raises ConfigError for inputs that are no pictures, or a view that fails."""
        if pictures.ndim != 4:
            raise ConfigError(f"test.views: inputs of shape {list(pictures.shape)} are no pictures; leave it out")
        outputs = [self.network(pictures), *self._outputs(pictures)]
        if self.kind == "numbers":
            return torch.stack(outputs).mean(0)
        if self.kind == "labels":
            yes, no = (
                torch.stack([F.logsigmoid(sign * out.float()) for out in outputs]).logsumexp(0) for sign in (1, -1)
            )
            return yes - no
        logs = torch.stack([F.log_softmax(output.float(), 1) for output in outputs])
        return logs.logsumexp(0) - torch.tensor(len(outputs), dtype=torch.float32).log().to(logs.device)

    def _outputs(self, pictures: Tensor) -> Iterator[Tensor]:
        """Yield the network's output for each view, whose random numbers are always the same ones."""
        for view in self.views:
            with same_random_state():
                torch.manual_seed(0)
                try:
                    seen = view(pictures)
                except (ValueError, RuntimeError) as error:
                    reason = " ".join(str(error).split())
                    size = "x".join(map(str, reversed(pictures.shape[-2:])))
                    raise ConfigError(f"test.views: {type(view).__name__} of {size} pixels: {reason}") from error
            for one in seen if isinstance(seen, tuple) else (seen,):
                if self.kind == "masks":
                    yield view.undo(self.network(one), pictures)  # type: ignore[operator]
                else:
                    yield self.network(_sized(one, pictures))


def _sized(view: Tensor, pictures: Tensor) -> Tensor:
    """Return a view at the size that the network learned from."""
    if view.shape[-2:] == pictures.shape[-2:]:
        return view
    return F.interpolate(view, pictures.shape[-2:], mode="bilinear", antialias=True)
