"""What a batch is measured against.

Legend: B batch, T target positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from models import OutputSpec
from trainers.tasks.losses.config import PadPositions


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


def _all_but_pad(labels: Tensor, pad_id: int) -> Tensor:
    return labels != pad_id


def _all(labels: Tensor, pad_id: int) -> Tensor:
    return torch.ones_like(labels, dtype=torch.bool)


PADS: dict[PadPositions, Callable[[Tensor, int], Tensor]] = {"ignored": _all_but_pad, "counted": _all}


def counted_positions(labels: Tensor, weights: Tensor, pad_id: int, pad: PadPositions) -> Tensor:
    """Which positions of `labels` (B, T) have a loss, where `weights` (B,) are 0 for rows that have none: bool (B, T)."""
    return PADS[pad](labels, pad_id) & (weights != 0)[:, None]
