"""Kernels: the kernels of a convolution, and its feature maps of a picture, as PNG files."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.evaluate import evaluating
from trainer.watchers._thumbnails import guarded, inputs_of, thumbnails
from trainer.watchers.watcher import Run, Watcher
from utils.device import autocast
from utils.words import suggest

__all__ = ["Kernels"]

KERNELS, MAPS = "kernels.png", "feature_maps.png"
MOST, LAYERS = 64, 4  # pictures of a layer; layers that are drawn
SIDE = 64  # pixels that a picture is brought to


class Kernels(Watcher):
    """Draws kernels.png and feature_maps.png after each validation; they are replaced by the next."""

    def __init__(self, layers: list[str] | None = None):
        """`layers`: names of convolutions, as last.pth has them; the first one by default."""
        self.layers = layers
        self.picture: Tensor | None = None  # [1, C, H, W], the first of the training

    def after_step(self, run: Run, batch: Any, scalars: Mapping[str, Tensor]) -> bool:
        """Keep a picture."""
        inputs = inputs_of(batch)
        self.picture = None if inputs is None else inputs[:1].detach().clone()
        return False

    def after_validation(self, run: Run, numbers: Mapping[str, float], extras: Mapping[str, Any]) -> None:
        if run.folder is None:
            return
        found = self._chosen(run)
        _draw_kernels(run, found)
        if self.picture is not None:
            self._draw_maps(run, found, self.picture)

    def _chosen(self, run: Run) -> dict[str, nn.Conv2d]:
        """Return the convolutions by name. Raises ValueError for a name that is none."""
        networks = {role: net for role, net in run.eval_task.named_children() if role not in run.eval_task.unsaved}
        known = {
            name if len(networks) == 1 else f"{role}.{name}": layer
            for role, net in networks.items()
            for name, layer in net.named_modules()
            if isinstance(layer, nn.Conv2d)
        }
        if not known:
            raise ValueError("the network has no convolution")
        for name in self.layers or ():
            if name not in known:
                raise ValueError(f"layers: the network has no convolution '{name}'{suggest(name, known)}")
        names = list(known)[:1] if self.layers is None else self.layers[:LAYERS]
        return {name: known[name] for name in names}

    def _draw_maps(self, run: Run, found: Mapping[str, nn.Conv2d], picture: Tensor) -> None:
        """Draw the picture and the outputs of the layers for it."""
        from utils.figures.gallery import Row, draw_gallery

        seen: dict[str, Tensor] = {}
        hooks = [layer.register_forward_hook(_keeper(seen, name)) for name, layer in found.items()]
        try:
            with evaluating(run.eval_task), torch.no_grad(), autocast(run.device, run.cfg.train.precision):
                for network in _networks_of(run, found):
                    network(picture)
        finally:
            for hook in hooks:
                hook.remove()
        drawn = thumbnails(picture, run.cfg.data.transform.train, SIDE)
        rows = [Row("the first picture of the training", drawn, [[]] * len(drawn))]
        for name, maps in seen.items():
            pictures = thumbnails(_stretched(maps[:MOST, None].float()), (), SIDE)
            rows.append(Row(_title(name, maps.shape[0], "feature maps"), pictures, [[]] * len(pictures)))
        with guarded(run.folder / MAPS, run.say) as target:  # type: ignore[operator]
            draw_gallery(f"feature maps after step {run.progress.step}", rows, target)
        run.logger.picture("feature maps", run.folder / MAPS)  # type: ignore[operator]


def _keeper(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    """Return a hook that keeps the first output of a layer; it returns nothing, which would take the output's place."""

    def keep(layer: nn.Module, given: Any, output: Tensor) -> None:
        seen.setdefault(name, output[0].clone())

    return keep


def _networks_of(run: Run, found: Mapping[str, nn.Conv2d]) -> Iterator[nn.Module]:
    """Yield the networks that hold the layers."""
    for role, network in run.eval_task.named_children():
        if role not in run.eval_task.unsaved and set(found.values()) & set(network.modules()):
            yield network


def _draw_kernels(run: Run, found: Mapping[str, nn.Conv2d]) -> None:
    """Draw the kernels: in colour where they take three channels, otherwise the mean over channels."""
    from utils.figures.gallery import Row, draw_gallery

    rows = []
    for name, layer in found.items():
        weight = layer.weight.detach().float().cpu()[:MOST]
        weight = weight if weight.shape[1] in (1, 3) else weight.mean(1, keepdim=True)
        pictures: Sequence[np.ndarray] = thumbnails(_stretched(weight), (), SIDE)
        rows.append(Row(_title(name, layer.out_channels, "kernels"), pictures, [[]] * len(pictures)))
    with guarded(run.folder / KERNELS, run.say) as target:  # type: ignore[operator]
        draw_gallery(f"kernels after step {run.progress.step}", rows, target)
    run.logger.picture("kernels", run.folder / KERNELS)  # type: ignore[operator]


def _title(name: str, count: int, kind: str) -> str:
    return f"{name}: {min(count, MOST)} of {count} {kind}, each from its lowest value (black) to its highest (white)"


def _stretched(pictures: Tensor) -> Tensor:
    """Return pictures [N, C, H, W] each from 0 to 1."""
    flat = pictures.flatten(1)
    low, high = flat.min(1).values, flat.max(1).values
    room = (high - low).clamp(min=math.ulp(1.0))
    return ((flat - low[:, None]) / room[:, None]).view_as(pictures)
