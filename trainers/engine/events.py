"""Events that training workers send to the driver: dataclasses, which pickle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Event:
    """Base of all events."""


@dataclass(frozen=True)
class Started(Event):
    """The workers are ready to take step `step` + 1 of `total_steps`."""

    parameters: int
    device: str
    precision: str
    world_size: int
    rows: int
    step: int
    total_steps: int
    execution: str  # how the stream runs: threads, process or ray
    outputs: str  # in words: `92 tokens`
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Resumed(Event):
    """The run resumes from a checkpoint."""

    checkpoint: str
    epoch: int
    step: int


@dataclass(frozen=True)
class IntervalEnded(Event):
    """A row of metrics over the steps since the last one."""

    metrics: dict[str, float]


@dataclass(frozen=True)
class EpochEnded(Event):
    """A row of metrics of an epoch and its validation."""

    metrics: dict[str, float]


@dataclass(frozen=True)
class SampleImages(Event):
    """Images by name, uint8 (H, W, 3), that show what is predicted at a step."""

    step: int
    images: dict[str, np.ndarray]


@dataclass(frozen=True)
class ImagesRejected(Event):
    """Images of a split that cannot be used: id to reason."""

    split: str
    errors: dict[str, str]


@dataclass(frozen=True)
class BadStep(Event):
    """A step that the loss guard rejects; `skipped` if training continues without it."""

    record: dict[str, Any]
    skipped: bool


@dataclass(frozen=True)
class CheckpointWritten(Event):
    """A checkpoint is complete."""

    name: str


@dataclass(frozen=True)
class Note(Event):
    """A line for the log."""

    text: str


@dataclass(frozen=True)
class Warned(Event):
    """A line for the log that stands out."""

    text: str


@dataclass(frozen=True)
class Stopped(Event):
    """The run stopped on request, with a checkpoint."""


@dataclass(frozen=True)
class EndedEarly(Event):
    """Early stopping ended the run after `epochs` epochs."""

    epochs: int


@dataclass(frozen=True)
class Failed(Event):
    """A user's mistake that ends the run."""

    message: str
