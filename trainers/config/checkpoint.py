"""The section `checkpoint`: when checkpoints are written and which are kept."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.config.criterion import Mode
from trainers.config.rules import broken, minimums


@dataclass
class CheckpointConfig:
    """When checkpoints are written, besides the end of each epoch, and how many are kept."""

    every_steps: int = 0  # write one after every so many steps; 0: at the ends of epochs only
    keep: int = 1  # how many of the best by `metric` are kept; the last one always is
    metric: str = "auto"  # what the best is chosen by: val/wer, of a source val/printed/wer; auto: the task's own
    mode: Mode = "auto"  # whether more or less of the metric is better; auto: the metric's own direction
    timeout_s: float = 600.0  # how long the end of a run waits for storage that does not take its last checkpoint

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        return broken(*minimums("checkpoint", self, every_steps=0, keep=1, timeout_s=0))
