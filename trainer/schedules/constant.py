"""No scheduler at all, for a warm-up that nothing follows."""

from typing import Any

from torch.optim import Optimizer

__all__ = ["Constant"]


class Constant:
    """Keeps the rate as it is: `schedule: {warmup: 2}` alone is this one after a warm-up."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer

    def step(self) -> None:
        """Change nothing."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing: there is no state."""
