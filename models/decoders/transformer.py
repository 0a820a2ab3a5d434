"""The transformer decoder.

Legend: B batch, K beams of an image, R = B * K rows, T target positions, S source positions, M width of the memory, D width
of the decoder, N heads, V vocabulary.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

from torch import Tensor, nn

from models.checks import lookup
from models.config import CrossQuery, DecoderConfig
from models.decoders.base import Decoder, DecoderCache, DecoderOutput
from models.decoders.cache import CrossAttentionCache, History, LayerCache, SelfAttentionCache, TransformerCache
from models.decoders.feed_forward import FEED_FORWARDS
from models.decoders.positions import POSITION_TABLES
from models.decoders.refinement import REFINERS
from models.decoders.sampled_tokens import sample_in_parallel
from models.layers.activations import ACTIVATIONS
from models.layers.attention import ATTENTION_OUTPUTS, MultiHeadAttention, attention_scale, head_width
from models.layers.initialization import INITIALIZERS
from models.layers.normalization import FINAL_NORMS, RESIDUALS
from models.types import Memory, OutputSpec, SampledTokens

KEY = "model.decoder"

# Queries of cross-attention: the self-attention block's output as in "Attention Is All You Need", its attention before the
# residual connection, or the layer's input. Formula recognizers of the SATRN family used the last two.
QueryRule = Callable[[Tensor, Tensor, Tensor], Tensor]
CROSS_QUERIES: dict[CrossQuery, QueryRule] = {
    "standard": lambda target, attended, block: block,
    "raw_self_attention": lambda target, attended, block: attended,
    "target": lambda target, attended, block: target,
}

# Attention of queries (B, T, D), to (B, T, D): in one pass over all positions, or against a cache.
Attend = Callable[[Tensor], Tensor]


class TransformerDecoderLayer(nn.Module):
    """Decoder layer: causal self-attention, cross-attention to the memory, feed-forward."""

    def __init__(self, config: DecoderConfig, memory_dim: int) -> None:
        super().__init__()
        dim, heads, drop_rate = config.embed_dim, config.num_heads, config.drop_rate
        head_dim = head_width(dim, heads, config.head_dim, KEY)
        scale = attention_scale(config.attention_scale, heads * head_dim, heads, KEY)
        output = lookup(ATTENTION_OUTPUTS, config.attention_output, f"{KEY}.attention_output")
        feed_forward = lookup(FEED_FORWARDS, config.feed_forward, f"{KEY}.feed_forward")
        activation = lookup(ACTIVATIONS, config.activation, f"{KEY}.activation")
        self.cross_query = lookup(CROSS_QUERIES, config.cross_query, f"{KEY}.cross_query")
        self.self_attention = MultiHeadAttention(dim, dim, heads, head_dim, scale, drop_rate, config.qkv_bias, output)
        self.cross_attention = MultiHeadAttention(dim, memory_dim, heads, head_dim, scale, drop_rate, config.qkv_bias, output)
        self.feed_forward = feed_forward(dim, config.mlp_dim, config.mlp_drop_rate, activation)
        self.residual = lookup(RESIDUALS, config.norm, f"{KEY}.norm")(dim, 3)

    def forward(self, target: Tensor, attend_target: Attend, attend_memory: Attend) -> Tensor:
        """(B, T, D) to (B, T, D); the caller computes attention, in one pass or cached."""
        attended = attend_target(self.residual.before(0, target))
        block = self.residual.after(0, target, attended)
        crossed = attend_memory(self.residual.before(1, self.cross_query(target, attended, block)))
        x = self.residual.after(1, block, crossed)
        return self.residual.after(2, x, self.feed_forward(self.residual.before(2, x)))


class TransformerDecoder(Decoder):
    """Transformer decoder: token embeddings with positions, decoder layers, and a linear map to the vocabulary."""

    def __init__(self, config: DecoderConfig, memory_dim: int, output_spec: OutputSpec) -> None:
        super().__init__()
        dim = config.embed_dim
        self.pad_id = output_spec.pad_id
        self.out_dim = dim
        self.embedding = nn.Embedding(output_spec.num_classes + config.extra_embeddings, dim)
        self.embedding_scale = dim**0.5 if config.embedding_scale else 1.0
        self.positions = lookup(POSITION_TABLES, config.position, f"{KEY}.position")(config, output_spec)
        self.position_drop = nn.Dropout(config.drop_rate)
        self.layers = nn.ModuleList(TransformerDecoderLayer(config, memory_dim) for _ in range(config.depth))
        self.refiner = lookup(REFINERS, config.refinement, f"{KEY}.refinement")(config)
        self.norm = lookup(FINAL_NORMS, config.norm, f"{KEY}.norm")(dim)
        self.head = nn.Linear(dim, output_spec.num_classes)
        self.apply(lookup(INITIALIZERS, config.init, f"{KEY}.init"))

    def decode_hidden(self, tgt_in: Tensor, memory: Memory, sampled: SampledTokens | None = None) -> DecoderOutput:
        """`tgt_in` int64 (B, T), some positions replaced by predictions, and the memory to logits and hidden states.

        The predictions come from passes over all positions, without gradients: never one position after the other.
        """
        if sampled is not None:
            tgt_in = sample_in_parallel(lambda mixture: self.head(self._hidden(mixture, memory)), tgt_in, sampled, self.pad_id)
        hidden = self._hidden(tgt_in, memory)
        return DecoderOutput(self.head(hidden), hidden)

    def _hidden(self, tgt_in: Tensor, memory: Memory) -> Tensor:
        """`tgt_in` int64 (B, T) and the memory to states (B, T, D).

        PAD in `tgt_in` needs no mask: it comes last, so the causal mask hides it from every token before it.
        """
        x = self._embed(tgt_in, self.positions(0, tgt_in.shape[1]))
        attend_memory = self.refiner.attend_all(memory, tgt_in != self.pad_id)
        for layer in self._layers():
            x = layer(x, layer.self_attention.causal, partial(attend_memory, layer.cross_attention))
        return self.norm(x)

    def start(self, memory: Memory, max_length: int, beams: int = 1) -> TransformerCache:
        """Creates an empty cache for at most `max_length` steps of `beams` rows an image; projects the memory once, for all."""
        history = History(memory.tokens, max_length, beams)
        layers: list[LayerCache] = []
        below: CrossAttentionCache | None = None
        for layer in self._layers():
            below = self.refiner.cache(layer.cross_attention, memory, beams, below)
            layers.append(LayerCache(SelfAttentionCache(layer.self_attention, memory.tokens, history), below))
        return TransformerCache(layers, history)

    def step(self, tokens: Tensor, cache: DecoderCache, need_weights: bool = False) -> Tensor:
        """Reads one token per row, int64 (R,), into the cache and returns logits (R, V) of the next, equal to `forward`'s.

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
        return cast(Iterator[TransformerDecoderLayer], iter(self.layers))  # a ModuleList is not generic

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embeds tokens (B, T) at `positions` (T, D), or all at one position (1, D), to (B, T, D)."""
        return self.position_drop(self.embedding(tokens) * self.embedding_scale + positions)
