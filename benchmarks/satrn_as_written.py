"""SATRN computed the way that its source system wrote it down: the peer in `benchmarks.models`.

The same weights and the same function, but: the default memory layout; attention as products, a softmax and a product, the
residual scores added out of place; the feed-forward's convolutions on maps that are copied into place; and a decoding loop
that projects all keys and values, those of the tokens so far and those of the memory, anew in every step and layer, with a
mask made for each step, to the last step for every text. (What the source keeps between steps decodes another function
than was trained; here it is the right one, so that both ways give the same text.)

Legend: B batch, T target positions, S source positions, D width.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from timm.layers import SEModule
from torch import Tensor, nn

from models import Memory, Recognizer
from models.backbones.squeeze_excite import LeanSEModule
from models.decoders.transformer import TransformerDecoder, TransformerDecoderLayer
from models.encoders.attention import ResidualAttention
from models.encoders.transformer import TransformerEncoder, TransformerEncoderLayer
from models.layers.attention import MultiHeadAttention, merge_heads, split_heads
from models.layers.feed_forward import ConvMapFeedForward


class SatrnAsWritten:
    """The plain way, with the weights of a SATRN on convolutional feed-forward, residual attention and post-norm."""

    def __init__(self, model: Recognizer) -> None:
        self.model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for module in self.model.modules():
            if type(module) is LeanSEModule:
                module.__class__ = SEModule  # timm's own
        encoder, decoder = self.model.encoder, self.model.decoder
        assert isinstance(encoder, TransformerEncoder) and isinstance(decoder, TransformerDecoder)
        self.encoder, self.decoder = encoder, decoder

    def encode(self, images: Tensor) -> Memory:
        """The memory of images uint8 (B, C, H, W)."""
        features = self.model.backbone(self.model.normalize(images).contiguous())
        size = (features.shape[2], features.shape[3])
        x = self.encoder.position(features.contiguous())
        scores = None
        for layer in self.encoder.layers:
            assert isinstance(layer, TransformerEncoderLayer)
            x, scores = _encoder_layer(layer, x, scores)
        return Memory(x.flatten(2).transpose(1, 2), None, size)

    def logits(self, tgt_in: Tensor, memory: Memory) -> Tensor:
        """Teacher-forced logits (B, T, V)."""
        decoder = self.decoder
        length = tgt_in.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1).to(tgt_in.device)
        x = decoder.embedding(tgt_in) * decoder.embedding_scale + decoder.positions(0, length)
        x = decoder.position_drop(x)
        for layer in decoder.layers:
            assert isinstance(layer, TransformerDecoderLayer)
            x = _decoder_layer(layer, x, x, memory.tokens, mask)
        logits: Tensor = decoder.head(x)
        return logits

    @torch.inference_mode()
    def greedy(self, images: Tensor, steps: int) -> Tensor:
        """Token ids (B, steps) of images uint8 (B, C, H, W)."""
        return self.decode(self.encode(images), steps)

    @torch.inference_mode()
    def decode(self, memory: Memory, steps: int) -> Tensor:
        """Token ids (B, steps)."""
        decoder = self.decoder
        tokens = torch.full((memory.tokens.shape[0], 1), self.model.output_spec.bos_id)
        inputs: list[Tensor | None] = [None for _ in decoder.layers]  # of each layer, for all tokens so far
        seen = []
        for step in range(steps):
            mask = torch.ones(step + 1, step + 1, dtype=torch.bool).triu(1)[-1:]
            x = decoder.embedding(tokens) * decoder.embedding_scale + decoder.positions(step, 1)
            for number, layer in enumerate(decoder.layers):
                assert isinstance(layer, TransformerDecoderLayer)
                before = inputs[number]
                every = x if before is None else torch.cat([before, x], 1)
                inputs[number] = every
                x = _decoder_layer(layer, x, every, memory.tokens, mask)
            tokens = decoder.head(x).softmax(-1).argmax(-1)
            seen.append(tokens)
        return torch.cat(seen, 1)


def _encoder_layer(layer: TransformerEncoderLayer, x: Tensor, scores: Tensor | None) -> tuple[Tensor, Tensor]:
    """A map (B, D, h, w) to the next, and the scores (B, N, S, S)."""
    attention, feed_forward, norms = layer.attention, layer.feed_forward, cast(nn.ModuleList, layer.residual.norms)
    assert isinstance(attention, ResidualAttention) and isinstance(feed_forward, ConvMapFeedForward)
    size = x.shape[-2:]
    flat = x.flatten(2).transpose(1, 2)
    query, keys, values = attention.project(flat)
    own = query @ keys.transpose(-2, -1) * attention.scale
    scores = own if scores is None else own + scores
    weights = torch.dropout(scores.softmax(-1), attention.drop_rate, layer.training)
    flat = norms[0](attention.out(merge_heads(weights @ values)) + flat)
    x = flat.transpose(1, 2).contiguous().unflatten(2, size)
    fed = feed_forward.project(feed_forward.expand(x)) + x
    flat = norms[1](fed.flatten(2).transpose(1, 2))
    return flat.transpose(1, 2).contiguous().unflatten(2, size), scores


def _decoder_layer(layer: TransformerDecoderLayer, x: Tensor, every: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
    """Positions `x` (B, T, D), of all so far `every`, over the memory to (B, T, D); `mask` is True where hidden."""
    norms = cast(nn.ModuleList, layer.residual.norms)
    attended = _attend(layer.self_attention, x, every, mask)
    block = norms[0](attended + x)
    crossed = _attend(layer.cross_attention, layer.cross_query(x, attended, block), memory, None)
    block = norms[1](crossed + block)
    return norms[2](layer.feed_forward(block) + block)


def _attend(attention: MultiHeadAttention, query: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
    keys, values = attention.project_source(source)
    scores = split_heads(attention.query(query), attention.num_heads) @ keys.transpose(-2, -1) * attention.scale
    if mask is not None:
        scores = scores.masked_fill(mask, float("-inf"))
    weights = torch.dropout(scores.softmax(-1), attention.drop_rate, attention.training)
    return attention.output(weights @ values)
