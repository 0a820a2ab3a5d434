"""Small datasets with labels in folds, and out-of-fold predictions of them that no network has made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.dataset.manifest import Dataset
from data_pipeline.dataset.shards import Row
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import open_storage
from tests.support.label_datasets import SIDE, write_dataset
from trainers.config.train import TrainConfig
from trainers.prediction.out_of_fold import OutOfFold, write_out_of_fold
from trainers.tasks import TASKS


def spots(seed: int) -> bytes:
    """A PNG of gray spots, each seed another."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    return encode_png(np.kron(coarse, np.ones((4, 4), np.uint8)))


def write_fold_dataset(
    folder: Path,
    task: str,
    target: Mapping[str, Any],
    labels: Sequence[Mapping[str, Any]],
    folds: int = 3,
    images: Mapping[int, bytes] | None = None,
    ids: Callable[[int], str] = "row-{:03d}".format,
    name: str = "spots",
) -> Dataset:
    """A row for each of `labels`, in turns in `folds` folds; `images` are those of some rows, the others have spots."""
    rows = [
        Row(ids(number), (images or {}).get(number, spots(number)), SIDE, SIDE, dict(row), source=f"camera {number % 2}")
        for number, row in enumerate(labels)
    ]
    return write_dataset(folder, task, target, {f"fold-{fold}": rows[fold::folds] for fold in range(folds)}, name)


def predicted(
    dataset: Dataset, predictions: Callable[[int], Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> OutOfFold:
    """Out-of-fold predictions of rows with id, source, fold and labels: `predictions` of the number of each."""
    task = TASKS[dataset.manifest.task].from_dataset(dataset.manifest, TrainConfig())
    made_by = {
        "dataset": dataset.storage.uri,
        "digest": dataset.manifest.digest,
        "checkpoints": {str(fold): f"runs/fold-{fold}" for fold in range(dataset.manifest.folds)},
        "options": {},
        "rejected": 0,
    }
    return OutOfFold(
        task, [{**row, **predictions(number)} for number, row in enumerate(rows)], dataset.manifest.columns, made_by
    )


def write_predicted(file: Path, found: OutOfFold) -> str:
    """The file of out-of-fold predictions."""
    write_out_of_fold(open_storage(file), found, TrainConfig())
    return str(file)
