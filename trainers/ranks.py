"""What ranks tell each other besides tensors."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import torch.distributed as dist

from trainers.distributed import several_ranks


def from_rank_zero(value: Any) -> Any:
    """Every rank gets rank 0's `value`, which may hold handles of Ray. All ranks call it together."""
    if not several_ranks():
        return value
    pickler: Any = sys.modules["ray"].cloudpickle if "ray" in sys.modules else pickle
    box = [pickler.dumps(value) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(box, 0)
    return pickler.loads(box[0])


def gathered(value: Any) -> list[Any]:
    """The `value` of every rank, in the order of the ranks. All ranks call it together."""
    if not several_ranks():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
