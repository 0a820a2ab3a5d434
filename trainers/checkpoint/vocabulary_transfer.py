"""Rows of a network that belong to its outputs (the tokens of a vocabulary), carried from one set of outputs to another.

Legend: V the number of outputs, E rows beyond them that no output uses.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shared_rows(old: list[str], new: list[str]) -> list[tuple[int, int]]:
    """Row numbers (in the old, in the new) of the outputs that both have, by name, in the order of the new ones."""
    index = {name: row for row, name in enumerate(old)}
    return [(index[name], row) for row, name in enumerate(new) if name in index]


def carry_rows(source: Tensor, target: Tensor, axis: int, rows: list[tuple[int, int]], sizes: tuple[int, int]) -> None:
    """Copy into `target` the `rows` of `source` that belong to the same outputs, and the rows beyond the outputs.

    Both have V + E rows along `axis`; `rows` are pairs of row numbers (of source, of target), `sizes` the V of each.
    """
    beyond = min(source.shape[axis] - sizes[0], target.shape[axis] - sizes[1])
    pairs = [*rows, *((sizes[0] + row, sizes[1] + row) for row in range(beyond))]
    index = torch.tensor(pairs, dtype=torch.long, device=source.device).reshape(-1, 2)
    values = source.index_select(axis, index[:, 0]).to(target)
    target.index_copy_(axis, index[:, 1].to(target.device), values)
