"""The CSV in which people correct labels: a line for each label that is doubtful, with the columns id, given, suggested, new.

`new` is what the label becomes; where it is empty nothing changes, and `drop` removes the row (unless a class has this name).
The labels of a row that may have several are one cell: `a|b|c`, or a JSON list, ["a", "b"]; [] are none. A dataset with several
heads has a column `column`, too, with the name of the head. Other columns are ignored.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.label_columns import LABEL_TASKS, label_columns
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.storage.base import Storage

DROP = "drop"
_NEEDED = ("id", "given", "new")
_SHOWN = 10  # mistakes that a message lists

Label = str | list[str]
"""The class of a row, or the classes, in declared order."""


class CorrectionsError(UserError):
    """Corrections that cannot be applied: all mistakes, each with its row."""

    @classmethod
    def of(cls, sheet: str, mistakes: Sequence[str]) -> Self:
        """The error of a sheet with these mistakes."""
        more = f" ... and {len(mistakes) - _SHOWN:,} more." if len(mistakes) > _SHOWN else ""
        listed = "".join(f"\n{printable(mistake)}" for mistake in mistakes[:_SHOWN])
        return cls(f"'{sheet}' cannot be applied, so nothing was changed:{listed}{more}")


@dataclass(frozen=True)
class Correction:
    """A label that changes from `given` to `new`, or whose row is removed (`new` is None); `row` counts from the header, 1."""

    row: int
    id: str
    column: str
    given: Label
    new: Label | None


def read_corrections(file: Storage, manifest: Manifest) -> list[Correction]:
    """The corrections of a CSV in UTF-8, with or without a byte order mark, with commas, semicolons or tabs.

    Raises:
        CorrectionsError: it lacks columns, or a row names a class or a head that the dataset does not have, or one label twice.
        StorageError: it cannot be read.
    """
    if manifest.task not in LABEL_TASKS:
        raise UserError(
            f"Dataset '{manifest.name}' is of the task '{manifest.task}', whose rows have no classes. Corrections are for: "
            f"{', '.join(LABEL_TASKS)}."
        )
    mistakes: list[str] = []
    found: dict[tuple[str, str], Correction] = {}
    classes = _classes(manifest)
    for row, cells in _cells(file, needs_column=manifest.task == "multitask"):
        if not cells["new"].strip():
            continue
        try:
            correction = _correction(row, cells, classes, several=manifest.task == "multilabel")
        except ValueError as error:
            mistakes.append(f"row {row}: {error}")
            continue
        key = (correction.id, correction.column)
        if key in found:
            mistakes.append(f"row {row}: the label of '{correction.id}' is corrected in row {found[key].row} already")
        found.setdefault(key, correction)
    if mistakes:
        raise CorrectionsError.of(file.shown, mistakes)
    return list(found.values())


def _classes(manifest: Manifest) -> dict[str, list[str]]:
    """The classes of each column with labels."""
    heads: dict[str, list[str]] = manifest.target.get("heads", {})
    columns = label_columns(manifest.task, manifest.target)
    return {name: heads[name] if heads else manifest.target["classes"] for name in columns}


def _cells(file: Storage, needs_column: bool) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"'{file.shown}' is not UTF-8 (byte {error.start:,}). Save it as 'CSV UTF-8'.") from None
    header = text.split("\n", 1)[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    names: list[str] = []
    needed = [*_NEEDED, *(["column"] if needs_column else [])]
    try:
        for number, cells in enumerate(rows, 1):
            if number == 1:
                names = [cell.strip() for cell in cells]
                if missing := [name for name in needed if name not in names]:
                    raise CorrectionsError.of(file.shown, [f"row 1: no column '{missing[0]}'; it has: {', '.join(names)}"])
                if twice := [name for name in needed if names.count(name) > 1]:
                    raise CorrectionsError.of(file.shown, [f"row 1: several columns have the name '{twice[0]}'"])
            elif any(cells):
                if len(cells) != len(names):
                    raise CorrectionsError.of(file.shown, [f"row {number}: {len(cells)} cells instead of {len(names)}"])
                row = dict(zip(names, cells, strict=True))
                if broken := [name for name in needed if "\n" in row[name].strip() or "\r" in row[name].strip()]:
                    mistake = f"row {number}: '{broken[0]}' goes on over several lines: is there a \" too many, or too few?"
                    raise CorrectionsError.of(file.shown, [mistake])
                yield number, row
    except csv.Error as error:
        raise CorrectionsError.of(file.shown, [f"row {rows.line_num}: {error}"]) from None
    if not names:
        raise CorrectionsError.of(file.shown, [f"it is empty; its first row names the columns {', '.join(needed)}"])


def _correction(row: int, cells: Mapping[str, str], classes: Mapping[str, list[str]], several: bool) -> Correction:
    """Read one row.

    Raises:
        ValueError: a class or a head that the dataset does not have.
    """
    column = next(iter(classes)) if len(classes) == 1 and not cells.get("column") else cells["column"].strip()
    if column not in classes:
        raise ValueError(f"the dataset has no labels '{column}'; it has: {', '.join(classes)}")
    allowed = classes[column]
    if not cells["given"].strip():
        raise ValueError("`given` is empty: it is the label that the row has" + (", [] where it has none" if several else ""))
    dropped = cells["new"].strip() == DROP and DROP not in allowed
    read = _several if several else _one
    new = None if dropped else read(cells["new"], allowed)
    return Correction(row, cells["id"], column, read(cells["given"], allowed), new)


def _one(text: str, classes: Sequence[str]) -> str:
    name = text if text in classes else text.strip()
    if name not in classes:
        shown = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
        raise ValueError(f"'{name}' is none of the {len(classes)} classes: {shown}")
    return name


def _several(text: str, classes: Sequence[str]) -> list[str]:
    names: Any = [text] if text in classes else [part for part in text.split("|") if part.strip()]
    if text.strip().startswith("[") and text not in classes:
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"'{text}' is no JSON list") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"'{text}' is no list of names")
    found = [_one(name, classes) for name in names]
    if len(set(found)) < len(found):
        raise ValueError(f"'{text}' names a class twice")
    return sorted(found, key=classes.index)
