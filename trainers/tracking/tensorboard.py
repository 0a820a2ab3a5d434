"""Event files for TensorBoard."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import OmegaConf

from cluster.redaction import redact
from data_pipeline.storage.base import Storage
from trainers.config.environment_values import with_expressions
from trainers.tracking.mirror import Mirror
from trainers.tracking.sink import Sink

if TYPE_CHECKING:
    from trainers.config.train import TrainConfig

FOLDER = "tensorboard"


class TensorBoard(Sink):
    """Scalars by our own step, pictures, the configuration and the dataset as text, in `tensorboard/` of the run's folder.

    Events are written here and now, not by the library's thread: what fails must be heard of, and a thread that died with
    a full disk would leave the next caller waiting. A run on other storage has its files copied at the ends of epochs.
    """

    def __init__(self, config: TrainConfig, run: Storage, details: Mapping[str, Any]) -> None:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._summary, self._event, self._restart = summary, Event, SessionLog(status=SessionLog.START)
        self._mirror = Mirror(run)
        folder = self._mirror.path / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        # Files are read in the order of their names, which begin with the second: two of one second are told apart.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        texts = {"config": OmegaConf.to_yaml(with_expressions(config)), "dataset": OmegaConf.to_yaml(dict(details))}
        for name, text in texts.items():
            indented = "".join(f"    {line}\n" for line in redact(text).splitlines())  # Markdown shows that as it stands
            self._write(0, summary=summary.text(name, indented))

    def rewind(self, step: int) -> None:
        """Have points after `step` forgotten: TensorBoard drops, at the start of a session, what is not before its step."""
        self._write(step + 1, session_log=self._restart)

    def figures(self, row: dict[str, float]) -> None:
        """A point for each finite figure."""
        step = int(row["step"])
        for key, value in row.items():
            if key != "step" and math.isfinite(value):
                self._write(step, summary=self._summary.scalar(key, value))
        self._writer.flush()
        if any(key.startswith("time/") for key in row):
            self._mirror.publish()

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """One image each."""
        for name, picture in pictures.items():
            layout = "HWC" if picture.ndim == 3 else "HW"
            self._write(step, summary=self._summary.image(name, picture, dataformats=layout))
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
        self._mirror.publish()

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write_event(self._event(wall_time=time.time(), step=step, **content))
