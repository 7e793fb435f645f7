"""Logger: scalars, pictures and text to every backend; the run folder's journal is the truth, the others are views."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


__all__ = ["Backend", "Logger"]


class Backend(Protocol):
    """A view of the run; what it does not show it inherits."""

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        return

    def images(self, name: str, step: int, images: "Tensor") -> None:
        return

    def text(self, name: str, step: int, text: str) -> None:
        return

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        return

    def close(self) -> None:
        return


class Logger:
    """Hands everything on to its backends; has none on ranks other than 0."""

    def __init__(self, backends: Sequence[Backend] = ()):
        self.backends = list(backends)

    def scalars(self, phase: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """One row: the values of a phase (train, val or test) after `step` training steps."""
        for backend in self.backends:
            backend.scalars(phase, epoch, step, values)

    def images(self, name: str, step: int, images: "Tensor") -> None:
        """Pictures [N, C, H, W] or [C, H, W], values in [0, 1]."""
        for backend in self.backends:
            backend.images(name, step, images)

    def text(self, name: str, step: int, text: str) -> None:
        for backend in self.backends:
            backend.text(name, step, text)

    def matrix(self, name: str, step: int, matrix: Any, labels: Sequence[str]) -> None:
        """A confusion matrix [C, C]: rows are the truth."""
        for backend in self.backends:
            backend.matrix(name, step, matrix, labels)

    def close(self) -> None:
        for backend in self.backends:
            backend.close()
