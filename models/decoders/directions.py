"""Training directions of a decoder: left to right, or both with the same weights (BTTR, Zhao et al. 2021).

Legend: B batch, T target positions, D width of the decoder, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models.config import Direction
from models.decoders.base import Decoder
from models.types import Memory, OutputSpec, SampledTokens


class BidirectionalOutput(NamedTuple):
    """Decoder outputs by direction.

    `logits` (B, T, V) and `hidden` states (B, T, D) from left to right, `reverse_logits` (B, T, V) from right to left, None
    where only one direction is trained.
    """

    logits: Tensor | None
    reverse_logits: Tensor | None
    hidden: Tensor | None


DirectionRule = Callable[[Decoder, Tensor, Memory, OutputSpec, SampledTokens | None], BidirectionalOutput]


def reverse_targets(tgt_in: Tensor, spec: OutputSpec) -> tuple[Tensor, Tensor]:
    """Input and output of the same texts from right to left, each int64 (B, T), for inputs `tgt_in` (B, T).

    BOS and EOS change roles: the input begins with EOS, the output ends with BOS; PAD fills the rest.
    """
    batch, length = tgt_in.shape
    text = tgt_in[:, 1:]
    lengths = ((text != spec.pad_id) & (text != spec.eos_id)).sum(1, keepdim=True)
    index = torch.arange(length, device=tgt_in.device).expand(batch, -1)
    # Position i of the output is token n - 1 - i of the text, which is tgt_in[n - i].
    reverse = tgt_in.gather(1, (lengths - index).clamp(min=0))
    tgt_out = torch.where(index < lengths, reverse, spec.pad_id).masked_fill(index == lengths, spec.bos_id)
    reverse_in = torch.cat([torch.full_like(tgt_out[:, :1], spec.eos_id), tgt_out[:, :-1]], 1)
    return reverse_in.masked_fill(index > lengths, spec.pad_id), tgt_out


def left_to_right(
    decoder: Decoder, tgt_in: Tensor, memory: Memory, spec: OutputSpec, sampled: SampledTokens | None
) -> BidirectionalOutput:
    """Predicts the tokens after `tgt_in` (B, T)."""
    logits, hidden = decoder.decode_hidden(tgt_in, memory, sampled)
    return BidirectionalOutput(logits, None, hidden)


def bidirectional(
    decoder: Decoder, tgt_in: Tensor, memory: Memory, spec: OutputSpec, sampled: SampledTokens | None
) -> BidirectionalOutput:
    """Predicts the tokens after `tgt_in` (B, T) and after its `reverse_targets`, in one pass of twice the batch.

    Both directions read `sampled` tokens at the same positions.
    """
    reverse_in, _ = reverse_targets(tgt_in, spec)
    doubled = None if sampled is None else sampled._replace(mask=sampled.mask.repeat(2, 1))
    logits, hidden = decoder.decode_hidden(torch.cat([tgt_in, reverse_in]), memory, doubled)
    assert logits is not None and hidden is not None
    return BidirectionalOutput(logits[: len(tgt_in)], logits[len(tgt_in) :], hidden[: len(tgt_in)])


DIRECTIONS: dict[Direction, DirectionRule] = {
    "forward": left_to_right,
    "both": bidirectional,
}
