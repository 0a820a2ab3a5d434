"""What ranks tell each other besides tensors."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from ray import cloudpickle


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def from_rank_zero(value: Any) -> Any:
    """Every rank gets rank 0's `value`, which may hold handles of Ray. All ranks call it together."""
    if not _several():
        return value
    box = [cloudpickle.dumps(value) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(box, 0)
    return cloudpickle.loads(box[0])


def gathered(value: Any) -> list[Any]:
    """The `value` of every rank, in the order of the ranks. All ranks call it together."""
    if not _several():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
