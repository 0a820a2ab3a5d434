"""Greedy decoding.

Legend: B batch, T emitted positions, V vocabulary.
"""

import torch
from torch import Tensor

from models.decoders import Decoder
from models.decoding.grammar import build_grammar
from models.decoding.maps import to_maps
from models.decoding.settings import Decoding
from models.decoding.stopping import all_done, length_limit
from models.types import Generation, Memory, OutputSpec


def greedy_decode(decoder: Decoder, memory: Memory, decoding: Decoding, spec: OutputSpec) -> Generation:
    """Emits the most probable token at each step, until every row has emitted EOS or the length limit is reached."""
    limit = length_limit(decoding, spec)
    batch, device = memory.tokens.shape[0], memory.tokens.device
    cache = decoder.start(memory, limit)
    grammar = build_grammar(decoding, spec, batch, limit, device)
    token_ids = torch.full((batch, limit), spec.pad_id, dtype=torch.long, device=device)
    lengths = torch.zeros(batch, dtype=torch.long, device=device)
    log_probs = torch.zeros(batch, device=device)
    finished = torch.zeros(batch, dtype=torch.bool, device=device)
    tokens = torch.full((batch,), spec.bos_id, dtype=torch.long, device=device)
    maps: list[Tensor] = []
    step = 0
    while step < limit and not all_done(finished, step):
        logits = decoder.step(tokens, cache, decoding.return_attention)
        best, tokens = grammar.restrict(logits.float().log_softmax(-1), limit - step).max(-1)
        tokens = tokens.masked_fill(finished, spec.pad_id)
        grammar.advance(tokens)
        log_probs += best.masked_fill(finished, 0.0)
        token_ids[:, step] = tokens
        if cache.weights is not None:
            maps.append(cache.weights.masked_fill(finished[:, None], 0.0))
        finished = finished | (tokens == spec.eos_id)
        lengths += ~finished
        step += 1
    # An accelerator has run a few steps beyond the last EOS.
    steps = min(step, int(lengths.max()) + 1) if step else 0
    attention = to_maps(torch.stack(maps[:steps], dim=1), memory) if maps else None
    return Generation(token_ids[:, :steps], lengths, log_probs, attention)
