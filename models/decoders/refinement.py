"""How a transformer decoder attends to the memory: plainly, or with scores that past alignments correct.

The correction is that of CoMER (Zhao and Gao 2022, "CoMER: Modeling Coverage for Transformer-Based Handwritten
Mathematical Expression Recognition"): the first layer is plain, one module serves the layers above.

Legend: B batch, T target positions, S source positions, M width of the memory, h w height and width of the feature map, N
heads, d head width, D width, K beams of an image, R = B * K rows.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import DecoderConfig, Refinement
from models.decoders.cache import CrossAttentionCache
from models.decoders.masked_norm import MaskedBatchNorm
from models.errors import ModelConfigError
from models.layers.attention import MultiHeadAttention, probabilities
from models.memory import Memory

# The attention of one layer and its queries (B, T, D) to what they attend to; the layers take their turns from the first.
CrossAttention = Callable[[MultiHeadAttention, Tensor], Tensor]


class Refiner(Protocol):
    """Attends to the memory in one pass over all target positions, or step by step."""

    def over(self, memory: Memory, valid: Tensor) -> CrossAttention:
        """A pass over targets of which `valid` (B, T) are no padding; B may be a multiple of the memory's."""

    def cache(
        self, attention: MultiHeadAttention, memory: Memory, beams: int, below: CrossAttentionCache | None
    ) -> CrossAttentionCache:
        """What `beams` of each image need of a layer; `below` is the same of the layer below."""


class PlainAttention(nn.Module):
    """Attention as the layers have it."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()

    def over(self, memory: Memory, valid: Tensor) -> CrossAttention:
        """A pass over targets of which `valid` (B, T) are no padding."""
        mask, images = _keys_mask(memory), len(memory.tokens)

        def attend(attention: MultiHeadAttention, query: Tensor) -> Tensor:
            # The texts of one image ask together, as if they were one: its keys and values are made and kept once.
            together = query.unflatten(0, (-1, images)).transpose(0, 1)
            answered = attention(together.flatten(1, 2), memory.tokens, mask)
            return answered.unflatten(1, together.shape[1:3]).transpose(0, 1).flatten(0, 1)

        return attend

    def cache(
        self, attention: MultiHeadAttention, memory: Memory, beams: int, below: CrossAttentionCache | None
    ) -> CrossAttentionCache:
        """What a layer needs."""
        return CrossAttentionCache(attention, memory)


class CoverageAttention(nn.Module):
    """Coverage, of the layer below and of the layer's own plain attention, to what is subtracted from the scores."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        if config.depth < 2:
            raise ModelConfigError(
                "model.decoder.depth",
                f"{config.depth}, but refinement: coverage works on the layers above the first; use 2 or more",
            )
        heads, channels = config.num_heads, config.refinement_channels
        self.expand = nn.Conv2d(2 * heads, channels, 5, padding=2)
        self.project = nn.Conv2d(channels, heads, 1, bias=False)
        self.norm = MaskedBatchNorm(heads)

    def forward(self, coverage: Tensor, valid: Tensor | None = None) -> Tensor:
        """Maps (R, 2 * N, h, w) of summed past alignments to corrections (R, N, h, w).

        `valid` (R, 1, h, w) counts in the statistics of training; None: normalised with the running ones.
        """
        return self.norm(self.project(F.relu(self.expand(coverage))), valid)

    def over(self, memory: Memory, valid: Tensor) -> CrossAttention:
        """A pass over targets of which `valid` (B, T) are no padding."""
        return _CoveragePass(self, memory, valid)

    def cache(
        self, attention: MultiHeadAttention, memory: Memory, beams: int, below: CrossAttentionCache | None
    ) -> CrossAttentionCache:
        """What a layer needs: all but the first the sums of past alignments."""
        if below is None:
            return CrossAttentionCache(attention, memory)
        return CoverageCache(self, attention, memory, beams, below)


class _CoveragePass:
    """One pass over all target positions, layer after layer."""

    def __init__(self, coverage: CoverageAttention, memory: Memory, valid: Tensor) -> None:
        self.coverage = coverage
        self.memory = memory = memory.for_rows(len(valid))
        self.mask = _keys_mask(memory)
        self.below: Tensor | None = None  # alignments (B, N, T, S) of the layer below
        positions = memory.tokens.shape[1] - memory.prefix
        places = valid[:, :, None].expand(-1, -1, positions)
        if memory.mask is not None:
            places = places & memory.mask[:, None, memory.prefix :]
        self.valid = places.flatten(0, 1).unflatten(-1, memory.size)[:, None]

    def __call__(self, attention: MultiHeadAttention, query: Tensor) -> Tensor:
        keys, values = attention.project_source(self.memory.tokens)
        scores = attention.scores(query, keys, self.mask)
        weights = self._weights(attention, scores)
        if self.below is not None:
            weights = self._weights(attention, scores - self._correction(self.below, weights))
        self.below = weights
        return attention.output(weights.to(values.dtype) @ values)

    def _correction(self, below: Tensor, own: Tensor) -> Tensor:
        """Alignments (B, N, T, S) of the layer below and of the layer itself to corrections (B, N, T, S)."""
        prefix = self.memory.prefix
        maps = torch.cat([below, own], 1)[..., prefix:]
        past = F.pad(maps.cumsum(2)[:, :, :-1], (0, 0, 1, 0)).transpose(1, 2)  # (B, T, 2 * N, h * w)
        correction = self.coverage(past.flatten(0, 1).unflatten(-1, self.memory.size), self.valid)
        return F.pad(correction.flatten(2).unflatten(0, past.shape[:2]).transpose(1, 2), (prefix, 0))

    @staticmethod
    def _weights(attention: MultiHeadAttention, scores: Tensor) -> Tensor:
        return F.dropout(probabilities(scores), attention.drop_rate, attention.training)


class CoverageCache(CrossAttentionCache):
    """The same step by step, with the sums (R, 2 * N, h * w) of past alignments: of the layer below, then of its own."""

    def __init__(
        self,
        coverage: CoverageAttention,
        attention: MultiHeadAttention,
        memory: Memory,
        beams: int,
        below: CrossAttentionCache,
    ) -> None:
        super().__init__(attention, memory)
        self.coverage = coverage
        self.below = below
        self.beams = beams
        self.prefix = memory.prefix
        self.size = memory.size
        height, width = memory.size
        rows = memory.tokens.shape[0] * beams
        dtype = torch.promote_types(memory.tokens.dtype, torch.float)
        self.sums = memory.tokens.new_zeros(rows, 2 * attention.num_heads, height * width, dtype=dtype)

    def weigh(self, scores: Tensor) -> Tensor:
        """Masked scores (B, N, K, S), less the correction, to probabilities."""
        own = probabilities(scores)
        correction = self.coverage(self.sums.unflatten(-1, self.size)).flatten(2).unflatten(0, (-1, self.beams))
        self.sums += torch.cat([self.below.weights, own], 1)[..., self.prefix :].transpose(1, 2).flatten(0, 1)
        return probabilities(scores - F.pad(correction.transpose(1, 2), (self.prefix, 0)))

    def reorder(self, rows: Tensor) -> None:
        """Row r goes on from the sums of row `rows[r]`."""
        self.sums = self.sums.index_select(0, rows)


def _keys_mask(memory: Memory) -> Tensor | None:
    return None if memory.mask is None else memory.mask[:, None, None]


REFINERS: dict[Refinement, type[PlainAttention] | type[CoverageAttention]] = {
    "none": PlainAttention,
    "coverage": CoverageAttention,
}
