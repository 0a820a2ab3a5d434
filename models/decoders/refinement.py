"""Cross-attention of a transformer decoder, plain or refined by the coverage of past alignments.

Coverage is that of CoMER (Zhao and Gao 2022, "CoMER: Modeling Coverage for Transformer-Based Handwritten Mathematical
Expression Recognition"): the first layer is plain, one refinement module is shared by the layers above.

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
from models.types import Memory

# The attention of one layer and its queries (B, T, D) to (B, T, D); called for the layers in order, from the first.
CrossAttention = Callable[[MultiHeadAttention, Tensor], Tensor]


class Refiner(Protocol):
    """Interface of cross-attention, in one pass over all target positions or step by step."""

    def attend_all(self, memory: Memory, valid: Tensor) -> CrossAttention:
        """Cross-attention of targets whose `valid` (B, T) positions are not padding; B may be a multiple of the memory's."""

    def cache(
        self, attention: MultiHeadAttention, memory: Memory, beams: int, below: CrossAttentionCache | None
    ) -> CrossAttentionCache:
        """Cache of a layer for `beams` of each image; `below` is the cache of the layer below."""


class PlainAttention(nn.Module):
    """Cross-attention without refinement."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()

    def attend_all(self, memory: Memory, valid: Tensor) -> CrossAttention:
        """Cross-attention of targets whose `valid` (B, T) positions are not padding."""
        mask, images = _keys_mask(memory), len(memory.tokens)

        def attend(attention: MultiHeadAttention, query: Tensor) -> Tensor:
            # The texts of one image are queries of the same image: its keys and values are computed once.
            grouped = query.unflatten(0, (-1, images)).transpose(0, 1)
            attended = attention(grouped.flatten(1, 2), memory.tokens, mask)
            return attended.unflatten(1, grouped.shape[1:3]).transpose(0, 1).flatten(0, 1)

        return attend

    def cache(
        self, attention: MultiHeadAttention, memory: Memory, beams: int, below: CrossAttentionCache | None
    ) -> CrossAttentionCache:
        """Cache of a layer."""
        return CrossAttentionCache(attention, memory)


class CoverageAttention(nn.Module):
    """Refinement of attention scores by coverage: the past alignments of the layer below and of the layer's plain attention."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        if config.depth < 2:
            raise ModelConfigError(
                "model.decoder.depth",
                f"{config.depth}, but refinement: coverage refines the layers above the first; use 2 or more",
            )
        heads, channels = config.num_heads, config.refinement_channels
        self.expand = nn.Conv2d(2 * heads, channels, 5, padding=2)
        self.project = nn.Conv2d(channels, heads, 1, bias=False)
        self.norm = MaskedBatchNorm(heads)

    def forward(self, coverage: Tensor, valid: Tensor | None = None) -> Tensor:
        """Maps (R, 2 * N, h, w) of summed past alignments to corrections (R, N, h, w).

        `valid` (R, 1, h, w) selects the positions of training statistics; None: normalized with the running ones.
        """
        return self.norm(self.project(F.relu(self.expand(coverage))), valid)

    def attend_all(self, memory: Memory, valid: Tensor) -> CrossAttention:
        """Cross-attention of targets whose `valid` (B, T) positions are not padding."""
        return _CoveragePass(self, memory, valid)

    def cache(
        self, attention: MultiHeadAttention, memory: Memory, beams: int, below: CrossAttentionCache | None
    ) -> CrossAttentionCache:
        """Cache of a layer; all but the first keep sums of past alignments."""
        if below is None:
            return CrossAttentionCache(attention, memory)
        return CoverageCache(self, attention, memory, beams, below)


class _CoveragePass:
    """Coverage attention over all target positions at once, called layer by layer."""

    def __init__(self, coverage: CoverageAttention, memory: Memory, valid: Tensor) -> None:
        self.coverage = coverage
        self.memory = memory = memory.for_rows(len(valid))
        self.mask = _keys_mask(memory)
        self.below: Tensor | None = None  # alignments (B, N, T, S) of the layer below
        positions = memory.tokens.shape[1] - memory.prefix
        counted = valid[:, :, None].expand(-1, -1, positions)
        if memory.mask is not None:
            counted = counted & memory.mask[:, None, memory.prefix :]
        self.valid = counted.flatten(0, 1).unflatten(-1, memory.size)[:, None]

    def __call__(self, attention: MultiHeadAttention, query: Tensor) -> Tensor:
        keys, values = attention.project_source(self.memory.tokens)
        scores = attention.scores(query, keys, self.mask)
        weights = self._weights(attention, scores)
        if self.below is not None:
            weights = self._weights(attention, scores - self._correction(self.below, weights))
        self.below = weights
        return attention.output(weights.to(values.dtype) @ values)

    def _correction(self, below: Tensor, weights: Tensor) -> Tensor:
        """Alignments (B, N, T, S) of the layer below and of the layer itself to corrections (B, N, T, S)."""
        prefix = self.memory.prefix
        maps = torch.cat([below, weights], 1)[..., prefix:]
        past = F.pad(maps.cumsum(2)[:, :, :-1], (0, 0, 1, 0)).transpose(1, 2)  # (B, T, 2 * N, h * w)
        correction = self.coverage(past.flatten(0, 1).unflatten(-1, self.memory.size), self.valid)
        return F.pad(correction.flatten(2).unflatten(0, past.shape[:2]).transpose(1, 2), (prefix, 0))

    @staticmethod
    def _weights(attention: MultiHeadAttention, scores: Tensor) -> Tensor:
        return F.dropout(probabilities(scores), attention.drop_rate, attention.training)


class CoverageCache(CrossAttentionCache):
    """Coverage attention step by step: the sums (R, 2 * N, h * w) of past alignments of the layer below, then of its own."""

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

    def normalize(self, scores: Tensor) -> Tensor:
        """Masked scores (B, N, K, S), minus the correction, to attention probabilities."""
        plain = probabilities(scores)
        correction = self.coverage(self.sums.unflatten(-1, self.size)).flatten(2).unflatten(0, (-1, self.beams))
        self.sums += torch.cat([self.below.weights, plain], 1)[..., self.prefix :].transpose(1, 2).flatten(0, 1)
        return probabilities(scores - F.pad(correction.transpose(1, 2), (self.prefix, 0)))

    def reorder(self, rows: Tensor) -> None:
        """Makes row r continue from the sums of row `rows[r]`."""
        self.sums = self.sums.index_select(0, rows)


def _keys_mask(memory: Memory) -> Tensor | None:
    return None if memory.mask is None else memory.mask[:, None, None]


REFINERS: dict[Refinement, type[PlainAttention] | type[CoverageAttention]] = {
    "none": PlainAttention,
    "coverage": CoverageAttention,
}
