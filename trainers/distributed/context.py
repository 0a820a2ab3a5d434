"""Where a worker works."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Place:
    """Rank `rank` of `world_size`, on `device` of a machine on which `processes` train; how the stream is carried out there."""

    rank: int
    world_size: int
    device: torch.device
    processes: int = 1
    execution: str = "threads"
