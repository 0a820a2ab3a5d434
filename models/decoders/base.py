"""What every decoder is: one function of tokens and memory, in one pass or token by token.

Legend: B batch, K beams of an image, R = B * K rows (the beams of an image side by side), T target positions, S source
positions, M width of the memory, D width of the decoder, V vocabulary.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from models.decoders.sampled_tokens import OwnTokens
from models.memory import Memory


class Answer(NamedTuple):
    """What a decoder says in one pass: `logits` (B, T, V), and the `hidden` states (B, T, D) that they are a map of."""

    logits: Tensor | None
    hidden: Tensor | None


class DecoderCache(ABC):
    """What a decoder keeps between the steps of incremental decoding, for R rows.

    `weights` (R, S): the last step's attention to the memory (last layer, mean over heads) where it was asked for.
    """

    weights: Tensor | None = None

    @abstractmethod
    def reorder(self, rows: Tensor) -> None:
        """Row r goes on from what row `rows[r]`, a beam of the same image, has read: int64 (R,)."""


class Decoder(nn.Module):
    """Tokens and memory to logits. `out_dim`: D, the width of its hidden states, 0 where there is no decoder."""

    out_dim: int

    def forward(self, tgt_in: Tensor, memory: Memory) -> Tensor | None:
        """`tgt_in` int64 (B, T) and the memory to logits (B, T, V), or None where there is no decoder."""
        return self.answer(tgt_in, memory).logits

    def answer(self, tgt_in: Tensor, memory: Memory, own: OwnTokens | None = None) -> Answer:
        """`tgt_in` int64 (B, T), some of it replaced by the decoder's own tokens, and the memory to an answer.

        PAD in `tgt_in` comes last; it changes nothing before it. There may be several texts of each image: then `tgt_in` and
        the answer have a multiple of the memory's rows, a text of every image and then the next of every image.
        """
        raise NotImplementedError

    def start(self, memory: Memory, max_length: int, beams: int = 1) -> DecoderCache:
        """An empty cache for at most `max_length` steps of `beams` rows an image; projects the memory once, for all."""
        raise NotImplementedError

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        """Reads one token per row, int64 (R,), into the cache; logits (R, V) of the next, as `forward` gives them.

        With `need_weights`, `cache.weights` is set.
        """
        raise NotImplementedError
