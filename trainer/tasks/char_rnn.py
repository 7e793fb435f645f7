"""A language model of characters, learned by cross-entropy, that continues a text or writes an acrostic."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.task import Row, Task, Update, pair_of
from trainer.tasks._script import near_form
from utils.errors import ConfigError
from utils.meters import Mean, Meter

if TYPE_CHECKING:
    from utils.sinks.logger import Logger

__all__ = ["LanguageModel"]

BEGIN, END, UNKNOWN = 0, 1, 2  # the first entries of a vocabulary: two marks, and the sign for any other character
USUAL_START = "春江花月"
SENTENCE_ENDS = "。！？"
PAUSES = "，、；：" + SENTENCE_ENDS
SHOWN = 48  # characters of the sample that is shown after each validation


class LanguageModel(Task):
    """A language model by cross-entropy over (inputs, targets) [B, T] of characters, each target the next one.

    The network gives logits [B, T, vocabulary] and its state. `perplexity` is e to the `loss`, the mean over the
    characters of the validation texts; the marks around a poem, which are easier, are not counted there.
    """

    metrics: ClassVar[Mapping[str, str]] = {"perplexity": "min", "loss": "min"}

    def __init__(self, model: nn.Module, vocabulary: Sequence[str] = ()):
        """`vocabulary`, from the data: marks for begin, end and an unknown character, then the characters."""
        super().__init__()
        self.model = model
        self.vocabulary = list(vocabulary)

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        logits, targets = self._logits(batch)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        update(loss)
        return {"loss": loss}

    def at_chance(self) -> dict[str, float]:
        return {"loss": math.log(len(self.vocabulary))} if self.vocabulary else {}

    def meters(self) -> dict[str, Meter]:
        return {"perplexity": Perplexity(), "loss": Mean()}

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        losses, counted = self._losses(batch)
        for name in ("perplexity", "loss"):
            meters[name].add(losses.sum() / counted.sum().clamp(min=1), int(counted.sum()))

    def test_step(self, batch: Any) -> list[Row]:
        losses, counted = self._losses(batch)
        means = losses.sum(1) / counted.sum(1).clamp(min=1)  # [B]
        return [{"perplexity": value} for value in means.double().exp().tolist()]

    def show(self, logger: "Logger", step: int) -> None:
        """Show a short poem, drawn with random numbers of its own: the same at the same step of the same run."""
        draws = torch.Generator().manual_seed(step)
        training = self.training
        with torch.no_grad():
            poem = Writer(self.eval(), draws, temperature=0.8).write("", "", SHOWN)
        self.train(training)
        logger.text("poem", step, poem)

    def generate(
        self,
        *,
        start_words: str | None = None,
        prefix_words: str = "",
        acrostic: bool = False,
        max_gen_len: int = 125,
        temperature: float = 0.8,
    ) -> str:
        """Write a poem, a sentence a line, of at most `max_gen_len` characters.

        It begins with `start_words`; or, an `acrostic`, each of its lines begins with one of their characters. Without
        them it begins with 春江花月, or as it likes if it has never learned these.
        `prefix_words` set the mood and are not written. A `temperature` near 0 takes the likeliest character each
        time, a high one takes any.

        Raises ConfigError for a character that the model does not know, for a length below 1, for a temperature that
        is not above 0, and for an acrostic of no characters.
        """
        start_words = self._usual_start() if start_words is None else start_words
        self._check(start_words + prefix_words)
        if max_gen_len < 1 or not 0 < temperature < math.inf:
            raise ConfigError("generate: max_gen_len must be at least 1, and temperature above 0")
        if acrostic and not start_words:
            raise ConfigError("generate: an acrostic needs --start-words=…, the first characters of its lines")
        draws = torch.Generator().manual_seed(int(torch.randint(2**62, ())))  # from the run's seed
        writer = Writer(self, draws, temperature)
        return (writer.write_acrostic if acrostic else writer.write)(start_words, prefix_words, max_gen_len)

    def _logits(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return logits [B, T, V] and targets [B, T]. Raises ConfigError for data or a network of another kind."""
        inputs, targets = pair_of(batch)
        if targets.ndim != 2 or targets.is_floating_point():
            raise ConfigError("data.dataset: LanguageModel learns from texts, as those of Poems, and is given others")
        if not (isinstance(found := self.model(inputs), tuple) and len(found) == 2):
            raise ConfigError(
                "model: LanguageModel needs a network that gives logits and its state, such as CharRNN or GPT"
            )
        return found[0], targets

    def _losses(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of each target, 0 for a mark; and which targets are characters: both [B, T]."""
        logits, targets = self._logits(batch)
        losses = F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")
        counted = targets >= UNKNOWN
        return losses * counted, counted

    def _usual_start(self) -> str:
        return USUAL_START if set(USUAL_START) <= set(self.vocabulary) else ""

    def _check(self, words: str) -> None:
        """Raises ConfigError with each character that the vocabulary lacks, and the form of it that it has."""
        known = set(self.vocabulary[UNKNOWN + 1 :])
        missing = [character for character in dict.fromkeys(words) if character not in known]
        if missing:
            near = {c: form for c in missing if (form := near_form(c)) in known}
            hint = ", ".join(f"{form} for {c}" for c, form in near.items())
            advice = f"; it knows another script's form: {hint}" if near else "; use others"
            raise ConfigError(f"generate: the model has never learned {' '.join(missing)}{advice}")


class Writer:
    """One poem being written: what was read and written so far is in the network's state."""

    def __init__(self, task: LanguageModel, draws: torch.Generator, temperature: float):
        """`draws` is a generator on the CPU, so that a GPU writes the same as a CPU, except for rounding."""
        self.task, self.draws, self.temperature = task, draws, temperature
        self.numbers = {character: i for i, character in enumerate(task.vocabulary)}
        self.device = next(task.parameters()).device
        self.state: Any = None
        self.logits = torch.empty(0)  # [V], of the next character

    def write(self, start: str, prefix: str, limit: int) -> str:
        """Go on from `start` until the poem's end or the limit."""
        start = start[:limit]
        self._read([BEGIN, *self._mood(prefix), *self._numbers(start)])
        text = start
        while len(text) < limit and (number := self._draw(forbidden=[BEGIN, UNKNOWN])) != END:
            text += self.task.vocabulary[number]
        return _in_lines(text)

    def write_acrostic(self, heads: str, prefix: str, limit: int) -> str:
        """Write a sentence for each of the characters, which begins with it."""
        self._read([BEGIN, *self._mood(prefix)])
        text = "".join(character for head in heads for character in self._sentence(head, limit))
        return _in_lines(text[:limit])

    def _sentence(self, head: str, limit: int) -> Iterator[str]:
        """Yield the head and the characters up to the end of the sentence, which a limit may cut off."""
        self._read(self._numbers(head))
        character, length = head, 1
        while character not in SENTENCE_ENDS and length < limit:
            yield character
            character = self.task.vocabulary[self._draw(forbidden=[BEGIN, END, UNKNOWN])]
            length += 1
        yield character

    def _draw(self, forbidden: Sequence[int]) -> int:
        """Draw the next character, read it, and return its number."""
        logits = self.logits.clone()
        logits[list(forbidden)] = -math.inf
        weights = ((logits - logits.max()) / self.temperature).softmax(0)
        number = int(torch.multinomial(weights, 1, generator=self.draws))
        self._read([number])
        return number

    def _read(self, numbers: Sequence[int]) -> None:
        most = getattr(self.task.model, "length", len(numbers))  # that a Transformer reads at once
        for piece in torch.tensor([list(numbers)], device=self.device).split(most, 1):
            logits, self.state = self.task.model(piece, self.state)
        self.logits = logits[0, -1].double().cpu()

    def _mood(self, prefix: str) -> list[int]:
        """Return the prefix, closed as a sentence: otherwise the poem's first words would be read as its rest."""
        open_end = prefix and prefix[-1] not in PAUSES and "。" in self.numbers
        return self._numbers(f"{prefix}。" if open_end else prefix)

    def _numbers(self, text: str) -> list[int]:
        return [self.numbers[character] for character in text]


class Perplexity(Mean):
    """e to the mean cross-entropy: among how many equally likely characters the model hesitates."""

    def value(self) -> float | None:
        mean = super().value()
        return None if mean is None else math.exp(min(mean, 700))  # above it a float has no exponential


def _in_lines(text: str) -> str:
    """Return the text with a line for each sentence."""
    for mark in SENTENCE_ENDS:
        text = text.replace(mark, f"{mark}\n")
    return text.rstrip("\n")
