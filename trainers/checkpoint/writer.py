"""Checkpoints written beside the training, one after the other; the newest complete one stays until the next is complete."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable

from data_pipeline.storage.base import Storage, StorageError
from data_pipeline.storage.retry import backoff_s
from trainers.checkpoint.format import COMPLETE, PREFIX, Snapshot
from trainers.checkpoint.select import age_order, complete_checkpoints
from trainers.config.checkpoint import CheckpointConfig
from trainers.config.criterion import Criterion

FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 30.0


class CheckpointWriter:
    """Writes snapshots in a thread. One that cannot be written is tried again, until a newer one takes its place.

    `before` is called before each is written, `on_written` with its name once it is, `warn` with what failed; all in that
    thread.
    """

    def __init__(
        self,
        run: Storage,
        config: CheckpointConfig,
        criterion: Criterion,
        on_written: Callable[[str], None],
        warn: Callable[[str], None],
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self._config, self._criterion = run, config, criterion
        self._before, self._on_written, self._warn = before, on_written, warn
        # What waits: the last that was validated, and what came after it. One takes the place of another of its kind only.
        self._waiting: list[Snapshot] = []
        self._error: Exception | None = None
        self._busy = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="inkray-checkpoint", daemon=True)
        self._thread.start()

    def submit(self, snapshot: Snapshot) -> None:
        """Have `snapshot` written. One that still waits is given up for it, but a validated one for another such only."""
        with self._changed:
            kept = [] if self._validated(snapshot) else [other for other in self._waiting if self._validated(other)]
            self._waiting = [*kept, snapshot]
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Until all that was submitted is written, or `timeout_s` have passed; whether it is."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._waiting or self._busy:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    @property
    def reason(self) -> str:
        """Why the last attempt failed."""
        return str(self._error or f"'{self._run.uri}' takes longer than that.")

    def close(self) -> None:
        """End the thread; what is not written by now is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(10)

    def _work(self) -> None:
        failures = 0
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                snapshot = self._waiting.pop(0)
                self._busy = True
            try:
                self._write(snapshot)
                failures, self._error, done = 0, None, True
            except Exception as error:  # whatever it is: this thread lives as long as the run
                self._error, done = error, False
                if not failures:
                    self._warn(f"{error} The checkpoint is tried again; training continues, the one before it stays.")
                failures += 1
            with self._changed:
                self._busy = False
                if not done and not self._superseded(snapshot):
                    self._waiting.insert(0, snapshot)
                self._changed.notify_all()
                if not done and not self._closed:
                    self._changed.wait(backoff_s(failures, FIRST_PAUSE_S, MAX_PAUSE_S))

    def _superseded(self, snapshot: Snapshot) -> bool:
        """Whether what waits now takes the place of `snapshot`: a validated one gives way to a validated one only."""
        return any(self._validated(waiting) or not self._validated(snapshot) for waiting in self._waiting)

    def _validated(self, snapshot: Snapshot) -> bool:
        return self._criterion.rank(snapshot.metrics) > -math.inf

    def _write(self, snapshot: Snapshot) -> None:
        # Unique: what a lost worker left behind, or still writes, is another directory.
        name = f"{PREFIX}{snapshot.state['steps']:07d}-{uuid.uuid4().hex[:6]}"
        self._before()
        try:
            snapshot.write(self._run.child(name))
        except BaseException:
            self._remove(name)
            raise
        self._on_written(name)
        try:
            self._prune(name)
        except Exception as error:
            self._warn(f"{error} Old checkpoints stay where they are.")

    def _prune(self, written: str) -> None:
        """Remove all but the best and the one just `written`, which is whole; what was never finished before it goes, too."""
        ranks = complete_checkpoints(self._run, self._criterion)
        validated = [name for name in ranks if ranks[name] > -math.inf]
        best = sorted(validated, key=lambda name: (ranks[name], age_order(name)), reverse=True)
        kept = {written, *best[: self._config.keep]}
        for name in self._run.names():
            if name.startswith(PREFIX) and name not in kept and age_order(name) < age_order(written):
                self._remove(name)

    def _remove(self, name: str) -> None:
        try:
            # First what says that it is whole: an interrupted removal must not look like a checkpoint.
            self._run.child(name, COMPLETE).delete()
            self._run.child(name).delete()
        except StorageError:
            pass  # the next time
