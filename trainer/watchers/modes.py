"""Modes: tells layers that compute in the wrong mode: a norm layer in evaluation mode while it learns, live dropout."""

from typing import Any

from torch import nn

from trainer.watchers.watcher import Run, Watcher
from utils.blame import place_of_method
from utils.torch_private import is_batch_norm

__all__ = ["Modes"]

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class Modes(Watcher):
    """Looks at the mode in which norm and dropout layers are used, and says at the end which was the wrong one."""

    def __init__(self) -> None:
        self.hooks: list[Any] = []
        self.used: dict[tuple[nn.Module, bool, bool], None] = {}  # layer, its mode, that of the task

    def begin(self, run: Run) -> None:
        for task in dict.fromkeys((run.task, run.eval_task)):
            for layer in task.modules():
                if is_batch_norm(layer) or isinstance(layer, DROPOUT):
                    hook = layer.register_forward_hook(lambda used, given, output, task=task: self._note(used, task))
                    self.hooks.append(hook)

    def _note(self, layer: nn.Module, task: nn.Module) -> None:
        self.used[layer, layer.training, task.training] = None

    def end(self, run: Run) -> None:
        names = {module: name for task in (run.eval_task, run.task) for name, module in task.named_modules()}
        frozen = [one for one in self._in(False, True) if is_batch_norm(one) and _learns(one)]
        live = list(self._in(True, False))
        for layers, told in (
            (frozen, "in evaluation mode while the network trains: its statistics stay as they are, its weights learn"),
            (live, "in training mode in validation, whose numbers are then by chance or depend on the batch"),
        ):
            if layers:
                more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
                role = names[layers[0]].partition(".")[0]
                network = run.task.get_submodule(role)
                place = next((p for name in ("train", "forward") if (p := place_of_method(network, name))), "")
                told = f"{names[layers[0]]} ({type(layers[0]).__name__}){more} is used {told}"
                run.say(f"note: {place + ': ' if place else ''}{told}; leave train() and eval() to the trainer")

    def _in(self, own: bool, whole: bool) -> dict[nn.Module, None]:
        """Return the layers that were used in the mode `own` while the task's mode was `whole`."""
        return {layer: None for layer, mode, of_all in self.used if (mode, of_all) == (own, whole)}

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.used = [], {}


def _learns(layer: nn.Module) -> bool:
    """Return whether a layer has weights that learn; one that is frozen as a whole is so on purpose."""
    return any(p.requires_grad for p in layer.parameters())
