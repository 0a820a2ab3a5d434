"""Which checkpoints a run has, and which of them is the best."""

from __future__ import annotations

import json
import math
from typing import Any

from omegaconf import OmegaConf

from data_pipeline.storage.base import Storage, StorageError, open_storage
from trainers.checkpoint.format import COMPLETE, CONFIG, PREFIX, WEIGHTS, CheckpointError
from trainers.config.checkpoint import CheckpointConfig
from trainers.config.criterion import Criterion
from trainers.tasks import TASKS
from trainers.tasks.criterion import criterion_of


def find_checkpoint(uri: str) -> Storage:
    """The checkpoint at `uri`, or the best one (by the run's `checkpoint.metric`, else the last) of the run at `uri`.

    The metric is that of the run's configuration as it is now: one that was changed by a resume holds for all checkpoints.

    Raises:
        CheckpointError: there is none.
    """
    storage = open_storage(uri)
    if WEIGHTS in storage.names():
        return storage
    ranks = complete_checkpoints(storage)
    if not ranks:
        raise CheckpointError(f"No checkpoint at '{uri}': neither {WEIGHTS} nor complete directories {PREFIX}* are there.")
    return storage.child(max(ranks, key=lambda name: (ranks[name], age_order(name))))


def age_order(name: str) -> tuple[int, str]:
    """A key that sorts names of checkpoints by their steps, however many digits these have."""
    step = name.removeprefix(PREFIX).partition("-")[0]
    return (int(step) if step.isdecimal() else -1, name)


def complete_checkpoints(run: Storage, criterion: Criterion | None = None) -> dict[str, float]:
    """The checkpoints of a run that were written to their end, oldest first: names, and the rank of each by `criterion`.

    Without one it is that of the run's configuration. Those that were not validated rank at -infinity.
    """
    marks = completion_marks(run)
    if marks and criterion is None:
        last = list(marks.values())[-1]
        task = TASKS.get(last.get("task", "sequence"))  # those of before tasks say nothing of theirs
        metric, direction = last["best_by"]
        criterion = (_criterion_in(run, task) if task else None) or Criterion(metric, "min" if direction == "min" else "max")
    return {name: criterion.rank(mark["metrics"]) for name, mark in marks.items() if criterion}


def _criterion_in(run: Storage, task: Any) -> Criterion | None:
    """What the configuration in a run's folder says, whichever other keys it has; None where there is none, or no such keys."""
    try:
        values = OmegaConf.create(run.child(CONFIG).read_bytes().decode())
        section = CheckpointConfig(**{key: values.checkpoint[key] for key in ("metric", "mode")})
    except StorageError as error:
        if error.missing:
            return None
        raise
    except Exception:  # a folder that was put together by hand, or cut short
        return None
    return criterion_of(section, task)


def completion_marks(run: Storage) -> dict[str, dict[str, Any]]:
    """What the last files of complete checkpoints say, oldest first: `metrics`, `best_by`, and `patience` of early stopping."""
    return {name: mark for name, mark in marks_of(run).items() if mark is not None}


def marks_of(run: Storage) -> dict[str, dict[str, Any] | None]:
    """As `completion_marks`, with None for a checkpoint whose last file is damaged: it counts as not complete."""
    files = {name: run.child(name, COMPLETE) for name in sorted(run.names(), key=age_order) if name.startswith(PREFIX)}
    return {name: _mark(file.read_bytes()) for name, file in files.items() if file.exists()}


def _mark(content: bytes) -> dict[str, Any] | None:
    """What the last file of a checkpoint says; None if it is cut short, or a value in it is of another kind."""
    try:
        mark: dict[str, Any] = json.loads(content)
        metrics, patience = mark["metrics"], mark.get("patience") if "patience" in mark else {}
        fine = (
            isinstance(mark["files"], dict)
            and isinstance(mark.get("task", ""), str)
            and all(isinstance(value, int | float) for value in metrics.values())
            and math.isfinite(metrics.get("epoch", 0))
            and len(mark["best_by"]) == 2
            and all(isinstance(part, str) for part in mark["best_by"])
            and isinstance(patience, dict)
            and (not patience or (isinstance(patience["best"], int | float) and isinstance(patience["epochs_since"], int)))
        )
        return mark if fine else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
