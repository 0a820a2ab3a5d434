"""The directions that a decoder is trained in: left to right, or both with the same weights (BTTR, Zhao et al. 2021).

Legend: B batch, T target positions, D width of the decoder, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models.config import Direction
from models.decoders import Decoder
from models.decoders.sampled_tokens import OwnTokens
from models.memory import Memory
from models.output import reverse_targets
from models.spec import OutputSpec


class Answers(NamedTuple):
    """`logits` (B, T, V) and `hidden` states (B, T, D) from left to right, `reverse_logits` (B, T, V) from right to left."""

    logits: Tensor | None
    reverse_logits: Tensor | None
    hidden: Tensor | None


Answering = Callable[[Decoder, Tensor, Memory, OutputSpec, OwnTokens | None], Answers]


def left_to_right(decoder: Decoder, tgt_in: Tensor, memory: Memory, spec: OutputSpec, own: OwnTokens | None) -> Answers:
    """Of the tokens after `tgt_in` (B, T)."""
    logits, hidden = decoder.answer(tgt_in, memory, own)
    return Answers(logits, None, hidden)


def both_ways(decoder: Decoder, tgt_in: Tensor, memory: Memory, spec: OutputSpec, own: OwnTokens | None) -> Answers:
    """Of the tokens after `tgt_in` (B, T) and of `reverse_targets`, in one pass of twice the batch.

    The same positions of both are fed with `own` tokens.
    """
    reverse_in, _ = reverse_targets(tgt_in, spec)
    twice = None if own is None else own._replace(mask=own.mask.repeat(2, 1))
    logits, hidden = decoder.answer(torch.cat([tgt_in, reverse_in]), memory, twice)
    assert logits is not None and hidden is not None
    return Answers(logits[: len(tgt_in)], logits[len(tgt_in) :], hidden[: len(tgt_in)])


DIRECTIONS: dict[Direction, Answering] = {
    "forward": left_to_right,
    "both": both_ways,
}
