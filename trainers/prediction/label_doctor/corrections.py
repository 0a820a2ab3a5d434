"""The file in which people correct labels, as `python -m data_pipeline.correct` reads it: where `new` is filled, labels change.

The labels of a row that may have several are one cell with a JSON list, such as `["a", "b"]`: names may hold any character, and
a row may have none, `[]`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COLUMNS = ("id", "given", "suggested", "new")


@dataclass(frozen=True)
class Correction:
    """A row whose labels in `column` are doubtful: those it has, and those that are suggested; None where nothing is."""

    id: str
    column: str
    given: str | Sequence[str]
    suggested: str | Sequence[str] | None


def corrections_csv(corrections: Iterable[Correction], with_column: bool, accept: bool) -> str:
    """The file, a line for each correction; `accept` fills `new` with what is suggested.

    `with_column` adds the name of the column, where a dataset has several.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", *(["column"] if with_column else []), *COLUMNS[1:]])
    for item in corrections:
        suggested = "" if item.suggested is None else cell(item.suggested)
        column = [item.column] if with_column else []
        writer.writerow([item.id, *column, cell(item.given), suggested, suggested if accept else ""])
    return text.getvalue()


def cell(labels: str | Sequence[str]) -> str:
    """The label or labels of a row in one cell."""
    return labels if isinstance(labels, str) else json.dumps(list(labels), ensure_ascii=False)
