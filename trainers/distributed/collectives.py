"""What ranks tell each other besides tensors."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from cluster.errors import USER_ERROR, UserError
from trainers.distributed.ddp import is_distributed


def broadcast_from_rank0(value: Any) -> Any:
    """Every rank gets rank 0's `value`, which may hold handles of Ray. All ranks call it together."""
    if not is_distributed():
        return value
    pickler: Any = sys.modules["ray"].cloudpickle if "ray" in sys.modules else pickle
    box = [pickler.dumps(value) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(box, 0)
    return pickler.loads(box[0])


def run_on_rank0(work: Callable[[], Any]) -> Any:
    """Every rank gets what `work` gives on rank 0, which alone does it. All ranks call it together.

    A user's mistake ends all ranks with the status of one, and rank 0 alone says it.

    Raises:
        UserError: on rank 0, as `work` does.
    """
    if not is_distributed():
        return work()
    value, mistake = None, None
    if dist.get_rank() == 0:
        try:
            value = work()
        except UserError as error:
            mistake = error
    failed, value = broadcast_from_rank0((mistake is not None, value))
    if mistake is not None:
        raise mistake
    if failed:
        sys.exit(USER_ERROR)
    return value


def all_gather_objects(value: Any) -> list[Any]:
    """The `value` of every rank, in the order of the ranks. All ranks call it together."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
