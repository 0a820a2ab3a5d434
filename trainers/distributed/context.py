"""Where a training worker runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class WorkerContext:
    """Rank `rank` of `world_size`, on `device` of a machine that `local_world_size` workers share; how its stream executes."""

    rank: int
    world_size: int
    device: torch.device
    local_world_size: int = 1
    execution: str = "threads"
