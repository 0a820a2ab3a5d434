"""The sinks that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from data_pipeline.storage.base import Storage
from trainers.tracking.sink import Sink
from trainers.tracking.tensorboard import TensorBoard
from trainers.tracking.tracker import Tracker
from trainers.tracking.wandb_sink import Wandb

if TYPE_CHECKING:
    from trainers.config.train import TrainConfig


def add_sinks(tracker: Tracker, config: TrainConfig, run: Storage, details: Mapping[str, Any]) -> None:
    """Give `tracker` what the configuration asks for, beside the log and the history; what is not available is told.

    `run` is the run's folder, `details` are what is told of the dataset: its name and digest.
    """
    wanted: dict[str, Callable[[], Sink]] = {}
    if config.tracking.tensorboard:
        wanted["tensorboard"] = lambda: TensorBoard(config, run, details)
    if config.tracking.wandb:
        wanted["wandb"] = lambda: Wandb(config, run, details, tracker.console.line)
    for key, make in wanted.items():
        try:
            tracker.add(make())
        except Exception as error:  # tracking is never worth a run
            tracker.console.line(f"warning: {key} is not available ({error}); set tracking.{key}=false to do without.")
