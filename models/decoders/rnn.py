"""The attention decoder with recurrent cells (ASTER, Shi et al. 2018; for handwritten lines, Michael et al. 2019).

Legend: B batch, K beams of an image, R = B * K rows, T target positions, S source positions, M width of the memory, E width
of an embedding, H width of a state, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.choices import choose
from models.config import DecoderConfig
from models.decoders.additive_attention import AdditiveAttention, Keys
from models.decoders.base import Answer, Decoder, DecoderCache
from models.decoders.cells import CellStack, State
from models.decoders.sampled_tokens import OwnTokens, own_choice
from models.layers.initialization import INITIALIZERS
from models.memory import Memory
from models.spec import OutputSpec


@dataclass
class RnnCache(DecoderCache):
    """The projected memory, which the beams of an image share, and the states of R rows."""

    keys: Keys
    states: list[State]
    beams: int

    def reorder(self, rows: Tensor) -> None:
        """Row r goes on from the states of row `rows[r]`."""
        self.states = [tuple(value.index_select(0, rows) for value in state) for state in self.states]


class RnnDecoder(Decoder):
    """Each step: what the last state attends to and the token's embedding go through the cells to the vocabulary."""

    def __init__(self, config: DecoderConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        rnn = config.rnn
        self.pad_id = output_spec.pad_id
        self.out_dim = rnn.hidden_dim
        self.embedding = nn.Embedding(output_spec.num_classes + config.extra_embeddings, config.embed_dim)
        self.attention = AdditiveAttention(memory_dim, rnn.hidden_dim, rnn.attention_dim, rnn.attention_bias)
        self.input_drop = nn.Dropout(rnn.input_drop_rate)
        self.cells = CellStack(rnn, config.embed_dim + memory_dim, config.depth)
        self.output_drop = nn.Dropout(rnn.output_drop_rate)
        self.head = nn.Linear(rnn.hidden_dim, output_spec.num_classes)
        self.apply(choose(INITIALIZERS, config.init, "model.decoder.init"))

    def answer(self, tgt_in: Tensor, memory: Memory, own: OwnTokens | None = None) -> Answer:
        """`tgt_in` int64 (B, T), some of it replaced by the decoder's own tokens, and the memory to an answer."""
        memory = memory.for_rows(len(tgt_in))
        return self._told(tgt_in, memory) if own is None else self._on_its_own(tgt_in, memory, own)

    def _told(self, tgt_in: Tensor, memory: Memory) -> Answer:
        keys = self.attention.project(memory)
        states = self.cells.initial(tgt_in.shape[0], memory.tokens)
        hidden = []
        for embedded in self.embedding(tgt_in).unbind(1):
            states, _ = self._advance(embedded, states, keys, beams=1)
            hidden.append(states[-1][0])
        stacked = torch.stack(hidden, 1)
        return Answer(self.head(self.output_drop(stacked)), stacked)

    def _on_its_own(self, tgt_in: Tensor, memory: Memory, own: OwnTokens) -> Answer:
        cache = self.start(memory, tgt_in.shape[1])
        own_turn = own.mask & (tgt_in != self.pad_id)
        tokens, logits, hidden = tgt_in[:, 0], [], []
        for position in range(tgt_in.shape[1]):
            tokens = torch.where(own_turn[:, position], tokens, tgt_in[:, position])
            logits.append(self.step(tokens, cache))
            hidden.append(cache.states[-1][0])
            tokens = own_choice(logits[-1][:, None], tgt_in[:, 0], self.pad_id)[:, 0]
        return Answer(torch.stack(logits, 1), torch.stack(hidden, 1))

    def start(self, memory: Memory, max_length: int, beams: int = 1) -> RnnCache:
        """An empty cache of `beams` rows an image; projects the memory once, for all."""
        rows = memory.tokens.shape[0] * beams
        return RnnCache(self.attention.project(memory), self.cells.initial(rows, memory.tokens), beams)

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        """Reads one token per row, int64 (R,), into the cache; logits (R, V) of the next, as `forward` gives them.

        With `need_weights`, `cache.weights` is the attention (R, S).
        """
        assert isinstance(cache, RnnCache)
        cache.states, weights = self._advance(self.embedding(tokens), cache.states, cache.keys, cache.beams)
        cache.weights = weights.flatten(0, 1) if need_weights else None
        return self.head(self.output_drop(cache.states[-1][0]))

    def _advance(self, embedded: Tensor, states: list[State], keys: Keys, beams: int) -> tuple[list[State], Tensor]:
        """Embeddings (R, E) and states to the next states and the attention (B, K, S)."""
        query = states[-1][0].unflatten(0, (-1, beams))
        context, weights = self.attention(query, keys)
        x = torch.cat([embedded, context.flatten(0, 1)], 1)
        return self.cells(self.input_drop(x), states), weights
