"""CharRNN: an LSTM that reads characters and predicts the next one after each."""

from typing import ClassVar

from torch import Tensor, nn

from models.basic_module import BasicModule, Renaming
from utils.config.ranges import Count, Depth, Fraction

__all__ = ["CharRNN"]

State = tuple[Tensor, Tensor]  # hidden and cell, each [layers, B, width]


class CharRNN(BasicModule):
    """Character-level language model: embedding, LSTM, linear layer (book, chapter 9).

    Dropout acts between layers of the LSTM and before the linear layer. `sparse`: the gradient of the embedding holds
    the characters of a batch alone, for `optim: {name: SparseAdam, rest: Adam}`.
    The weights of the book's PoetryModel load.

    Raises:
        ValueError: no layer, or dropout outside [0, 1).
    """

    published: ClassVar[Renaming] = ((r"^embeddings\.", "embedding."), (r"^linear1\.", "output."))

    def __init__(
        self,
        vocabulary_size: Count,
        embedding: Count = 128,
        width: Count = 256,
        layers: Depth = 2,
        dropout: Fraction = 0.0,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        if layers < 1 or not 0 <= dropout < 1:
            raise ValueError(f"CharRNN needs layers >= 1 and 0 <= dropout < 1, not {layers} and {dropout}")
        self.embedding = nn.Embedding(vocabulary_size, embedding, sparse=sparse)
        between = dropout if layers > 1 else 0.0  # torch warns of dropout between layers if there is only one
        self.lstm = nn.LSTM(embedding, width, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, vocabulary_size)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return logits [B, T, vocabulary] for the character after each of the numbers x [B, T], and the next state.

        Without a `state` the LSTM begins with zeros.
        """
        hidden, state = self.lstm(self.embedding(x), state)  # [B, T, width]
        return self.output(self.dropout(hidden)), state
