"""The transformer decoder.

Legend: B batch, T target positions, S source positions, M width of the memory, D width of the decoder, N heads, d head
width, V vocabulary.
"""

from collections.abc import Callable, Iterator
from typing import cast

from torch import Tensor, nn

from models.attention import MultiHeadAttention, attention_scale, check_heads
from models.choices import choose
from models.config import CrossQuery, DecoderConfig
from models.decoders.base import Decoder, DecoderCache
from models.decoders.cache import LayerCache, TransformerCache
from models.feed_forward import LinearFeedForward
from models.initialization import INITIALIZERS
from models.memory import Memory
from models.normalization import FINAL_NORMS, RESIDUALS
from models.positions import sinusoid
from models.spec import OutputSpec

KEY = "model.decoder"

# What asks the memory: the self-attention block's output as in "Attention Is All You Need", its attention before the
# residual connection, or the layer's input. The last two are what formula recognizers of the SATRN family did.
QueryRule = Callable[[Tensor, Tensor, Tensor], Tensor]
CROSS_QUERIES: dict[CrossQuery, QueryRule] = {
    "standard": lambda target, attended, block: block,
    "raw_self_attention": lambda target, attended, block: attended,
    "target": lambda target, attended, block: target,
}


class TransformerDecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the memory, feed-forward."""

    def __init__(self, config: DecoderConfig, memory_dim: int) -> None:
        super().__init__()
        dim, heads, drop_rate = config.embed_dim, config.num_heads, config.drop_rate
        scale = attention_scale(config.attention_scale, dim, heads, KEY)
        residual = choose(RESIDUALS, config.norm, f"{KEY}.norm")
        self.cross_query = choose(CROSS_QUERIES, config.cross_query, f"{KEY}.cross_query")
        self.self_attention = MultiHeadAttention(dim, dim, heads, scale, drop_rate)
        self.self_residual = residual(dim)
        self.cross_attention = MultiHeadAttention(dim, memory_dim, heads, scale, drop_rate)
        self.cross_residual = residual(dim)
        self.feed_forward = LinearFeedForward(dim, config.mlp_dim, config.mlp_drop_rate)
        self.feed_forward_residual = residual(dim)

    def forward(self, target: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """`target` (B, T, D), memory (B, S, M), `memory_mask` (B, 1, 1, S) to (B, T, D)."""
        x = self.self_residual.before(target)
        attended = self.self_attention.attend(x, *self.self_attention.project_source(x), is_causal=True)
        block = self.self_residual.after(target, attended)
        query = self.cross_residual.before(self.cross_query(target, attended, block))
        crossed = self.cross_attention.attend(query, *self.project_memory(memory), memory_mask)
        return self._finish(block, crossed)

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Memory (B, S, M) to the keys and values, each (B, N, S, d), that `step` attends to."""
        return self.cross_attention.project_source(memory)

    def step(
        self, target: Tensor, cache: LayerCache, memory_mask: Tensor | None, position: int, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """One token (B, 1, D) at `position` to (B, 1, D) and, if asked for, its cross-attention (B, S)."""
        x = self.self_residual.before(target)
        keys, values = cache.append(*self.self_attention.project_source(x), position)
        attended = self.self_attention.attend(x, keys, values)
        block = self.self_residual.after(target, attended)
        query = self.cross_residual.before(self.cross_query(target, attended, block))
        crossed = self.cross_attention.attend(query, cache.memory_keys, cache.memory_values, memory_mask)
        weights = None
        if need_weights:
            weights = self.cross_attention.weights(query, cache.memory_keys, memory_mask)[:, 0]
        return self._finish(block, crossed), weights

    def _finish(self, block: Tensor, crossed: Tensor) -> Tensor:
        x = self.cross_residual.after(block, crossed)
        return self.feed_forward_residual.after(x, self.feed_forward(self.feed_forward_residual.before(x)))


class TransformerDecoder(Decoder):
    """Token embedding and positions, decoder layers, and a linear map to the vocabulary."""

    positions: Tensor

    def __init__(self, config: DecoderConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        check_heads(config.embed_dim, config.num_heads, KEY)
        dim = config.embed_dim
        self.embedding = nn.Embedding(output_spec.num_classes + config.extra_embeddings, dim)
        self.embedding_scale = dim**0.5
        self.register_buffer("positions", sinusoid(output_spec.max_length, dim), persistent=False)
        self.position_drop = nn.Dropout(config.drop_rate)
        self.layers = nn.ModuleList(TransformerDecoderLayer(config, memory_dim) for _ in range(config.depth))
        self.norm = choose(FINAL_NORMS, config.norm, f"{KEY}.norm")(dim)
        self.head = nn.Linear(dim, output_spec.num_classes)
        self.apply(choose(INITIALIZERS, config.init, f"{KEY}.init"))

    def forward(self, tgt_in: Tensor, memory: Memory) -> Tensor:
        """`tgt_in` int64 (B, T) and the memory to logits (B, T, V).

        No mask hides PAD in `tgt_in`: PAD comes last, so that the causal mask keeps it from every token before it.
        """
        mask = None if memory.mask is None else memory.mask[:, None, None]
        x = self._embed(tgt_in, 0)
        for layer in self.layers:
            x = layer(x, memory.tokens, mask)
        return self.head(self.norm(x))

    def start(self, memory: Memory, max_length: int, beams: int = 1) -> TransformerCache:
        """An empty cache for at most `max_length` steps of `beams` rows an image; projects the memory once, for all."""
        layers = [LayerCache.with_room(*layer.project_memory(memory.tokens), max_length, beams) for layer in self._layers()]
        return TransformerCache(layers, None if memory.mask is None else memory.mask[:, None, None])

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        """Reads one token per row, int64 (R,), into the cache; logits (R, V) of the next, as `forward` gives them.

        With `need_weights`, `cache.weights` is the last layer's cross-attention (R, S), mean over heads.
        """
        assert isinstance(cache, TransformerCache)
        x = self._embed(tokens[:, None], cache.position)
        weights = None
        for layer, layer_cache in zip(self._layers(), cache.layers, strict=True):
            x, weights = layer.step(x, layer_cache, cache.memory_mask, cache.position, need_weights)
        cache.position += 1
        cache.weights = weights
        return self.head(self.norm(x))[:, 0]

    def _layers(self) -> Iterator[TransformerDecoderLayer]:
        return cast(Iterator[TransformerDecoderLayer], iter(self.layers))  # a ModuleList does not know its class

    def _embed(self, tokens: Tensor, start: int) -> Tensor:
        """Tokens (B, T), the first at position `start`, to (B, T, D)."""
        embedded = self.embedding(tokens) * self.embedding_scale
        return self.position_drop(embedded + self.positions[start : start + tokens.shape[1]])
