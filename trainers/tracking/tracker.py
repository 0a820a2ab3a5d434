"""All sinks of a run as one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import numpy as np

from data_pipeline.storage.base import StorageError
from trainers.tracking.console import Console
from trainers.tracking.history import History
from trainers.tracking.sink import Sink


class Tracker:
    """Hands rows and images to every sink. One that raises is reported once and left out from then on.

    The console and the history stay whatever happens, and so does a sink whose storage fails: storage may come back. That
    is reported when it begins, not again until the sink has worked in between.
    """

    def __init__(self, console: Console, history: History) -> None:
        self.console, self.history = console, history
        self._sinks: list[Sink] = [console, history]
        self._without_storage: list[Sink] = []

    def add(self, sink: Sink) -> None:
        """Add a sink."""
        self._sinks.append(sink)

    def rewind(self, step: int) -> None:
        """The run continues after `step`: rows of later steps will come again."""
        self._each(lambda sink: sink.rewind(step))

    def metrics(self, row: dict[str, float]) -> None:
        """Hand on a row."""
        self._each(lambda sink: sink.metrics(row))

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Hand on images by name, uint8 (H, W[, 3])."""
        self._each(lambda sink: sink.images(step, images))

    def close(self) -> None:
        """Close all sinks, the console last."""
        self._sinks.reverse()
        self._each(lambda sink: sink.close())

    def _each(self, call: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                call(sink)
                if sink in self._without_storage:
                    self._without_storage.remove(sink)
            except StorageError as error:
                if sink not in self._without_storage:
                    self._without_storage.append(sink)
                    self._warn(f"{error} Training continues.")
            except Exception as error:  # a sink may fail in any way; training must not
                self._warn(f"{type(sink).__name__} failed ({error}); it is left out from here on.")
                if sink not in (self.console, self.history):
                    self._sinks.remove(sink)

    def _warn(self, message: str) -> None:
        with contextlib.suppress(Exception):  # the console may be what failed
            self.console.line(f"warning: {message}")
