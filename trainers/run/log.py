"""The log of a run: events of its workers become lines, rows of metrics, and files of its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.errors import UserError
from data_pipeline.storage.base import Storage, StorageError
from trainers.config.criterion import Criterion
from trainers.config.environment_values import stored_value, stored_values
from trainers.engine import bad_steps, events
from trainers.engine.events import Event
from trainers.engine.rejected import RejectedImages, named_images
from trainers.engine.run_spec import RunSpec
from trainers.tasks.criterion import criterion_of
from trainers.tracking import Console, History, Tracker
from trainers.tracking.sinks import add_sinks

_DECODED_BY = {
    "threads": "threads of the workers",
    "process": "a process beside each worker",
    "ray": "tasks of the cluster",
}


def seconds_of(row: dict[str, float]) -> float:
    """How long the epoch took whose metrics a row has, 0 for another row: training, evaluation and checkpoint."""
    return sum(row.get(part, 0.0) for part in ("time/train_s", "time/evaluation_s", "time/checkpoint_s"))


def best_row(history: Sequence[dict[str, float]], criterion: Criterion) -> dict[str, float]:
    """The row of the best evaluation by `criterion`, of equals the first; empty if none has a value."""
    best = max(history, key=criterion.rank, default={})
    return best if criterion.rank(best) > -math.inf else {}


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run: its folder, whether it was stopped before its end, all rows of metrics, what checkpoints are
    compared by, and its workers' device.
    """

    uri: str
    stopped: bool
    history: list[dict[str, float]]
    criterion: Criterion
    device: str = ""

    @property
    def seconds(self) -> float:
        """Time spent in the epochs that are done, those before a resume included; the start of the workers is not."""
        return sum(seconds_of(row) for row in self.history)

    def best(self) -> dict[str, float]:
        """The metrics of the best evaluation, empty if there was none."""
        return best_row(self.history, self.criterion)


class RunLog:
    """Handles events one by one; `on_row` is called with every row of metrics."""

    def __init__(
        self,
        spec: RunSpec,
        run: Storage,
        console: Console | None = None,
        on_row: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self._run, self._on_row = run, on_row
        self._criterion = criterion_of(spec.config.checkpoint, spec.task)
        self.console = console or Console()
        self.console.headlines = spec.task.headlines
        self.history = History(run)
        self.tracker = Tracker(self.console, self.history)
        self.stopped = False
        self.device = ""  # of the workers that were the last to start
        self._rejected = RejectedImages(run, stored_value(spec.config, "data.dataset"))
        manifest = spec.dataset.manifest
        dataset = {"name": manifest.name, "digest": manifest.digest}
        add_sinks(self.tracker, spec.config.tracking, run, stored_values(spec.config), dataset)

    def warn(self, text: str) -> None:
        """Write a line that stands out."""
        self.console.line(f"warning: {text}")

    def handle(self, event: Event) -> None:
        """Handle an event of a worker.

        Raises:
            UserError: the run cannot continue, in the words of a worker.
        """
        match event:
            case events.Started():
                self._start(event)
            case events.Resumed():
                self.console.line(f"Resumed from {event.checkpoint} (epoch {event.epoch}, step {event.step})")
            case events.IntervalEnded() | events.EpochEnded():
                self.tracker.metrics(event.metrics)
                if self._on_row:
                    self._on_row(event.metrics)
            case events.SampleImages():
                self.tracker.images(event.step, event.images)
            case events.ImagesRejected():
                self._reject(event.split, event.errors)
            case events.BadStep():
                self._keep_bad_step(event)
            case events.CheckpointWritten():
                self._guarded(self.history.save)
                self.console.line(f"Checkpoint {event.name}")
            case events.Note():
                self.console.line(event.text)
            case events.Warned():
                self.warn(event.text)
            case events.Stopped():
                self.stopped = True
            case events.EndedEarly():
                self.console.line(f"Ended early after epoch {event.epochs - 1}: early_stopping.patience has run out")
            case events.Failed():
                self.save_rejected()
                raise UserError(event.message)

    def _start(self, event: events.Started) -> None:
        self.tracker.rewind(event.step)
        self.console.start(event.step, event.total_steps)
        workers = "1 worker" if event.world_size == 1 else f"{event.world_size} workers"
        self.device = f"{workers} on {event.device} ({event.precision})"
        self.console.line(
            f"{self.device}, {event.parameters:,} parameters, "
            f"{event.rows:,} images, {event.outputs}, {event.total_steps} steps; "
            f"images are decoded by {_DECODED_BY[event.execution]}"
        )
        for note in event.notes:
            self.console.line(note)

    def _reject(self, split: str, errors: dict[str, str]) -> None:
        """Name images that are new among those that cannot be used, and list all of them in a file of the run."""
        new = self._rejected.add(split, errors)
        for line in named_images(new):
            self.warn(line)

    def _keep_bad_step(self, event: events.BadStep) -> None:
        """Add a step to the run's list of bad ones: a few at most, so the whole file is written."""
        file, record = self._run.child(bad_steps.FILE), event.record

        def add() -> None:
            before = file.read_bytes() if file.exists() else b""
            file.write_bytes(before + json.dumps(record).encode() + b"\n")

        self._guarded(add)
        if event.skipped:
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
        except StorageError as error:  # as with metrics: training is worth more
            self.warn(f"{error} Training continues.")

    def result(self) -> RunResult:
        """The outcome of the run."""
        return RunResult(self._run.uri, self.stopped, self.history.rows, self._criterion, self.device)

    def close(self) -> None:
        """Close all sinks."""
        self.save_rejected()
        self.tracker.close()
