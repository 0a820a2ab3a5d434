"""Predictions as one CSV file, as competitions want them: a line per image, in the order of the inputs.

The first column, `index`, is the image's file name without folder and suffix, or its whole id where two images share that. What
follows is the task's: labels, or probabilities with six digits. An image that could not be read has empty cells.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow.parquet as pq

from cluster.errors import UserError
from data_pipeline.storage.base import Storage
from trainers.prediction.parts import is_part
from trainers.tasks import Task

_INDEX = "index"


def require_table(task: Task, probabilities: bool) -> None:
    """Check that the predictions of a task can be written so.

    Raises:
        UserError: it has no probabilities, or a column would be called as the first one is.
    """
    if probabilities and not task.table_columns(True):
        raise UserError(f"Predictions of task '{task.name}' have no probabilities: leave --csv-values out.")
    if _INDEX in task.table_columns(probabilities):
        raise UserError(
            f"--csv: its column '{_INDEX}' names the images, and the model has a class or a head '{_INDEX}'. Leave it out."
        )


def write_csv(parts: Storage, task: Task, file: Storage, probabilities: bool) -> str:
    """Write the predictions in the folder `parts` into `file`; returns what there is to say of its lines.

    Raises:
        StorageError: they cannot be read, or the file cannot be written.
    """
    rows: list[dict[str, Any]] = []
    for name in sorted(filter(is_part, parts.names()), key=lambda name: (len(name), name)):
        rows += pq.read_table(io.BytesIO(parts.child(name).read_bytes())).to_pylist()
    columns = task.table_columns(probabilities)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_INDEX, *columns])
    names = indices([row["id"] for row in rows])
    for index, row in zip(names, rows, strict=True):
        writer.writerow([index, *([""] * len(columns) if row["error"] else task.table_cells(row, probabilities))])
    file.write_bytes(text.getvalue().encode())
    without = sum(bool(row["error"]) for row in rows)
    whole = [row["id"] for row in rows] == names and any("/" in name for name in names)
    named = "; two images have the same name, so `index` is the whole id" if whole else ""
    return f"{len(rows):,} lines, {without:,} of them without a prediction{named}"


def indices(ids: Sequence[str]) -> list[str]:
    """Names of files without folder and suffix, where those tell the images apart; else the ids.

    A suffix begins with a letter: `1.5` is a name.
    """
    stems = [_stem(PurePosixPath(name)) for name in ids]
    return stems if len(set(stems)) == len(ids) else list(ids)


def _stem(path: PurePosixPath) -> str:
    return path.stem if path.suffix[1:2].isalpha() else path.name
