"""The attention decoder with recurrent cells (ASTER, Shi et al. 2018; for handwritten lines, Michael et al. 2019).

Legend: B batch, K beams of an image, R = B * K rows, T target positions, S source positions, M width of the memory, E width
of an embedding, H width of a state, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.checks import lookup
from models.config import DecoderConfig
from models.decoders.additive_attention import AdditiveAttention, Keys
from models.decoders.base import Decoder, DecoderCache, DecoderOutput
from models.decoders.cells import CellStack, State
from models.decoders.sampled_tokens import greedy_tokens
from models.layers.initialization import INITIALIZERS
from models.types import Memory, OutputSpec, SampledTokens


@dataclass
class RnnCache(DecoderCache):
    """Projected memory, shared by the beams of an image, and the states of R rows."""

    keys: Keys
    states: list[State]
    beams: int

    def reorder(self, rows: Tensor) -> None:
        """Makes row r continue from the states of row `rows[r]`."""
        self.states = [tuple(value.index_select(0, rows) for value in state) for state in self.states]


class RnnDecoder(Decoder):
    """Attention RNN: in each step the attended memory and the token's embedding go through the cells to the vocabulary."""

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
        self.apply(lookup(INITIALIZERS, config.init, "model.decoder.init"))

    def decode_hidden(self, tgt_in: Tensor, memory: Memory, sampled: SampledTokens | None = None) -> DecoderOutput:
        """`tgt_in` int64 (B, T), some positions replaced by predictions, and the memory to logits and hidden states."""
        memory = memory.for_rows(len(tgt_in))
        if sampled is None:
            return self._teacher_forced(tgt_in, memory)
        return self._with_sampled(tgt_in, memory, sampled)

    def _teacher_forced(self, tgt_in: Tensor, memory: Memory) -> DecoderOutput:
        keys = self.attention.project(memory)
        states = self.cells.initial(tgt_in.shape[0], memory.tokens)
        hidden = []
        for embedded in self.embedding(tgt_in).unbind(1):
            states, _ = self._advance(embedded, states, keys, beams=1)
            hidden.append(states[-1][0])
        stacked = torch.stack(hidden, 1)
        return DecoderOutput(self.head(self.output_drop(stacked)), stacked)

    def _with_sampled(self, tgt_in: Tensor, memory: Memory, sampled: SampledTokens) -> DecoderOutput:
        cache = self.start(memory, tgt_in.shape[1])
        use_sampled = sampled.mask & (tgt_in != self.pad_id)
        tokens, logits, hidden = tgt_in[:, 0], [], []
        for position in range(tgt_in.shape[1]):
            tokens = torch.where(use_sampled[:, position], tokens, tgt_in[:, position])
            logits.append(self.step(tokens, cache))
            hidden.append(cache.states[-1][0])
            tokens = greedy_tokens(logits[-1][:, None], tgt_in[:, 0], self.pad_id)[:, 0]
        return DecoderOutput(torch.stack(logits, 1), torch.stack(hidden, 1))

    def start(self, memory: Memory, max_length: int, beams: int = 1) -> RnnCache:
        """Creates an empty cache of `beams` rows an image; projects the memory once, for all."""
        rows = memory.tokens.shape[0] * beams
        return RnnCache(self.attention.project(memory), self.cells.initial(rows, memory.tokens), beams)

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        """Reads one token per row, int64 (R,), into the cache and returns logits (R, V) of the next, equal to `forward`'s.

        With `need_weights`, `cache.weights` is the attention (R, S).
        """
        assert isinstance(cache, RnnCache)
        cache.states, weights = self._advance(self.embedding(tokens), cache.states, cache.keys, cache.beams)
        cache.weights = weights.flatten(0, 1) if need_weights else None
        return self.head(self.output_drop(cache.states[-1][0]))

    def _advance(self, embedded: Tensor, states: list[State], keys: Keys, beams: int) -> tuple[list[State], Tensor]:
        """Advances all cells by one token: embeddings (R, E) and states to the next states and the attention (B, K, S)."""
        query = states[-1][0].unflatten(0, (-1, beams))
        context, weights = self.attention(query, keys)
        x = torch.cat([embedded, context.flatten(0, 1)], 1)
        return self.cells(self.input_drop(x), states), weights
