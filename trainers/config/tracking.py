"""The section `tracking`: where metrics go."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.config.rules import broken, minimums


@dataclass
class TrackingConfig:
    """Where metrics go. `metrics.jsonl` and the log are always written."""

    log_interval: int = 20  # steps between two lines of the log
    wandb: bool = True  # offline unless logged in
    project: str = "inkray"  # of wandb
    tensorboard: bool = False  # event files in `tensorboard/` of the run's folder
    max_sources: int = 12  # of a split, metrics of the sources with the most rows are reported apart; the others' as `other`
    images: int = 8  # validation images that are shown at each evaluation, with what was read in them; 0: none

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        return broken(
            *minimums("tracking", self, log_interval=1, max_sources=0, images=0),
            (
                not self.wandb or bool(self.project),
                "tracking.project is empty: name a project of wandb, or set tracking.wandb=false",
            ),
        )
