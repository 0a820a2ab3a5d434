"""Greedy decoding.

Legend: B batch, T emitted positions, S source positions, h w height and width of the feature map, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.decoders import Decoder
from models.errors import ModelConfigError
from models.spec import OutputSpec


@dataclass(frozen=True)
class Decoding:
    """How to decode. `max_length` None: the output spec's; fewer tokens, EOS included, where it is given."""

    max_length: int | None = None
    return_attention: bool = False


@dataclass(frozen=True)
class Generation:
    """What was decoded.

    `token_ids` int64 (B, T): without BOS, up to and with EOS, then PAD; a row that reached the length limit has no EOS.
    `lengths` int64 (B,): tokens before EOS. `log_probs` (B,): sum over the emitted tokens, EOS included.
    `attention` (B, T, h, w): cross-attention of the decoder's last layer, mean over heads, or None; 0 after EOS.
    """

    token_ids: Tensor
    lengths: Tensor
    log_probs: Tensor
    attention: Tensor | None


def greedy_decode(
    decoder: Decoder,
    memory: Tensor,
    memory_mask: Tensor | None,
    size: tuple[int, int],
    decoding: Decoding,
    spec: OutputSpec,
) -> Generation:
    """The likeliest token at each step, until every row has emitted EOS or the length limit is reached.

    Memory (B, S, D) with `memory_mask` (B, S), True on image, from a feature map of `size` (h, w).
    """
    limit = _length_limit(decoding, spec)
    batch, device = memory.shape[0], memory.device
    cache = decoder.start(memory, memory_mask, limit)
    token_ids = torch.full((batch, limit), spec.pad_id, dtype=torch.long, device=device)
    lengths = torch.zeros(batch, dtype=torch.long, device=device)
    log_probs = torch.zeros(batch, device=device)
    finished = torch.zeros(batch, dtype=torch.bool, device=device)
    tokens = torch.full((batch,), spec.bos_id, dtype=torch.long, device=device)
    maps: list[Tensor] = []
    steps = 0
    while steps < limit and not bool(finished.all()):
        logits = decoder.step(tokens, cache, decoding.return_attention)
        best, tokens = logits.float().log_softmax(-1).max(-1)
        tokens = tokens.masked_fill(finished, spec.pad_id)
        log_probs += best.masked_fill(finished, 0.0)
        token_ids[:, steps] = tokens
        if cache.weights is not None:
            maps.append(cache.weights.masked_fill(finished[:, None], 0.0))
        finished = finished | (tokens == spec.eos_id)
        lengths += ~finished
        steps += 1
    attention = torch.stack(maps, dim=1).unflatten(2, size) if maps else None
    return Generation(token_ids[:, :steps], lengths, log_probs, attention)


def _length_limit(decoding: Decoding, spec: OutputSpec) -> int:
    limit = spec.max_length if decoding.max_length is None else decoding.max_length
    if not 1 <= limit <= spec.max_length:
        raise ModelConfigError("decoding.max_length", f"{limit} is not in 1..{spec.max_length}, the model's longest output")
    return limit
