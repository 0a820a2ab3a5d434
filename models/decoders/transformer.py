"""The transformer decoder.

Legend: B batch, K beams of an image, R = B * K rows, T target positions, S source positions, M width of the memory, D width
of the decoder, N heads, V vocabulary.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

from torch import Tensor, nn

from models.choices import choose
from models.config import CrossQuery, DecoderConfig
from models.decoders.base import Answer, Decoder, DecoderCache
from models.decoders.cache import CrossAttentionCache, History, LayerCache, SelfAttentionCache, TransformerCache
from models.decoders.feed_forward import FEED_FORWARDS
from models.decoders.positions import POSITION_TABLES
from models.decoders.refinement import REFINERS
from models.decoders.sampled_tokens import OwnTokens, mixed_in_parallel
from models.layers.activations import ACTIVATIONS
from models.layers.attention import ATTENTION_OUTPUTS, MultiHeadAttention, attention_scale, head_width
from models.layers.initialization import INITIALIZERS
from models.layers.normalization import FINAL_NORMS, RESIDUALS
from models.memory import Memory
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

# Queries (B, T, D) to what they attend to, (B, T, D): in one pass over all positions, or against a cache.
Attend = Callable[[Tensor], Tensor]


class TransformerDecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the memory, feed-forward."""

    def __init__(self, config: DecoderConfig, memory_dim: int) -> None:
        super().__init__()
        dim, heads, drop_rate = config.embed_dim, config.num_heads, config.drop_rate
        head_dim = head_width(dim, heads, config.head_dim, KEY)
        scale = attention_scale(config.attention_scale, heads * head_dim, heads, KEY)
        output = choose(ATTENTION_OUTPUTS, config.attention_output, f"{KEY}.attention_output")
        feed_forward = choose(FEED_FORWARDS, config.feed_forward, f"{KEY}.feed_forward")
        activation = choose(ACTIVATIONS, config.activation, f"{KEY}.activation")
        self.cross_query = choose(CROSS_QUERIES, config.cross_query, f"{KEY}.cross_query")
        self.self_attention = MultiHeadAttention(dim, dim, heads, head_dim, scale, drop_rate, config.qkv_bias, output)
        self.cross_attention = MultiHeadAttention(dim, memory_dim, heads, head_dim, scale, drop_rate, config.qkv_bias, output)
        self.feed_forward = feed_forward(dim, config.mlp_dim, config.mlp_drop_rate, activation)
        self.residual = choose(RESIDUALS, config.norm, f"{KEY}.norm")(dim, 3)

    def forward(self, target: Tensor, attend_target: Attend, attend_memory: Attend) -> Tensor:
        """(B, T, D) to (B, T, D), through this layer's self-attention and cross-attention as the caller runs them."""
        attended = attend_target(self.residual.before(0, target))
        block = self.residual.after(0, target, attended)
        crossed = attend_memory(self.residual.before(1, self.cross_query(target, attended, block)))
        x = self.residual.after(1, block, crossed)
        return self.residual.after(2, x, self.feed_forward(self.residual.before(2, x)))


class TransformerDecoder(Decoder):
    """Token embedding and positions, decoder layers, and a linear map to the vocabulary."""

    def __init__(self, config: DecoderConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        dim = config.embed_dim
        self.pad_id = output_spec.pad_id
        self.out_dim = dim
        self.embedding = nn.Embedding(output_spec.num_classes + config.extra_embeddings, dim)
        self.embedding_scale = dim**0.5 if config.embedding_scale else 1.0
        self.positions = choose(POSITION_TABLES, config.position, f"{KEY}.position")(config, output_spec)
        self.position_drop = nn.Dropout(config.drop_rate)
        self.layers = nn.ModuleList(TransformerDecoderLayer(config, memory_dim) for _ in range(config.depth))
        self.refiner = choose(REFINERS, config.refinement, f"{KEY}.refinement")(config)
        self.norm = choose(FINAL_NORMS, config.norm, f"{KEY}.norm")(dim)
        self.head = nn.Linear(dim, output_spec.num_classes)
        self.apply(choose(INITIALIZERS, config.init, f"{KEY}.init"))

    def answer(self, tgt_in: Tensor, memory: Memory, own: OwnTokens | None = None) -> Answer:
        """`tgt_in` int64 (B, T), some of it replaced by the decoder's own tokens, and the memory to an answer.

        Its own tokens are looked for in passes over all positions, without gradients: never one position after the other.
        """
        if own is not None:
            tgt_in = mixed_in_parallel(lambda mixture: self.head(self._hidden(mixture, memory)), tgt_in, own, self.pad_id)
        hidden = self._hidden(tgt_in, memory)
        return Answer(self.head(hidden), hidden)

    def _hidden(self, tgt_in: Tensor, memory: Memory) -> Tensor:
        """`tgt_in` int64 (B, T) and the memory to states (B, T, D).

        No mask hides PAD in `tgt_in`: PAD comes last, so that the causal mask keeps it from every token before it.
        """
        x = self._embed(tgt_in, self.positions(0, tgt_in.shape[1]))
        attend_memory = self.refiner.over(memory, tgt_in != self.pad_id)
        for layer in self._layers():
            x = layer(x, layer.self_attention.causal, partial(attend_memory, layer.cross_attention))
        return self.norm(x)

    def start(self, memory: Memory, max_length: int, beams: int = 1) -> TransformerCache:
        """An empty cache for at most `max_length` steps of `beams` rows an image; projects the memory once, for all."""
        history = History(memory.tokens, max_length, beams)
        layers: list[LayerCache] = []
        below: CrossAttentionCache | None = None
        for layer in self._layers():
            below = self.refiner.cache(layer.cross_attention, memory, beams, below)
            layers.append(LayerCache(SelfAttentionCache(layer.self_attention, memory.tokens, history), below))
        return TransformerCache(layers, history)

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        """Reads one token per row, int64 (R,), into the cache; logits (R, V) of the next, as `forward` gives them.

        With `need_weights`, `cache.weights` is the last layer's cross-attention (R, S), mean over heads.
        """
        assert isinstance(cache, TransformerCache)
        history = cache.history
        x = self._embed(tokens.view(-1, history.beams), self.positions(history.position, 1))
        for layer, layer_cache in zip(self._layers(), cache.layers, strict=True):
            x = layer(x, layer_cache.target.attend, layer_cache.memory.attend)
        history.position += 1
        cache.weights = cache.layers[-1].memory.weights.mean(1).flatten(0, 1) if need_weights else None
        return self.head(self.norm(x)).flatten(0, 1)

    def _layers(self) -> Iterator[TransformerDecoderLayer]:
        return cast(Iterator[TransformerDecoderLayer], iter(self.layers))  # a ModuleList does not know its class

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens (B, T) at `positions` (T, D), or all at one (1, D), to (B, T, D)."""
        return self.position_drop(self.embedding(tokens) * self.embedding_scale + positions)
