"""Columns of a prediction: those of the task beside those that every prediction has."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cluster.errors import UserError
from trainers.tasks import Task

# What rows carry beside a task's own columns, from the dataset or file to the part that is written.
_TAKEN = ("id", "image", "source", "problem", "error", "warning", "inverted", "page", "pages")


def empty_prediction(schema: pa.Schema) -> dict[str, Any]:
    """The values of an image that has no prediction: an empty text, otherwise null."""
    return {field.name: "" if pa.types.is_string(field.type) else None for field in schema}


def require_own_columns(task: Task) -> None:
    """Check that the columns of a task's predictions are its own: values of two meanings would take each other's place.

    Raises:
        UserError: one has the name of a column of the truth, or of one that every prediction has.
    """
    names = task.prediction_schema.names
    taken = [name for name in names if name in (*_TAKEN, *task.columns) or names.count(name) > 1]
    if taken:
        raise UserError(
            f"Task '{task.name}': its predictions have a column '{taken[0]}', which is the name of a column of the "
            "dataset or of every prediction. Rename it in prediction_schema."
        )
