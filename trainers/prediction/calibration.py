"""Tuning of the section `labeling` on out-of-fold predictions, judged on folds that it was not tuned on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from omegaconf import OmegaConf

from cluster.errors import UserError
from cluster.redaction import redact
from trainers.config.labeling import LabelingConfig
from trainers.prediction.evaluation import metrics_of
from trainers.prediction.out_of_fold import OutOfFold
from trainers.tasks.base import Row
from trainers.tasks.calibration import TEMPERATURES
from trainers.tasks.classifiers.base import ClassifierTask


@dataclass(frozen=True)
class Tuned:
    """The tuned section, what could not be tuned, and metrics before and after, by name of the row in a table."""

    labeling: LabelingConfig
    notes: list[str]
    metrics: dict[str, dict[str, float]]


def require_tunable(found: OutOfFold, per_class: bool) -> ClassifierTask:
    """The task of predictions that a labeling can be tuned on.

    Raises:
        UserError: they have no probabilities, or were made with a temperature already, or there are too few folds to judge by.
    """
    task = found.task
    if not isinstance(task, ClassifierTask):
        raise UserError(f"Predictions of task '{task.name}' have no probabilities to tune on.")
    options = found.made_by["options"]
    if options.get("temperature", 1) != 1 or options.get("temperatures"):
        raise UserError("These predictions were made with a temperature. Make them again with labeling.temperature=1.")
    if len(found.by_fold()) < 2:
        raise UserError("These predictions are of one fold: what is tuned on it could not be judged. Give those of all folds.")
    if per_class:
        task.tuned(found.rows[:1], per_class)  # tasks without thresholds refuse
    return task


def calibrate(found: OutOfFold, per_class: bool) -> Tuned:
    """Tune on all rows; and on the folds but one, for each, to judge by the one that was left out."""
    task = require_tunable(found, per_class)
    folds = found.by_fold()
    judged: list[tuple[Row, Row]] = []
    for fold, rows in folds.items():
        others = [row for other, part in folds.items() if other != fold for row in part]
        tuned = replace(task, labeling=task.tuned(others, per_class)[0])
        judged += zip(tuned.relabeled(rows), rows, strict=True)
    labeling, notes = task.tuned(found.rows, per_class)
    low, high = TEMPERATURES
    if not all(1.01 * low < value < 0.99 * high for value in (labeling.temperature, *labeling.temperatures.values())):
        notes = [
            *notes,
            f"A temperature is at the end of what is tried, {low:g} to {high:g}: these rows do not tell a good one.",
        ]
    metrics = {
        "as predicted": metrics_of(task, ((row, row) for row in found.rows)).whole(),
        "tuned, judged on other folds": metrics_of(task, judged).whole(),
    }
    return Tuned(labeling, notes, metrics)


def to_yaml(labeling: LabelingConfig, found: OutOfFold) -> str:
    """The section as a file, with what it was tuned on."""
    made: Mapping[str, Any] = found.made_by
    header = [
        "The section `labeling`: predict with labeling=FILE.",
        f"Tuned by trainers.calibrate on {len(found.rows):,} out-of-fold predictions of folds {_listed(found)}",
        f"of dataset {redact(str(made['dataset']))}, {made['digest'][:19]}.",
    ]
    return "".join(f"# {line}\n" for line in header) + OmegaConf.to_yaml(OmegaConf.create(asdict(labeling)))


def _listed(found: OutOfFold) -> str:
    return ", ".join(map(str, found.by_fold()))
