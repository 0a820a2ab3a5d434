"""Greedy decoding.

Legend: B batch, T emitted positions, V vocabulary.
"""

import torch
from torch import Tensor

from models.decoders import Decoder
from models.decoding.settings import Decoding, Generation, length_limit
from models.memory import Memory
from models.spec import OutputSpec


def greedy_decode(
    decoder: Decoder,
    memory: Memory,
    decoding: Decoding,
    spec: OutputSpec,
) -> Generation:
    """The likeliest token at each step, until every row has emitted EOS or the length limit is reached."""
    limit = length_limit(decoding, spec)
    batch, device = memory.tokens.shape[0], memory.tokens.device
    cache = decoder.start(memory, limit)
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
    attention = torch.stack(maps, dim=1)[..., memory.prefix :].unflatten(2, memory.size) if maps else None
    return Generation(token_ids[:, :steps], lengths, log_probs, attention)
