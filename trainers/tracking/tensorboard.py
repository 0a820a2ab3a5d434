"""Event files for TensorBoard."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from cluster.redaction import redact
from data_pipeline.storage.base import Storage
from trainers.tracking.mirror import Mirror
from trainers.tracking.sink import Sink

FOLDER = "tensorboard"


class TensorBoard(Sink):
    """Scalars by our own step, images, the configuration and the dataset as text, in `tensorboard/` of the run's folder.

    Events are written at once, not by the library's thread: what fails must be reported, and a thread that died with
    a full disk would leave the next caller waiting. A run on other storage has its files copied at the ends of epochs.
    """

    def __init__(self, run: Storage, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._summary, self._event, self._restart = summary, Event, SessionLog(status=SessionLog.START)
        self._mirror = Mirror(run)
        folder = self._mirror.path / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        # Files are read in the order of their names, which begin with the second: two of one second are distinguished.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        for name, values in (("config", config), ("dataset", dataset)):
            text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
            indented = "".join(f"    {line}\n" for line in redact(text).splitlines())  # Markdown shows that as it stands
            self._write(0, summary=summary.text(name, indented))

    def rewind(self, step: int) -> None:
        """Take back points after `step`: TensorBoard drops, at the start of a session, what is not before its step."""
        self._write(step + 1, session_log=self._restart)

    def metrics(self, row: dict[str, float]) -> None:
        """Write a point for each finite metric."""
        step = int(row["step"])
        for key, value in row.items():
            if key != "step" and math.isfinite(value):
                self._write(step, summary=self._summary.scalar(key, value))
        self._writer.flush()
        if any(key.startswith("time/") for key in row):
            self._mirror.publish()

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Write each image."""
        for name, image in images.items():
            layout = "HWC" if image.ndim == 3 else "HW"
            self._write(step, summary=self._summary.image(name, image, dataformats=layout))
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
        self._mirror.publish()

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write_event(self._event(wall_time=time.time(), step=step, **content))
