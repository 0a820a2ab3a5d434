"""What the workers of a run tell becomes lines of the log, figures, and files of the run's folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.errors import UserError
from data_pipeline.dataset.manifest import Dataset
from data_pipeline.storage.base import Storage, StorageError
from trainers.config.criterion import Criterion
from trainers.config.environment_values import stored_value
from trainers.config.train import TrainConfig
from trainers.engine import bad_steps
from trainers.engine.rejected import RejectedImages
from trainers.tracking import Console, History, Tracker
from trainers.tracking.sinks import add_sinks

_SCORE = Criterion()
_DECODED_BY = {"threads": "threads of the workers", "ray": "tasks of the cluster"}


def seconds_of(row: dict[str, float]) -> float:
    """How long the epoch took whose figures a row has, 0 for another row: training, evaluation and checkpoint."""
    return sum(row.get(part, 0.0) for part in ("time/train_s", "time/evaluation_s", "time/checkpoint_s"))


def best_row(history: Sequence[dict[str, float]], criterion: Criterion) -> dict[str, float]:
    """The row of the best evaluation by `criterion`, of equals the first; empty if none has a value."""
    best = max(history, key=criterion.goodness, default={})
    return best if criterion.goodness(best) > -math.inf else {}


@dataclass(frozen=True)
class RunResult:
    """What a run leaves: its folder, whether it was stopped before its end, all rows of metrics, and what it was trained on."""

    uri: str
    stopped: bool
    history: list[dict[str, float]]
    device: str = ""

    @property
    def seconds(self) -> float:
        """Time spent in the epochs that are done, those before a resume included; the start of the workers is not."""
        return sum(seconds_of(row) for row in self.history)

    def best(self, criterion: Criterion = _SCORE) -> dict[str, float]:
        """The metrics of the best evaluation by `criterion`, empty if there was none."""
        return best_row(self.history, criterion)


class RunLog:
    """Takes events, one by one; `on_row` is called with every row of figures."""

    def __init__(
        self,
        config: TrainConfig,
        run: Storage,
        dataset: Dataset,
        console: Console | None = None,
        on_row: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self._run, self._on_row = run, on_row
        self.console = console or Console()
        self.history = History(run)
        self.tracker = Tracker(self.console, self.history)
        self.stopped = False
        self.device = ""  # of the workers that were the last to start
        self._rejected = RejectedImages(run, stored_value(config, "data.dataset"))
        add_sinks(self.tracker, config, run, {"name": dataset.manifest.name, "digest": dataset.manifest.digest})

    def warn(self, text: str) -> None:
        """A line that stands out."""
        self.console.line(f"warning: {text}")

    def handle(self, event: dict[str, Any]) -> None:
        """Take an event of a worker.

        Raises:
            UserError: the run cannot go on, in the words of a worker.
        """
        match event["kind"]:
            case "started":
                self._start(event)
            case "resumed":
                self.console.line(f"Resumed from {event['checkpoint']} (epoch {event['epoch']}, step {event['step']})")
            case "interval" | "epoch":
                self.tracker.figures(event["figures"])
                if self._on_row:
                    self._on_row(event["figures"])
            case "pictures":
                self.tracker.pictures(event["step"], event["pictures"])
            case "rejected":
                self._reject(event["split"], event["errors"])
            case "bad_batch":
                self._keep_bad_batch(event["record"], event["skipped"])
            case "checkpoint":
                self._guarded(self.history.save)
                self.console.line(f"Checkpoint {event['text']}")
            case "note":
                self.console.line(event["text"])
            case "warning":
                self.warn(event["text"])
            case "stopped":
                self.stopped = True
            case "ended_early":
                self.console.line(f"Ended early after epoch {event['epoch'] - 1}: early_stopping.patience has run out")
            case "fatal":
                self.save_rejected()
                raise UserError(event["message"])

    def _start(self, event: dict[str, Any]) -> None:
        self.tracker.rewind(event["step"])
        self.console.start(event["step"], event["steps"])
        self.device = f"{event['world_size']} workers on {event['device']} ({event['precision']})"
        self.console.line(
            f"{self.device}, {event['parameters']:,} parameters, "
            f"{event['rows']:,} images, {event['vocabulary']} tokens, {event['steps']} steps; "
            f"images are decoded by {_DECODED_BY[event['execution']]}"
        )
        for note in event["notes"]:
            self.console.line(note)

    def _reject(self, split: str, errors: dict[str, str]) -> None:
        """Name images that are new among those that cannot be used, and list all of them in a file of the run."""
        new = self._rejected.add(split, errors)
        for sample_id, reason in list(new.items())[:5]:
            self.warn(f"image '{sample_id}' is left out: {reason}")
        if len(new) > 5:
            self.warn(f"{len(new) - 5} more images are left out")

    def _keep_bad_batch(self, record: dict[str, Any], skipped: bool) -> None:
        """Add a batch to the run's list of bad ones: a few at most, so the file is written anew."""
        file = self._run.child(bad_steps.FILE)

        def add() -> None:
            before = file.read_bytes() if file.exists() else b""
            file.write_bytes(before + json.dumps(record).encode() + b"\n")

        self._guarded(add)
        if skipped:
            self.warn(
                f"step {record['step']} is left out: loss {record['loss']:.4g}, gradient norm {record['grad_norm']:.4g}; the "
                f"ids of its {len(record['ids'])} images are in {bad_steps.FILE} of the run"
            )

    def save_rejected(self) -> None:
        """Write the list of images that cannot be used, if it has grown."""
        self._guarded(self._rejected.save)

    def _guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
        except StorageError as error:  # as with figures: training is worth more
            self.warn(f"{error} Training goes on.")

    def result(self) -> RunResult:
        """What the run leaves."""
        return RunResult(self._run.uri, self.stopped, self.history.rows, self.device)

    def close(self) -> None:
        """End all sinks."""
        self.save_rejected()
        self.tracker.close()
