"""TransformerPoet: torch's Transformer encoder with a causal mask, which predicts the next character after each."""

import math

import torch
from torch import Tensor, nn

from models.basic_module import BasicModule
from utils.config.ranges import Count, Depth, Fraction
from utils.errors import ConfigError

__all__ = ["TransformerPoet"]


class TransformerPoet(BasicModule):
    """Language model of `nn.TransformerEncoder` layers and sines of the position (book, second edition, chapter 9).

    It sees at most `length` characters, itself included. `feedforward` is the width between the two linear layers of
    each layer, by default four times `width`. Dropout acts on the embeddings and within the layers. Norms stand at the
    beginning of each branch, so that it learns without a long warm-up (Xiong et al., 2020).

    Raises:
        ValueError: `width` is odd or no multiple of `heads`, no layer, or dropout outside [0, 1).
    """

    positions: Tensor  # [length, width]

    def __init__(
        self,
        vocabulary_size: Count,
        length: Count = 64,
        width: Count = 256,
        layers: Depth = 3,
        heads: Count = 8,
        feedforward: Count | None = None,
        dropout: Fraction = 0.1,
    ) -> None:
        super().__init__()
        if width % heads or width % 2 or layers < 1 or not 0 <= dropout < 1:
            raise ValueError(
                "TransformerPoet needs layers >= 1, an even width that its heads divide and 0 <= dropout < 1, not "
                f"layers={layers}, width={width}, heads={heads}, dropout={dropout}"
            )
        self.length, self.scale = length, math.sqrt(width)
        self.embedding = nn.Embedding(vocabulary_size, width)
        nn.init.normal_(self.embedding.weight, std=1 / self.scale)
        self.register_buffer("positions", sines(length, width), persistent=False)
        self.dropout = nn.Dropout(dropout)
        options = {"activation": "gelu", "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(width, heads, feedforward or 4 * width, dropout, **options)  # type: ignore[arg-type]
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        for weight in self.encoder.parameters():  # its layers are copies of one
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)
        self.output = nn.Linear(width, vocabulary_size)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits [B, T, vocabulary] for the character after each of the numbers x [B, T], and the next state.

        The state is the text itself: the last numbers before x, which are read again, up to `length` of both.

        Raises:
            ConfigError: x has more than `length` characters.
        """
        if x.shape[1] > self.length:
            raise ConfigError(
                f"model.length: the network reads {self.length} characters at most and is given {x.shape[1]}; leave it "
                "out, and it is that of the data, or set data.dataset.length"
            )
        text = x if state is None else torch.cat([state, x], 1)[:, -self.length :]  # [B, S], S >= T
        hidden = self.dropout(self.embedding(text) * self.scale + self.positions[: text.shape[1]])  # [B, S, width]
        later = torch.ones(text.shape[1], text.shape[1], dtype=torch.bool, device=x.device).triu(1)
        hidden = self.encoder(hidden, later, is_causal=True)
        return self.output(hidden[:, -x.shape[1] :]), text


def sines(length: int, width: int) -> Tensor:
    """Return the sines and cosines of each position, in turn, of growing wavelengths, [length, width].

    Vaswani et al., "Attention Is All You Need", 2017.
    """
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))  # [width / 2]
    angles = torch.arange(length).unsqueeze(1) * rates  # [length, width / 2]
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
