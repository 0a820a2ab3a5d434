"""What a recognizer answers in training.

Legend: B batch, T target positions, w columns of the feature map, V vocabulary, L levels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from models.spec import OutputSpec


class Output(NamedTuple):
    """One field a head; None where the configuration has no such head.

    `logits` (B, T, V): of the token after each of `tgt_in`; `reverse_logits` (B, T, V): the same for `reverse_targets`;
    `ctc_logits` (B, w, V), the blank at `bos_id`, of which each image's first `ctc_lengths` (B,) columns count;
    `repulsion`: how much alike the attention heads are, a scalar between 0 and 1;
    `counts` (B, V), not negative: how often each token is thought to stand in the image;
    `levels` (B, T, L): logits of how many groups the token after each of `tgt_in` stands in, the last: L - 1 or more.
    """

    logits: Tensor | None = None
    reverse_logits: Tensor | None = None
    ctc_logits: Tensor | None = None
    ctc_lengths: Tensor | None = None
    repulsion: Tensor | None = None
    counts: Tensor | None = None
    levels: Tensor | None = None


def reverse_targets(tgt_in: Tensor, spec: OutputSpec) -> tuple[Tensor, Tensor]:
    """The same texts from right to left: input and output, each int64 (B, T), of inputs `tgt_in` (B, T).

    BOS and EOS change their roles: the input begins with EOS, the output ends with BOS; PAD fills the rest.
    """
    batch, length = tgt_in.shape
    text = tgt_in[:, 1:]
    lengths = ((text != spec.pad_id) & (text != spec.eos_id)).sum(1, keepdim=True)
    place = torch.arange(length, device=tgt_in.device).expand(batch, -1)
    # Position i of the output is token n - 1 - i of the text, which is tgt_in[n - i].
    reverse = tgt_in.gather(1, (lengths - place).clamp(min=0))
    tgt_out = torch.where(place < lengths, reverse, spec.pad_id).masked_fill(place == lengths, spec.bos_id)
    reverse_in = torch.cat([torch.full_like(tgt_out[:, :1], spec.eos_id), tgt_out[:, :-1]], 1)
    return reverse_in.masked_fill(place > lengths, spec.pad_id), tgt_out
