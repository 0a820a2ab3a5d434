"""Evaluation of a checkpoint on a split: every row once, on Ray or in this process."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cluster.errors import UserError
from cluster.progress import progress
from cluster.redaction import redacted
from data_pipeline.dataset.manifest import Dataset
from data_pipeline.dataset.shards import read_split
from trainers.checkpoint.load import Checkpoint
from trainers.tasks import Task
from trainers.tasks.base import Row
from trainers.tasks.metrics.base import GroupedMetrics, reported_groups

# Checkpoint, dataset, split and batch size to rows with predictions, in any order.
PredictSplit = Callable[[Checkpoint, Dataset, str, int], Iterator[dict[str, Any]]]
BATCH_SIZE = 64


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of a split, and the row of each prediction (id, source, truth, prediction, error), sorted by id."""

    metrics: GroupedMetrics
    rows: list[dict[str, Any]]

    def errors(self) -> dict[str, str]:
        """Why each image that could not be used could not: id -> reason."""
        return {row["id"]: row["error"] for row in self.rows if row["error"]}


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    dataset: Dataset,
    split: str,
    predict_split: PredictSplit,
    batch_size: int = BATCH_SIZE,
    allow_unknown: bool = False,
) -> EvaluationResult:
    """Predict every row of `split` of `dataset` as the checkpoint is configured, and compare.

    Raises:
        DatasetError: there is no such split, or it is empty.
        UserError: the dataset is of another task, or has outputs (tokens) that the checkpoint does not know.
        RuntimeError: the rows that came back are not the rows of the split, each once.
    """
    task = checkpoint.task
    rows = dataset.manifest.filled_split(split).rows
    require_covers(checkpoint, dataset, allow_unknown)
    predicted: list[dict[str, Any]] = []
    with progress(rows, "images", f"evaluate {split}") as bar:
        for row in predict_split(checkpoint, dataset, split, batch_size):
            predicted.append(row)
            bar.update()
    if len(predicted) != rows or len({row["id"] for row in predicted}) != rows:
        raise RuntimeError(f"{len(predicted)} predictions for {rows} rows")
    predicted.sort(key=lambda row: row["id"])
    sources = Counter(row["source"] for row in predicted)
    metrics = GroupedMetrics(task.new_metrics, reported_groups(sources, checkpoint.config.tracking.max_sources))
    for row in predicted:
        if row["error"]:
            metrics.reject(row["source"])
        else:
            metrics.add(row, row, row["source"])
    return EvaluationResult(metrics, predicted)


def require_covers(checkpoint: Checkpoint, dataset: Dataset, allow_unknown: bool = False) -> list[str]:
    """Check that a checkpoint can be evaluated on a dataset; returns what differs without harm, in sentences.

    Raises:
        UserError: it is of another task, or has outputs that the checkpoint does not know and that are not allowed.
    """
    task, manifest = checkpoint.task, dataset.manifest
    if manifest.task != task.name:
        raise UserError(
            f"Checkpoint '{checkpoint.uri}' is of task '{task.name}', dataset '{dataset.storage.uri}' of '{manifest.task}'."
        )
    if allow_unknown:
        return []
    other = type(task).from_dataset(manifest, checkpoint.config)
    return task.require_covers(other, "the checkpoint", f"dataset '{dataset.storage.uri}'")


def to_json(record: dict[str, Any]) -> bytes:
    """A record with metrics as JSON, without secrets; a metric of nothing is null, for JSON has no NaN."""
    metrics = {
        row: {name: value if math.isfinite(value) else None for name, value in values.items()}
        for row, values in record["metrics"].items()
    }
    return json.dumps(redacted(record | {"metrics": metrics}), indent=1, allow_nan=False).encode()


def constant_baseline(task: Task, dataset: Dataset, train: str, test: str) -> tuple[str, GroupedMetrics]:
    """The answer that is right most often in split `train`, as a text, and the metrics of always giving it on split `test`.

    What a model has to beat to have read anything.
    """
    answer = task.constant_prediction(_targets(task, dataset, train))
    return task.text_of(answer), metrics_of(task, ((answer, target) for target in _targets(task, dataset, test)))


def metrics_of(task: Task, pairs: Iterable[tuple[Row, Row]]) -> GroupedMetrics:
    """The metrics of predictions beside rows with their truths, sources together."""
    metrics = GroupedMetrics(task.new_metrics, ())
    for prediction, target in pairs:
        metrics.add(prediction, target)
    return metrics


def _targets(task: Task, dataset: Dataset, split: str) -> list[dict[str, Any]]:
    return read_split(dataset, split, list(task.columns)).to_pylist()
