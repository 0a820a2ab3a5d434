"""The directions that a decoder is trained in: left to right, or both with the same weights (BTTR, Zhao et al. 2021).

Legend: B batch, T target positions, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.config import Direction
from models.decoders import Decoder
from models.memory import Memory
from models.output import reverse_targets
from models.spec import OutputSpec

Logits = tuple[Tensor | None, Tensor | None]


def left_to_right(decoder: Decoder, tgt_in: Tensor, memory: Memory, spec: OutputSpec) -> Logits:
    """Logits (B, T, V) of the tokens after `tgt_in` (B, T)."""
    return decoder(tgt_in, memory), None


def both_ways(decoder: Decoder, tgt_in: Tensor, memory: Memory, spec: OutputSpec) -> Logits:
    """Logits (B, T, V) of the tokens after `tgt_in` (B, T) and of `reverse_targets`, in one pass of twice the batch."""
    reverse_in, _ = reverse_targets(tgt_in, spec)
    logits: Tensor = decoder(torch.cat([tgt_in, reverse_in]), doubled(memory))
    forward_logits, reverse_logits = logits.chunk(2)
    return forward_logits, reverse_logits


def doubled(memory: Memory) -> Memory:
    """The memory of the same images twice, one after the other."""
    mask = None if memory.mask is None else memory.mask.repeat(2, 1)
    return memory._replace(tokens=memory.tokens.repeat(2, 1, 1), mask=mask)


DIRECTIONS: dict[Direction, Callable[[Decoder, Tensor, Memory, OutputSpec], Logits]] = {
    "forward": left_to_right,
    "both": both_ways,
}
