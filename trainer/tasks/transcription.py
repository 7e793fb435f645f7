"""The text in a picture, learned by connectionist temporal classification (CTC) and read by its likeliest path."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from models._ctc import BLANK, best_path, prefix_search
from trainer.losses._measure import check_fit, learn, mean_of, measure
from trainer.task import Row, Task, Update, output_of
from utils.config.ranges import Count
from utils.errors import ConfigError
from utils.meters import ErrorRate, Mean, Meter

if TYPE_CHECKING:
    from utils.sinks.logger import Logger

__all__ = ["Transcription"]

SHOWN = 8  # pictures that are shown after each validation
LONGEST = 64  # characters of each that are shown


class Transcription(Task):
    """A reader of text over batches (pictures [B, C, H, W], targets [B, S], steps, lengths), as DigitStrings has them.

    The network gives logits or log-probabilities [T, B, 1 + characters] of the blank and of each character at each of T
    steps. The loss is CTC (Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data
    with Recurrent Neural Networks", 2006): the mean over the samples of -log p of the text, over its length. A text
    that fits into no path has no part in it. `cer` is the character error rate: edits over characters, of all
    validation texts together. `sequence_accuracy` is the share of texts without an error. A `beam` above 1 searches for
    the likeliest text among as many beginnings instead of taking the likeliest class at each step: slower, seldom
    better.
    """

    metrics: ClassVar[Mapping[str, str]] = {"cer": "min", "sequence_accuracy": "max", "loss": "min"}
    unsaved: ClassVar[tuple[str, ...]] = ("loss",)
    loss_takes: ClassVar[int] = 4
    pictures: Tensor  # for `show`: pictures of the last batch of validation
    texts: Tensor  # and the numbers of the texts that were read in them, and of the true ones, with blanks behind

    def __init__(
        self,
        model: nn.Module,
        alphabet: Sequence[str],
        in_channels: Count = 1,
        image_size: tuple[Count, Count] = (32, 128),
        beam: Count = 1,
        loss: Annotated[nn.Module, "loss"] | None = None,
    ):
        """`alphabet`, `in_channels` and `image_size` (height, width) come from the data.

        Raises ConfigError for a loss that takes no strings, or has its blank elsewhere.
        """
        super().__init__()
        self.model, self.alphabet, self.beam = model, list(alphabet), beam
        self.loss = loss or nn.CTCLoss(zero_infinity=True)
        if getattr(self.loss, "blank", BLANK) != BLANK:
            raise ConfigError(f"task.loss.blank: the data have their blank at {BLANK}; leave it out")
        strings = torch.zeros(4, 2, len(alphabet) + 1), torch.ones(2, 2, dtype=torch.int64), [4, 4], [1, 2]
        check_fit(self.loss, strings, "log-probabilities [T, B, C], targets [B, S], steps and lengths")
        self.register_buffer("pictures", torch.zeros(SHOWN, in_channels, *image_size), persistent=False)
        self.register_buffer("texts", torch.full((2, SHOWN, LONGEST), BLANK), persistent=False)

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        pictures, targets, steps, lengths = _parts(batch)
        loss, weight = measure(self.loss, self._log_probs(pictures, steps), targets, steps, lengths)
        return {"loss": learn(update, loss, weight, len(pictures))}

    def meters(self) -> dict[str, Meter]:
        return {"cer": ErrorRate(), "sequence_accuracy": Mean(), "loss": Mean()}

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        pictures, targets, steps, lengths = _parts(batch)
        log_probs = self._log_probs(pictures, steps)
        loss, weight = measure(self.loss, log_probs, targets, steps, lengths)
        meters["loss"].add(*mean_of(loss, weight, len(pictures)))
        found = self._decode(log_probs, steps)
        truth = [row[:length] for row, length in zip(targets.tolist(), lengths, strict=True)]
        meters["cer"].add(found, truth)
        right = sum(one == other for one, other in zip(found, truth, strict=True))
        meters["sequence_accuracy"].add(right / len(truth), len(truth))
        self._keep(pictures, found, truth)

    def test_step(self, batch: Any) -> list[Row]:
        parts = batch if isinstance(batch, (tuple, list)) else [batch]  # a test split may have no texts
        steps = parts[2] if len(parts) > 2 else None
        return [{"text": self._text(row)} for row in self._decode(self._log_probs(parts[0], steps), steps)]

    def show(self, logger: "Logger", step: int) -> None:
        """Show validation pictures, and the texts that were read in them."""
        logger.images("lines", step, self.pictures)
        lines = [(self._text(found), self._text(truth)) for found, truth in zip(*self.texts.tolist(), strict=True)]
        told = [f"{found} ({'right' if found == truth else truth})" for found, truth in lines if truth]
        logger.text("read", step, ", ".join(told))

    def _log_probs(self, pictures: Tensor, steps: Sequence[int] | None) -> Tensor:
        """Return log-probabilities [T, B, C], float32.

        Raises ConfigError for other classes or steps than those of the data.
        """
        found = output_of(self.model, pictures, rank=3, samples=1).float()
        name, count = type(self.model).__name__, len(self.alphabet) + 1
        if found.shape[2] != count:
            raise ConfigError(f"model: {name} gives {found.shape[2]} classes, the data have {count} with the blank")
        if isinstance(steps, (list, tuple)) and max(steps) != len(found):
            raise ConfigError(
                f"model: {name} reads pictures {pictures.shape[3]} pixels wide in {len(found)} steps, the data in "
                f"{max(steps)}; make data.dataset.stride the pixels of a step of the network"
            )
        return found.log_softmax(2)

    def _decode(self, log_probs: Tensor, steps: Sequence[int] | None) -> list[list[int]]:
        """Return the characters that are read in each picture, as numbers."""
        return best_path(log_probs, steps) if self.beam == 1 else prefix_search(log_probs, self.beam, steps)

    def _text(self, numbers: Sequence[int]) -> str:
        return "".join(self.alphabet[number - 1] for number in numbers if number != BLANK)

    def _keep(self, pictures: Tensor, *texts: list[list[int]]) -> None:
        """Remember the first pictures of a batch for `show`, with the texts that were read and the true ones."""
        self.texts.fill_(BLANK)
        if pictures.shape[1:] != self.pictures.shape[1:]:
            return
        count = min(SHOWN, len(pictures))
        self.pictures.zero_()[:count] = pictures[:count]
        rows = [[row[:LONGEST] + [BLANK] * (LONGEST - len(row)) for row in part[:count]] for part in texts]
        self.texts[:, :count] = self.texts.new_tensor(rows)


def _parts(batch: Any) -> tuple[Tensor, Tensor, Any, Any]:
    """Return pictures, targets, steps and lengths. Raises ConfigError for a batch of other parts."""
    if isinstance(batch, (tuple, list)) and len(batch) == 4:
        return tuple(batch)
    raise ConfigError("data.dataset: Transcription learns from pictures with texts, as those of DigitStrings")
