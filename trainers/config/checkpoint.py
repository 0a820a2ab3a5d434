"""When checkpoints are written and which are kept: the section `checkpoint` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.config.criterion import Mode


@dataclass
class CheckpointConfig:
    """When checkpoints are written, besides the end of each epoch, and how many are kept."""

    every_steps: int = 0  # 0: at the ends of epochs only
    keep: int = 1  # the best so many by `metric`, and always the last
    metric: str = "val/score"  # of the validation; of its sources, too: val/printed/wer
    mode: Mode = "auto"  # the metric's own direction
    timeout_s: float = 600.0  # how long the end of a run waits for storage that does not take its last checkpoint


def problems(config: CheckpointConfig) -> list[str]:
    """What is wrong with the values, each in one line."""
    rules = [
        (config.every_steps >= 0, f"checkpoint.every_steps={config.every_steps}: not negative"),
        (config.keep >= 1, f"checkpoint.keep={config.keep}: at least 1"),
        (config.timeout_s >= 0, f"checkpoint.timeout_s={config.timeout_s:g}: not negative"),
    ]
    return [message for good, message in rules if not good]
