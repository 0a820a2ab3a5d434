"""What every decoder is: one function of tokens and memory, in one pass or token by token."""

from torch import Tensor, nn

from models.decoders.cache import DecoderCache


class Decoder(nn.Module):
    """Tokens and memory to logits; M is the width of the memory."""

    def forward(self, tgt_in: Tensor, memory: Tensor, memory_mask: Tensor | None = None) -> Tensor:
        """`tgt_in` int64 (B, T), memory (B, S, M), `memory_mask` (B, S), True on image, to logits (B, T, V)."""
        raise NotImplementedError

    def start(self, memory: Tensor, memory_mask: Tensor | None, max_length: int) -> DecoderCache:
        """An empty cache for at most `max_length` steps over the memory."""
        raise NotImplementedError

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        """Reads one token per row, int64 (B,), into the cache; logits (B, V) of the next, as `forward` gives them.

        With `need_weights`, `cache.weights` is the last layer's attention to the memory (B, S), mean over heads.
        """
        raise NotImplementedError
