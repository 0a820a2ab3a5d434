"""Out-of-fold predictions: every row of a dataset, predicted by the run that did not train on it, in one Parquet file.

Columns are id, source, fold, those of the truth, and those of the prediction. The file's metadata hold what made it: task and
classes, dataset and its digest, the checkpoint of each fold, and how it predicted.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import UserError
from cluster.redaction import redacted
from cluster.yaml_text import shown
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.dataset.schema import arrow_type
from data_pipeline.storage.base import Storage, open_storage
from data_pipeline.storage.errors import StorageError
from trainers.checkpoint.format import CONFIG
from trainers.checkpoint.load import Checkpoint, open_checkpoint, read_config
from trainers.config.data import fold_name
from trainers.config.load import to_yaml
from trainers.config.train import TrainConfig
from trainers.prediction.evaluation import BATCH_SIZE, PredictSplit, evaluate_checkpoint
from trainers.tasks import TASKS, Task

_METADATA = b"inkray"
FORMAT = "out of fold, 1"
_URIS = ("dataset", "checkpoints")  # of what made it: what may hold secrets; the names of classes are no secrets


@dataclass(frozen=True)
class OutOfFold:
    """Rows with truth and prediction, and what made them."""

    task: Task
    rows: list[dict[str, Any]]
    truth_columns: Mapping[str, str]  # name to Arrow type
    made_by: Mapping[str, Any]  # dataset, digest, checkpoints, options

    def by_fold(self) -> dict[int, list[dict[str, Any]]]:
        """The rows of each fold."""
        folds: dict[int, list[dict[str, Any]]] = {}
        for row in self.rows:
            folds.setdefault(row["fold"], []).append(row)
        return dict(sorted(folds.items()))


def runs_below(uris: Sequence[str]) -> list[str]:
    """The runs at these places; a folder that is no run stands for the runs in it, as a study's does.

    Raises:
        UserError: there is none.
    """
    found: list[str] = []
    for uri in uris:
        folder = open_storage(uri)
        if folder.child(CONFIG).exists():
            found.append(uri)
            continue
        inside = [folder.child(name).uri for name in sorted(folder.names()) if folder.child(name, CONFIG).exists()]
        if not inside:
            raise UserError(f"No run at '{uri}': there is no {CONFIG}, and no folder in it has one.")
        found += inside
    return found


@dataclass(frozen=True)
class FoldRun:
    """The best checkpoint of a run that was trained without a fold."""

    fold: int
    checkpoint: Checkpoint


def fold_runs(uris: Sequence[str], options: Sequence[str]) -> list[FoldRun]:
    """The checkpoints of these runs by fold, each to predict as `options` say.

    Raises:
        UserError: a run has no fold, two have the same, or they are of different datasets or classes.
    """
    runs: dict[int, FoldRun] = {}
    for uri in uris:
        checkpoint = open_checkpoint(uri).with_options(options)
        fold = checkpoint.config.data.fold
        if fold < 0:
            raise UserError(f"Run '{uri}' was not trained on folds (data.fold=-1): none of its rows is out of fold.")
        if fold in runs:
            raise UserError(
                f"Runs '{runs[fold].checkpoint.uri}' and '{checkpoint.uri}' both left out fold {fold}. Name one for each fold."
            )
        runs[fold] = FoldRun(fold, checkpoint)
    ordered = [runs[fold] for fold in sorted(runs)]
    first = ordered[0].checkpoint
    defaults = getattr(TrainConfig(), first.task.options or "", None)
    for run in ordered[1:]:
        if run.checkpoint.data.digest != first.data.digest:
            raise UserError(f"Runs '{first.uri}' and '{run.checkpoint.uri}' were trained on different datasets.")
        for key, value in run.checkpoint.options.items():
            if value != first.options[key]:
                name = f"{first.task.options}.{key}"
                raise UserError(
                    f"Runs '{first.uri}' and '{run.checkpoint.uri}' predict in different ways: {name} is "
                    f"{shown(first.options[key])} and {shown(value)}. Say how all are to predict, as in "
                    f"{name}={shown(getattr(defaults, key))}."
                )
        first.task.require_same(run.checkpoint.task, f"run '{first.uri}'", f"run '{run.checkpoint.uri}'")
        columns, others = (set(one.task.prediction_schema.names) for one in (first, run.checkpoint))
        if columns != others:
            raise UserError(
                f"Runs '{first.uri}' and '{run.checkpoint.uri}' predict different columns: only one has "
                f"{', '.join(sorted(columns ^ others))}. Train all folds with one network."
            )
    return ordered


def require_all_folds(runs: Sequence[FoldRun], dataset: Dataset) -> None:
    """Check that each fold of the dataset has its run.

    Raises:
        UserError: some have none; or the dataset is not the one that was trained on.
    """
    if dataset.manifest.digest != runs[0].checkpoint.data.digest:
        raise UserError(f"'{dataset.storage.uri}' is not the dataset that the runs were trained on: its digest differs.")
    missing = sorted(set(range(dataset.manifest.folds)) - {run.fold for run in runs})
    if missing:
        raise UserError(
            f"No run left out fold {', '.join(map(str, missing))} of the {dataset.manifest.folds}: train it with "
            f"data.fold={missing[0]}, or pass --some-folds to do without its rows."
        )


def predict_out_of_fold(
    runs: Sequence[FoldRun], dataset: Dataset, predict_split: PredictSplit, batch_size: int = BATCH_SIZE
) -> OutOfFold:
    """Predict each fold by the run that left it out; rows whose image cannot be used are left out and counted."""
    rows: list[dict[str, Any]] = []
    rejected = 0
    for run in runs:
        result = evaluate_checkpoint(run.checkpoint, dataset, fold_name(run.fold), predict_split, batch_size)
        rows += [{**row, "fold": run.fold} for row in result.rows if not row["error"]]
        rejected += len(result.errors())
    first = runs[0].checkpoint
    made_by = {
        "dataset": dataset.storage.uri,
        "digest": dataset.manifest.digest,
        "checkpoints": {str(run.fold): run.checkpoint.uri for run in runs},
        "options": first.options,
        "rejected": rejected,
    }
    return OutOfFold(first.task, rows, dataset.manifest.columns, made_by)


def write_out_of_fold(file: Storage, found: OutOfFold, config: TrainConfig) -> None:
    """Write the rows and what made them."""
    task = found.task
    truth = [(name, arrow_type(kind)) for name, kind in found.truth_columns.items()]
    fixed = [("id", pa.string()), ("source", pa.string()), ("fold", pa.int32())]
    schema = pa.schema([*fixed, *truth, *((field.name, field.type) for field in task.prediction_schema)])
    about = {
        "format": FORMAT,
        "task": task.name,
        "outputs": task.to_bytes().decode(),
        "columns": dict(found.truth_columns),
        "limits": task.limits,
        "config": to_yaml(config),
        **{name: redacted(value) if name in _URIS else value for name, value in found.made_by.items()},
    }
    columns = {name: [row[name] for row in found.rows] for name in schema.names}
    table = pa.table(columns, schema=schema.with_metadata({_METADATA: json.dumps(about).encode()}))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    file.write_bytes(buffer.getvalue())


def read_out_of_fold(uri: str) -> OutOfFold:
    """The out-of-fold predictions in the file at `uri`.

    Raises:
        UserError: there is no such file, or it is none of these.
    """
    file = open_storage(uri)
    how = "Make one with `python -m trainers.out_of_fold RUN ... OUT.parquet`."

    def refused(reason: str) -> UserError:
        return UserError(f"'{uri}' is no file of out-of-fold predictions: {reason}. {how}")

    if not file.exists():
        raise UserError(f"No file at '{uri}'. {how}")
    try:
        table = pq.read_table(io.BytesIO(file.read_bytes()))
    except StorageError as error:  # a folder, maybe the one of a run
        raise refused(str(error).rstrip(".")) from None
    except pa.ArrowException:
        raise refused("it is no Parquet file, or is damaged") from None
    if _METADATA not in (table.schema.metadata or {}):
        raise refused("it is another Parquet file")
    try:
        about = json.loads(table.schema.metadata[_METADATA])
        if "format" not in about:
            raise refused("it is another Parquet file, such as predictions of images")
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}")
        kind = TASKS[about["task"]]
        task = kind.from_checkpoint(about["outputs"].encode(), about["limits"], read_config(about["config"].encode(), True))
        rows = table.to_pylist()
    except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise refused(f"it is damaged ({' '.join(str(error).split())[:120]})") from None
    names = ("dataset", "digest", "checkpoints", "options", "rejected")
    return OutOfFold(task, rows, about["columns"], {name: about[name] for name in names})


def dataset_of(found: OutOfFold) -> Dataset:
    """The dataset whose rows these are.

    Raises:
        UserError: it is gone, or another one is in its place.
    """
    dataset = open_dataset(str(found.made_by["dataset"]))
    if dataset.manifest.digest != found.made_by["digest"]:
        raise UserError(f"'{dataset.storage.uri}' has changed since these predictions were made: its digest differs.")
    return dataset
