"""The sinks that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from data_pipeline.storage.base import Storage
from trainers.config.tracking import TrackingConfig
from trainers.tracking.sink import Sink
from trainers.tracking.tensorboard import TensorBoard
from trainers.tracking.tracker import Tracker
from trainers.tracking.wandb_sink import Wandb


def add_sinks(
    tracker: Tracker, tracking: TrackingConfig, run: Storage, config: Mapping[str, Any], dataset: Mapping[str, Any]
) -> None:
    """Add to `tracker` the sinks that `tracking` asks for, beside the log and the history; what is not available is reported.

    `run` is the run's folder; `config` its configuration as plain values that may be stored, `dataset` its name and digest.
    """
    wanted: dict[str, Callable[[], Sink]] = {}
    if tracking.tensorboard:
        wanted["tensorboard"] = lambda: TensorBoard(run, config, dataset)
    if tracking.wandb:
        wanted["wandb"] = lambda: Wandb(run, tracking.project, config, dataset, tracker.console.line)
    for key, make in wanted.items():
        try:
            tracker.add(make())
        except Exception as error:  # tracking is never worth a run
            tracker.console.line(f"warning: {key} is not available ({error}); set tracking.{key}=false to do without.")
