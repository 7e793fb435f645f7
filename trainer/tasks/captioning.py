"""Captions of photos: a frozen network sees, a language model tells what it saw."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models.captioner import END, search
from trainer.task import Row, Task, Update
from utils.config.ranges import Count, Fraction
from utils.errors import ConfigError
from utils.meters import Mean, Meter
from utils.meters.bleu import Bleu

if TYPE_CHECKING:
    from PIL.Image import Image

    from utils.sinks.logger import Logger

__all__ = ["Captioning"]

FARTHEST = 5.0  # deviations from the mean that a feature may be away
LONGEST = 30  # words of a caption that is written
SHOWN = 4  # captions that are shown after each validation
CHINESE = "\u3400"  # words of one character from here on stand without spaces


class Captioning(Task):
    """A decoder that learns by cross-entropy to tell the features of photos in words (book, chapter 10).

    The encoder maps pictures [B, 3, H, W] in [0, 1] to features [B, D] and never learns, so that each photo's features
    are computed once; the trainer keeps them and hands them to `adapt`. The decoder sees them standardised over the
    training set: those of an untrained network are nearly the same for every photo. `loss` is the mean over all words
    of the validation captions, in nats, ends of sentences included; `bleu1` to `bleu4` are of the captions that the
    search of width `beam` finds, against all captions of the photo.
    """

    metrics: ClassVar[Mapping[str, str]] = {
        "loss": "min",
        "bleu4": "max",
        "bleu3": "max",
        "bleu2": "max",
        "bleu1": "max",
    }

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        vocabulary: Sequence[str] = (),
        image_size: tuple[Count, Count] = (224, 224),
        beam: Count = 3,
        sampling: Fraction = 0.0,
        sampling_steps: Count = 1000,
    ):
        """`vocabulary` and `image_size` (height, width) come from the data.

        While it learns the decoder reads what people wrote; after `sampling_steps` steps, and before in proportion, a
        share of `sampling` of the words is instead what it would have written itself, as it must do when it is used.

        Raises ValueError for a beam below 1, a share outside [0, 1], or fewer than 1 step.
        """
        super().__init__()
        if beam < 1:
            raise ValueError(f"a beam of {beam} follows no sentence; it must be at least 1")
        if not 0 <= sampling <= 1 or sampling_steps < 1:
            raise ValueError("sampling must be in [0, 1], and sampling_steps at least 1")
        self.sampling, self.sampling_steps = sampling, sampling_steps
        self.encoder, self.decoder = encoder.requires_grad_(False), decoder
        self.vocabulary, self.image_size, self.beam = list(vocabulary), list(image_size), beam
        self.mean: Tensor
        self.std: Tensor
        self.shown: Tensor
        self.register_buffer("mean", torch.zeros(decoder.feature_size))  # type: ignore[call-overload]
        self.register_buffer("std", torch.ones(decoder.feature_size))  # type: ignore[call-overload]
        # Of the last batch of validation: the written captions and the references, filled up with ends.
        self.register_buffer("shown", torch.full((2, SHOWN, LONGEST + 1), END), persistent=False)

    def encode(self, pictures: Tensor) -> Tensor:
        """Features [B, D] of pictures [B, 3, H, W], float32 whatever the precision of the run."""
        with torch.autocast(pictures.device.type, enabled=False):
            return self.encoder(pictures)

    def adapt(self, features: Tensor) -> None:
        """Standardise from now on by the mean and deviation of these features, [N, D] or grids [N, places, D].

        Raises ConfigError when they are not as many as the decoder takes.
        """
        grid = bool(self.decoder.attention)
        if features.shape[-1] != len(self.mean) or features.ndim != 2 + grid:
            size = "x".join(map(str, features.shape[1:]))
            wanted = f"a grid of {len(self.mean)} features (attention)" if grid else f"{len(self.mean)} features"
            advice = "set model.decoder.feature_size and .attention to what the encoder gives"
            raise ConfigError(
                f"model.decoder: it takes {wanted}, but {type(self.encoder).__name__} gives {size}; {advice}"
            )
        deviation, mean = torch.std_mean(features.double().flatten(0, -2), 0, correction=0)
        self.mean.copy_(mean)
        # A feature that is the same for every photo, except for rounding, must not be blown up.
        self.std.copy_(deviation.masked_fill(deviation <= 1e-6 * mean.abs(), 1.0))

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        features, words, lengths, photos = batch
        features, read = self._standardised(features), words[:, :-1]
        if share := self.sampling * min(1.0, update.step / self.sampling_steps):
            read = self._mixed(features, photos, read, lengths, share)
        loss = self._loss(features, photos, read, words[:, 1:], lengths)
        update(loss, "decoder", weight=float(sum(lengths)))
        return {"loss": loss}

    def at_chance(self) -> dict[str, float]:
        return {"loss": math.log(len(self.vocabulary))} if self.vocabulary else {}

    def own_of_processes(self) -> Sequence[str]:
        return ["words of scheduled sampling"] if self.sampling else []

    def meters(self) -> dict[str, Meter]:
        return {"loss": Mean()} | {f"bleu{n}": Bleu(n) for n in (4, 3, 2, 1)}

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        features, words, lengths, photos = batch
        features = self._standardised(features)
        meters["loss"].add(self._loss(features, photos, words[:, :-1], words[:, 1:], lengths), sum(lengths))
        written = self._write(features, self.beam)
        meant: list[list[list[int]]] = [[] for _ in written]
        for photo, length, row in zip(photos.tolist(), lengths, words.tolist(), strict=True):
            meant[photo].append(row[1:length])
        for name in meters.keys() & {"bleu1", "bleu2", "bleu3", "bleu4"}:
            for sentence, references in zip(written, meant, strict=True):
                meters[name].add(sentence, references)
        self._remember(written, [references[0] for references in meant])

    def test_step(self, batch: Any) -> list[Row]:
        return [{"caption": self._text(s)} for s in self._write(self._standardised(batch), self.beam)]

    def show(self, logger: "Logger", step: int) -> None:
        """Show captions of some validation photos, each with one that a person wrote."""
        for written, meant in zip(*self.shown.tolist(), strict=True):
            if text := self._text(written):
                logger.text("caption", step, f"{text}  (a person: {self._text(meant)})")

    def generate(self, *, test_img: str, beam: int = 3) -> str:
        """Write a caption of the photo in the file `test_img`, found by a search of width `beam`; 1 is greedy search.

        The photo's short side is shrunk to the size of the training pictures and its middle is cut out.

        Raises ConfigError for a beam below 1, DataError for a photo that cannot be read.
        """
        from utils.images import read_image, to_tensor

        if beam < 1:
            raise ConfigError(f"generate: a beam of {beam} follows no sentence; it must be at least 1")
        picture = to_tensor(fit(read_image(test_img), self.image_size))[None].to(self.mean.device)
        return self._text(self._write(self._standardised(self.encode(picture)), beam)[0])

    def _standardised(self, features: Tensor) -> Tensor:
        """Return standardised features, cut off: one that hardly varies in training may be far away in a new photo."""
        return ((features - self.mean) / self.std).clamp(-FARTHEST, FARTHEST)

    def _write(self, features: Tensor, beam: int) -> list[list[int]]:
        """Write a sentence for each of the features [B, D]."""
        return search(self.decoder, features, beam, LONGEST)[0]  # type: ignore[arg-type]

    def _loss(self, features: Tensor, photos: Tensor, read: Tensor, words: Tensor, lengths: list[int]) -> Tensor:
        """Return the mean of -log p of each of the words [N, T] after those that are read, in nats."""
        logits = self.decoder(features, photos, read, lengths)  # [sum of lengths, V]
        return F.cross_entropy(logits.float(), _pack(words, lengths).data)

    @torch.no_grad()
    def _mixed(self, features: Tensor, photos: Tensor, read: Tensor, lengths: list[int], share: float) -> Tensor:
        """Replace a share of the words to read [N, T] by the decoder's own (Bengio et al., "Scheduled Sampling", 2015).

        All at once, each drawn after what people wrote (Mihaylova and Martins, "Scheduled Sampling for Transformers",
        2019): word for word would take as many passes as there are words.
        """
        logits = self.decoder(features, photos, read, lengths)
        drawn = torch.multinomial(logits.float().softmax(1), 1)[:, 0]  # [sum of lengths]
        written, _ = pad_packed_sequence(_pack(read, lengths)._replace(data=drawn), batch_first=True)  # [N, T]
        own = torch.rand(read[:, 1:].shape, device=read.device) < share
        return torch.cat([read[:, :1], torch.where(own, written[:, :-1], read[:, 1:])], 1)

    def _remember(self, written: list[list[int]], meant: list[list[int]]) -> None:
        self.shown.fill_(END)
        for place, sentences in zip(self.shown, (written, meant), strict=True):
            for row, sentence in zip(place, sentences, strict=False):
                row[: len(sentence)] = row.new_tensor(sentence)[: len(row)]

    def _text(self, sentence: Sequence[int]) -> str:
        """Return the words up to the end mark; between Chinese characters there is no space."""
        text, open_end = "", False
        for number in sentence:
            if number == END:
                break
            word = self.vocabulary[number]
            closed = len(word) == 1 and word >= CHINESE
            text += word if closed and open_end else f" {word}"
            open_end = closed
        return text.strip()


def _pack(words: Tensor, lengths: list[int]) -> PackedSequence:
    """Return the words [N, T] that count, in the order of the decoder's logits."""
    return pack_padded_sequence(words, lengths, batch_first=True)


def fit(image: "Image", size: Sequence[int]) -> "Image":
    """Return the middle of a picture, resized so that it just covers `size` (height, width)."""
    from torchvision.transforms.v2 import functional

    short = min(image.size)
    cover = max(math.ceil(side * short / own) for side, own in zip(size, image.size[::-1], strict=True))
    return functional.center_crop(functional.resize(image, [cover]), list(size))
