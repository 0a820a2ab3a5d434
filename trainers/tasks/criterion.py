"""The criterion of a section of the configuration, for a task."""

from __future__ import annotations

from trainers.config.checkpoint import CheckpointConfig
from trainers.config.criterion import AUTO, Criterion
from trainers.config.early_stopping import EarlyStoppingConfig
from trainers.tasks.base import Task


def criterion_of(section: CheckpointConfig | EarlyStoppingConfig, task: Task | type[Task]) -> Criterion:
    """What the checkpoints of a run are compared by, or its patience counts by: the section's metric, or the task's own."""
    metric = f"val/{task.main_metric}" if section.metric == AUTO else section.metric
    return Criterion.of(metric, section.mode, task.directions)
