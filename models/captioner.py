"""CaptionDecoder, an LSTM that turns features into sentences, and the search for the most likely sentence."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.basic_module import BasicModule
from utils.config.ranges import Count, Depth, Fraction

__all__ = ["CaptionDecoder"]

START, END, UNKNOWN = 1, 2, 3  # among the first entries of a vocabulary; 0 is padding
NEVER_WRITTEN = [0, START, UNKNOWN]

State = tuple[Tensor, Tensor]  # hidden and cell, each [layers, N, width]


class CaptionDecoder(BasicModule):
    """A language model whose first state is computed from a picture's features (book, chapter 10).

    After Vinyals et al., "Show and Tell: A Neural Image Caption Generator", 2015, where the features are the first
    word; here they give the LSTM's first state. With `attention` the features are a grid, [B, places, feature_size].
    Before each word the decoder then attends to the places that matter to it (Xu et al., "Show, Attend and Tell", 2015,
    in the form of Luong et al., "Effective Approaches to Attention-based Neural Machine Translation", 2015), and its
    first state comes from their mean. With `shared_embedding` the last layer has the weights of the embedding (Press
    and Wolf, "Using the Output Embedding to Improve Language Models", 2017). Dropout acts on the features, on the
    embedded words, between layers of the LSTM and before the last layer.

    Raises:
        ValueError: no layer, or dropout outside [0, 1).
    """

    def __init__(
        self,
        vocabulary_size: Count,
        feature_size: Count = 2048,
        embedding: Count = 256,
        width: Count = 256,
        layers: Depth = 1,
        dropout: Fraction = 0.0,
        shared_embedding: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__()
        if layers < 1 or not 0 <= dropout < 1:
            raise ValueError(f"CaptionDecoder needs layers >= 1 and 0 <= dropout < 1, not {layers} and {dropout}")
        self.feature_size, self.layers, self.width, self.attention = feature_size, layers, width, attention
        self.begin = nn.Linear(feature_size, 2 * layers * width)
        self.embedding = nn.Embedding(vocabulary_size, embedding)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)  # torch's deviation of 1 is too much for a last layer
        between = dropout if layers > 1 else 0.0  # torch warns of dropout between layers if there is only one
        self.lstm = nn.LSTM(embedding, width, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.look = nn.Linear(feature_size, width) if attention else nn.Identity()
        self.join = nn.Linear(2 * width, width) if attention else nn.Identity()
        # Shared weights are as wide as a word's embedding.
        narrow = shared_embedding and width != embedding
        self.narrow = nn.Linear(width, embedding) if narrow else nn.Identity()
        self.output = nn.Linear(embedding if shared_embedding else width, vocabulary_size)
        if shared_embedding:
            self.output.weight = self.embedding.weight

    def forward(self, features: Tensor, photos: Tensor, words: Tensor, lengths: list[int]) -> Tensor:
        """Return logits [sum of lengths, vocabulary] for the word after each valid word of `words` [N, T].

        Row i is a caption of the photo `photos[i]` of B; its first `lengths[i]` words are valid, the rest is padding.
        The longest is the first: to sort rows one would wait for a GPU. The logits are in the order of
        `pack_padded_sequence`.
        """
        state, places = self.enter(features)
        embedded = self.dropout(self.embedding(words))  # [N, T, embedding]
        packed = pack_padded_sequence(embedded, lengths, batch_first=True)
        hidden, _ = self.lstm(packed, (state[0][:, photos], state[1][:, photos]))
        if not self.attention:
            return self._logits(hidden.data)
        padded, _ = pad_packed_sequence(hidden, batch_first=True)  # [N, T, width]
        attended = self._attend(padded, places[photos])
        return self._logits(pack_padded_sequence(attended, lengths, batch_first=True).data)

    def enter(self, features: Tensor) -> tuple[State, Tensor]:
        """Return the first state for each of the features, and the places that the decoder attends to.

        With attention these are [B, places, width]; otherwise they are the features, which are not used any more.
        """
        features = self.dropout(features)
        mean = features.mean(1) if self.attention else features  # [B, feature_size]
        states = self.begin(mean).tanh().view(-1, 2, self.layers, self.width)
        hidden, cell = states.permute(1, 2, 0, 3).contiguous()  # each [layers, B, width]
        # Bounded like the hidden states, which larger values would dominate.
        return (hidden, cell), self.look(features).tanh() if self.attention else features

    def step(self, words: Tensor, state: State, places: Tensor) -> tuple[Tensor, State]:
        """Return logits [N, vocabulary] for the word after `words` [N], and the next state."""
        hidden, state = self.lstm(self.dropout(self.embedding(words))[:, None], state)  # [N, 1, width]
        if self.attention:
            hidden = self._attend(hidden, places)
        return self._logits(hidden[:, 0]), state

    def _attend(self, hidden: Tensor, places: Tensor) -> Tensor:
        """Join hidden [N, T, width] with a mean of the places [N, places, width], weighted by their similarity."""
        seen = nn.functional.scaled_dot_product_attention(hidden, places, places)  # [N, T, width]
        return self.join(torch.cat([hidden, seen], 2)).tanh()

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.output(self.dropout(self.narrow(hidden)))


@torch.no_grad()
def search(decoder: CaptionDecoder, features: Tensor, beam: int, limit: int) -> tuple[list[list[int]], list[float]]:
    """Return a sentence for each of B features, and its score: the sum of its words' log-probabilities.

    A sentence has 1 to `limit` words; its end counts as a word in the score. With a `beam` of 1 each word is the most
    likely after those before (greedy search). With a wider beam, the `beam` most likely beginnings are followed. That
    may lose the sentence of greedy search; if that one scores higher, it is returned. So a wider beam never scores
    lower.
    """
    # In float32 whatever the run's precision: on a CPU torch 2.14 has LSTM under autocast for packed sequences only.
    with torch.autocast(features.device.type, enabled=False):
        words, scores = _follow(decoder, features.float(), beam, limit)
    found = [row[: row.index(END)] if END in row else row for row in words.tolist()], scores.tolist()
    if beam == 1:
        return found
    pairs = zip(zip(*found, strict=True), zip(*search(decoder, features, 1, limit), strict=True), strict=True)
    best = [max(wide, greedy, key=lambda candidate: candidate[1]) for wide, greedy in pairs]
    return [sentence for sentence, _ in best], [score for _, score in best]


def _follow(decoder: CaptionDecoder, features: Tensor, beam: int, limit: int) -> tuple[Tensor, Tensor]:
    """Return the best sentence at the end of the search, [B, T], padded with ends, and its score [B]."""
    count = len(features)
    state, places = decoder.enter(features.repeat_interleave(beam, 0))
    words = torch.full((count, beam, 1), START, device=features.device)
    scores = torch.full((count, beam), -math.inf, dtype=torch.float64, device=features.device)
    scores[:, 0] = 0  # all beginnings of a sentence are equal at first: one is enough
    rows = torch.arange(count, device=features.device)[:, None]
    for length in range(limit):
        logits, state = decoder.step(words[:, :, -1].flatten(), state, places)
        gains, following = _likeliest(logits, words[:, :, -1].flatten() == END, beam, first=length == 0)
        scores, best = (scores[:, :, None] + gains.view(count, beam, -1)).flatten(1).topk(beam)  # the best one first
        parent = best // gains.shape[1]
        words = torch.cat([words[rows, parent], following.view(count, -1).gather(1, best)[:, :, None]], 2)
        kept = (rows * beam + parent).flatten()
        state = state[0][:, kept], state[1][:, kept]
        if (words[:, 0, -1] == END).all():  # no other sentence can overtake it: a score only falls
            break
    return words[:, 0, 1:], scores[:, 0]


def _likeliest(logits: Tensor, ended: Tensor, beam: int, first: bool) -> tuple[Tensor, Tensor]:
    """Return the `beam` most likely words after each of N beginnings, and their scores, both [N, beam or fewer].

    After its end a sentence continues with ends, which cost nothing. The first word is not the end.
    """
    gains = logits.float().log_softmax(1)  # [N, V]
    gains[:, [*NEVER_WRITTEN, *([END] if first else [])]] = -math.inf
    gains[ended] = -math.inf
    gains[ended, END] = 0
    return gains.topk(min(beam, gains.shape[1]))
