"""A classifier of sequences: a recurrent network reads them step by step, and its last state decides."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from models.basic_module import BasicModule
from utils.config.ranges import Count, Depth

__all__ = ["SequenceClassifier"]

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
CELLS = {"rnn_cell": nn.RNNCell, "lstm_cell": nn.LSTMCell, "gru_cell": nn.GRUCell}

State = tuple[Tensor, ...]  # hidden (B, width), and of an LSTM also the cell (B, width)


class SequenceClassifier(BasicModule):
    """A recurrent network and a linear layer (book, section 4.2.3); it gives logits (B, num_classes).

    It reads pictures (B, in_channels, H, W) row by row, as H steps of in_channels * W numbers, where (H, W) is the
    `image_size`. With a `vocabulary_size` it reads numbers of words (B, T), through an embedding as wide as the state;
    0 is the padding at the end, and the state after the last word decides. `bidirectional`: a second network in each
    layer reads from the end, and both last states decide.

    The kinds `rnn`, `lstm` and `gru` are torch's layers, which take the whole sequence at once. `rnn_cell`, `lstm_cell`
    and `gru_cell` compute the same with torch's cells, a step at a time in Python, which is slower and easy to read.

    `sparse`: the gradient of the embedding holds the words of a batch alone, as `optim: {name: SparseAdam, rest: Adam}`
    takes it.

    Raises:
        ValueError: neither vocabulary_size nor image_size is given, or layers below 1.
    """

    def __init__(
        self,
        num_classes: Count,
        in_channels: Count = 1,
        image_size: tuple[Count, Count] | None = None,
        vocabulary_size: Count | None = None,
        kind: Literal["rnn", "lstm", "gru", "rnn_cell", "lstm_cell", "gru_cell"] = "lstm",
        width: Count = 128,
        layers: Depth = 1,
        bidirectional: bool = False,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        if vocabulary_size is None and image_size is None:
            raise ValueError("SequenceClassifier must know its input: give image_size or vocabulary_size")
        if layers < 1:
            raise ValueError(f"SequenceClassifier needs layers >= 1, not {layers}")
        given = {"padding_idx": 0, "sparse": sparse}
        self.embedding = nn.Embedding(vocabulary_size, width, **given) if vocabulary_size else None
        inputs = width if image_size is None or vocabulary_size else in_channels * image_size[1]
        reader = Cells if kind in CELLS else Layers
        self.reader = reader(kind, inputs, width, layers, bidirectional)
        self.output = nn.Linear(width * (1 + bidirectional), num_classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.embedding is None:
            steps, lengths = x.transpose(1, 2).flatten(2), None  # (B, H, C W): a row is a step
        else:
            places = torch.arange(1, x.shape[1] + 1, device=x.device)
            steps, lengths = self.embedding(x), ((x != 0) * places).amax(1).clamp(min=1)
        return self.output(self.reader(steps, lengths))


class Layers(nn.Module):
    """torch's own layers: the last hidden state (B, directions * width) after the steps (B, T, inputs)."""

    def __init__(self, kind: str, inputs: int, width: Count, layers: Depth, bidirectional: bool) -> None:
        super().__init__()
        self.layers = LAYERS[kind](inputs, width, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last hidden state; `lengths` (B) are the valid steps, all of them for None."""
        packed = steps if lengths is None else pack_padded_sequence(steps, lengths.cpu(), True, enforce_sorted=False)
        _, last = self.layers(packed)
        hidden = last[0] if isinstance(last, tuple) else last  # (layers * directions, B, width)
        return torch.cat([*hidden[-2 if self.layers.bidirectional else -1 :]], 1)


class Cells(nn.Module):
    """The same computation as `Layers`, from cells: two in each layer if it reads both ways, otherwise one."""

    def __init__(self, kind: str, inputs: int, width: Count, layers: Depth, bidirectional: bool) -> None:
        super().__init__()
        self.width, directions = width, 1 + bidirectional
        sizes = [inputs] + [directions * width] * (layers - 1)
        self.layers = nn.ModuleList(
            nn.ModuleList(CELLS[kind](size, width) for _ in range(directions)) for size in sizes
        )

    def forward(self, steps: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last hidden state; `lengths` (B) are the valid steps, all of them for None."""
        if lengths is None:
            lengths = torch.full((steps.shape[0],), steps.shape[1], device=steps.device)
        for cells in self.layers.children():
            read = [self._read(cell, steps, lengths, i == 1) for i, cell in enumerate(cells.children())]
            steps = torch.cat([hidden for hidden, _ in read], 2)  # (B, T, directions * width)
        return torch.cat([last for _, last in read], 1)

    def _read(self, cell: nn.Module, steps: Tensor, lengths: Tensor, backwards: bool) -> tuple[Tensor, Tensor]:
        """Return the hidden state at each step (B, T, width), and the last one (B, width)."""
        zeros = steps.new_zeros(steps.shape[0], self.width)
        state: State = (zeros, zeros) if isinstance(cell, nn.LSTMCell) else (zeros,)
        times = range(steps.shape[1])
        hidden = {}
        for t in reversed(times) if backwards else times:
            new = cell(steps[:, t], state if len(state) > 1 else state[0])
            counts = (t < lengths)[:, None]  # (B, 1); after the end of a sequence the state stays unchanged
            new = new if isinstance(new, tuple) else (new,)
            state = tuple(torch.where(counts, n, old) for n, old in zip(new, state, strict=True))
            hidden[t] = state[0]
        return torch.stack([hidden[t] for t in times], 1), state[0]
