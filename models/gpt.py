"""GPT: a Transformer that reads characters and predicts the next one after each."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.basic_module import BasicModule
from utils.config.ranges import Count, Depth, Fraction
from utils.errors import ConfigError

__all__ = ["GPT"]


class GPT(BasicModule):
    """Language model of pre-norm blocks with causal attention and learned positions (Radford et al., 2019: GPT-2).

    It sees at most `length` characters, itself included. The first weights are GPT-2's, larger in a network narrower
    than its 768. `tied`: the output layer has the weights of the embedding. Dropout acts on the embeddings, on the
    attention and at the end of each branch.

    Raises:
        ValueError: `width` is no multiple of `heads`, or dropout is outside [0, 1).
    """

    def __init__(
        self,
        vocabulary_size: Count,
        length: Count = 64,
        width: Count = 128,
        layers: Depth = 4,
        heads: Count = 4,
        dropout: Fraction = 0.0,
        tied: bool = True,
    ) -> None:
        super().__init__()
        if width % heads or layers < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"GPT needs layers >= 1, a width that its heads divide and 0 <= dropout < 1, not layers={layers}, "
                f"width={width}, heads={heads}, dropout={dropout}"
            )
        self.length = length
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Embedding(length, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, vocabulary_size, bias=False)
        std = 0.02 * math.sqrt(768 / width)  # a sum over the width has the size that it has in GPT-2
        for module in self.modules():
            _initialise(module, std)
        for block in self.blocks.children():  # so that the sum over all branches keeps its size
            for last in (block.attention.output, block.mlp[2]):  # type: ignore[union-attr, index]
                nn.init.normal_(last.weight, std=std / math.sqrt(2 * layers))  # type: ignore[union-attr, arg-type]
        if tied:
            self.output.weight = self.embedding.weight

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
        hidden = self.embedding(text) + self.positions(torch.arange(text.shape[1], device=x.device))  # [B, S, width]
        hidden = self.dropout(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        return self.output(self.norm(hidden[:, -x.shape[1] :])), text


class Block(nn.Module):
    """Attention, then two linear layers, each added to its input [B, T, width]."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads, dropout)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class CausalAttention(nn.Module):
    """Attention of several heads, in which each place sees itself and those before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.inputs(x).chunk(3, dim=2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)  # [B, heads, T, d]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))


def _initialise(module: nn.Module, std: float) -> None:
    """Draw a layer's first weights, without biases, as GPT-2 does."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
