"""The interface of decoders: one function of tokens and memory, computed in one pass or token by token.

Legend: B batch, K beams of an image, R = B * K rows (the beams of an image side by side), T target positions, S source
positions, M width of the memory, D width of the decoder, V vocabulary.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from models.types import Memory, SampledTokens


class DecoderOutput(NamedTuple):
    """Result of one teacher-forced pass: `logits` (B, T, V) and the `hidden` states (B, T, D) that they are computed from."""

    logits: Tensor | None
    hidden: Tensor | None


class DecoderCache(ABC):
    """State of incremental decoding between steps, for R rows.

    `weights` (R, S): the last step's attention to the memory (last layer, mean over heads) where the step computed it.
    """

    weights: Tensor | None = None

    @abstractmethod
    def reorder(self, rows: Tensor) -> None:
        """Makes row r continue the history of row `rows[r]`, a beam of the same image: int64 (R,)."""


class Decoder(nn.Module):
    """Base class of modules from tokens and memory to logits.

    `out_dim`: D, the width of the hidden states, 0 where there is no decoder.
    """

    out_dim: int

    def forward(self, tgt_in: Tensor, memory: Memory) -> Tensor | None:
        """`tgt_in` int64 (B, T) and the memory to logits (B, T, V), or None where there is no decoder."""
        return self.decode_hidden(tgt_in, memory).logits

    def decode_hidden(self, tgt_in: Tensor, memory: Memory, sampled: SampledTokens | None = None) -> DecoderOutput:
        """`tgt_in` int64 (B, T), some positions replaced by predictions, and the memory to logits and hidden states.

        PAD in `tgt_in` comes last and has no influence on earlier positions. An image may have several texts: `tgt_in` and
        the output then have a multiple of the memory's rows, one text of every image, then the next of every image.
        """
        raise NotImplementedError

    def start(self, memory: Memory, max_length: int, beams: int = 1) -> DecoderCache:
        """Creates an empty cache for at most `max_length` steps of `beams` rows an image; projects the memory once, for all."""
        raise NotImplementedError

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        """Reads one token per row, int64 (R,), into the cache and returns logits (R, V) of the next, equal to `forward`'s.

        With `need_weights`, `cache.weights` is set.
        """
        raise NotImplementedError
