"""Where the metrics of a run go: the log, `metrics.jsonl`, TensorBoard, wandb. A sink that fails never stops a run."""

from trainers.tracking.console import Console, epoch_line, interval_line
from trainers.tracking.history import HISTORY, History
from trainers.tracking.sink import Sink
from trainers.tracking.sinks import add_sinks
from trainers.tracking.tensorboard import TensorBoard
from trainers.tracking.tracker import Tracker
from trainers.tracking.wandb_sink import Wandb

__all__ = [
    "HISTORY",
    "Console",
    "History",
    "Sink",
    "TensorBoard",
    "Tracker",
    "Wandb",
    "add_sinks",
    "epoch_line",
    "interval_line",
]
