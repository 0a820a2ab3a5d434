"""The losses of heads that help training and are not read from.

Legend: B batch, T target positions, L levels, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from models import OutputSpec
from trainers.tasks.losses.targets import Targets, is_special


def counting_loss(counts: Tensor, targets: Targets, spec: OutputSpec) -> Tensor:
    """How far predicted `counts` (B, V) are from how often each token stands in the text (CAN, Li et al. 2022): smooth L1.

    Summed over images and vocabulary, special tokens left out: after the division by the tokens of the global batch, it is
    the error of the counts per token of the text. (The paper's mean over images and vocabulary would shrink as the
    vocabulary grows.)
    """
    text = targets.text(spec)
    truth = torch.zeros_like(counts, dtype=torch.float).scatter_add_(1, targets.tgt_out, text.float())
    losses = F.smooth_l1_loss(counts.float(), truth, reduction="none")
    special = is_special(torch.arange(counts.shape[1], device=counts.device), spec)
    return losses.masked_fill(special | ~targets.rows[:, None], 0.0).sum()


def structure_loss(levels: Tensor, targets: Targets, spec: OutputSpec) -> Tensor:
    """Cross-entropy of the nesting levels (B, T, L), summed over the tokens of the texts and their EOS."""
    deepest = levels.shape[-1] - 1
    truth = nesting_levels(targets.tgt_out, spec).clamp(0, deepest)
    losses = F.cross_entropy(levels.float().flatten(0, 1), truth.flatten(), reduction="none").view_as(truth)
    return losses.masked_fill(~targets.tokens(spec), 0.0).sum()


def nesting_levels(tgt_out: Tensor, spec: OutputSpec) -> Tensor:
    """How many groups each token of `tgt_out` (B, T) stands in: int64 (B, T). What opens or closes one stands outside it.

    Below 0 where a text closes what it has not opened.
    """
    opens, closes = _is_one_of(tgt_out, spec.open_ids), _is_one_of(tgt_out, spec.close_ids)
    return (opens - closes).cumsum(1) - opens


def _is_one_of(ids: Tensor, tokens: tuple[int, ...]) -> Tensor:
    """1 where `ids` are one of `tokens`, else 0: int64 of the same shape."""
    # One by one: a tensor of them would be a copy from the host, which waits for the device.
    return torch.stack([ids == token for token in tokens]).any(0).long()
