"""What a batch is measured against.

Legend: B batch, T target positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models import OutputSpec


class Targets(NamedTuple):
    """`tgt_in`, `tgt_out` int64 (B, T): the truth before and after each position; `counted` bool (B, T): what has a loss.

    No position of a row of weight 0 counts. A text has as many counted positions from right to left as from left to right,
    and they are the same ones.
    """

    tgt_in: Tensor
    tgt_out: Tensor
    counted: Tensor

    @property
    def rows(self) -> Tensor:
        """Which rows count at all: bool (B,). A text has at least its EOS."""
        return self.counted.any(1)

    def tokens(self, spec: OutputSpec) -> Tensor:
        """Where a text and its EOS stand, in rows that count: bool (B, T)."""
        return self.counted & (self.tgt_out != spec.pad_id)

    def text(self, spec: OutputSpec) -> Tensor:
        """Where a text stands, in rows that count: bool (B, T)."""
        return self.counted & ~is_special(self.tgt_out, spec)


def is_special(ids: Tensor, spec: OutputSpec) -> Tensor:
    """Which of `ids` are BOS, EOS or PAD: bool of the same shape."""
    return (ids == spec.bos_id) | (ids == spec.eos_id) | (ids == spec.pad_id)


def counted_positions(labels: Tensor, weights: Tensor, pad_id: int, ignore_padding: bool) -> Tensor:
    """Which positions of `labels` (B, T) have a loss, where `weights` (B,) are 0 for rows that have none: bool (B, T)."""
    counted = labels != pad_id if ignore_padding else torch.ones_like(labels, dtype=torch.bool)
    return counted & (weights != 0)[:, None]
