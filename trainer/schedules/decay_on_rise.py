"""The book's rule for the learning rate."""

from typing import Any

from torch.optim import Optimizer

__all__ = ["DecayOnRise"]


class DecayOnRise:
    """The book's rule: when the validation loss is higher than the time before, lr becomes lr * lr_decay.

    The optimizer is changed in place, so that its momentum is kept (book, section 6.1.8).
    """

    unit = "validation"  # its step is called after each of them, with the loss

    def __init__(self, optimizer: Optimizer, lr_decay: float = 0.5, min_lr: float = 0.0):
        """Raises ValueError unless 0 < lr_decay <= 1."""
        if not 0 < lr_decay <= 1:
            raise ValueError(f"lr_decay must lie above 0 and not above 1, got {lr_decay}")
        self.optimizer, self.lr_decay, self.min_lr = optimizer, lr_decay, min_lr
        self.previous: float | None = None

    def step(self, loss: float) -> None:
        if self.previous is not None and loss > self.previous:
            for group in self.optimizer.param_groups:
                lowest = min(self.min_lr, group["lr"])  # a group may have begun below it
                group["lr"] = max(group["lr"] * self.lr_decay, lowest)
        self.previous = loss

    def state_dict(self) -> dict[str, Any]:
        return {"previous": self.previous}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.previous = state["previous"]
