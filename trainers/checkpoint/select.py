"""Which checkpoints a run has, and which of them is the best."""

from __future__ import annotations

import json
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
    found = {}
    for name in sorted(run.names(), key=age_order):
        if name.startswith(PREFIX) and run.child(name, COMPLETE).exists():
            try:
                mark = json.loads(run.child(name, COMPLETE).read_bytes())
                kinds = (("files", dict), ("metrics", dict), ("best_by", list))
                if all(isinstance(mark.get(key), kind) for key, kind in kinds) and len(mark["best_by"]) == 2:
                    found[name] = mark
            except (ValueError, AttributeError):
                continue  # cut short: as good as not there
    return found
