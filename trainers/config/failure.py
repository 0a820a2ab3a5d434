"""The section `failure`: what happens when a worker is lost, hangs or runs out of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.rules import broken, minimums

OutOfMemory = Literal["stop", "halve"]


@dataclass
class FailureConfig:
    """What happens when a worker is lost, hangs or runs out of memory."""

    max_failures: int = 3  # restarts from the last checkpoint when a worker is lost
    hang_timeout_s: float = 600.0  # a worker without a sign of progress for so long is named, killed and replaced; 0: never
    on_out_of_memory: OutOfMemory = "stop"  # halve: continue from the last checkpoint with half the micro-batch

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        return broken(*minimums("failure", self, max_failures=0, hang_timeout_s=0))
