"""Attention weights of decoders as maps over the image.

Legend: B batch, T emitted positions, S source positions, h w height and width of the feature map.
"""

import torch
from torch import Tensor

from models.decoders import Decoder
from models.types import Memory, OutputSpec


def to_maps(weights: Tensor, memory: Memory) -> Tensor:
    """Attention to the memory (B, T, S) as maps (B, T, h, w), without positions outside the feature map."""
    return weights[..., memory.prefix :].unflatten(-1, memory.size)


def attention_along(decoder: Decoder, memory: Memory, token_ids: Tensor, spec: OutputSpec) -> Tensor:
    """Attention maps (B, T, h, w) of the decoder on given texts (B, T), in the form of `Generation`."""
    batch, steps = token_ids.shape
    cache = decoder.start(memory, steps)
    tokens = torch.cat([token_ids.new_full((batch, 1), spec.bos_id), token_ids[:, :-1]], 1)
    maps: list[Tensor] = []
    for step in range(steps):
        decoder.step(tokens[:, step], cache, need_weights=True)
        assert cache.weights is not None
        maps.append(cache.weights.masked_fill((token_ids[:, step] == spec.pad_id)[:, None], 0.0))
    return to_maps(torch.stack(maps, 1), memory)
