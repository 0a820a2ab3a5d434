"""The split of each row of a table: by a column, by a column of folds, or by the name of its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.importers.labels.classes import listed
from data_pipeline.importers.labels.label_values import text_of, whole_numbers
from data_pipeline.importers.labels.split_names import known_split, split_name, split_of_file

_DIGITS = 10  # more than a number of a fold has


class RowSplit(NamedTuple):
    """The split of a row, empty where the source has none, or why the row cannot be in any."""

    name: str
    problem: str = ""


def splits_by_column(column: str, values: Sequence[Any]) -> list[RowSplit]:
    """The splits that a column names: `validation` is val, other names stay as they are."""

    def named(text: str) -> RowSplit:
        if not text:
            return RowSplit("", f"column '{column}' has no split")
        name = split_name(text)
        return RowSplit(name, "" if name else f"column '{column}' is '{text}', which cannot name a split")

    return [named(text_of(value)) for value in values]


def splits_by_file(paths: Sequence[Path], source: Path) -> list[RowSplit]:
    """The splits that the names of files tell, or of their folders; none where all tell the same or nothing.

    Raises:
        UserError: some tell, and one does not.
    """

    def told(path: Path) -> str:
        return split_of_file(path.stem) or (known_split(path.parent.name) if path.parent != source else "")

    found = {path: told(path) for path in dict.fromkeys(paths)}
    if len(set(found.values())) < 2:
        return [RowSplit("")] * len(paths)
    if unknown := [path.name for path, split in found.items() if not split]:
        raise UserError(
            f"Names of files in '{printable(str(source))}' tell their splits, but not those of {listed(unknown)}. "
            "Rename or move them, or name a column by --split-column."
        )
    return [RowSplit(found[path]) for path in paths]


def splits_by_fold(
    column: str, values: Sequence[Any], splits: Sequence[RowSplit], shown: Sequence[str]
) -> tuple[list[RowSplit], list[str]]:
    """The splits `fold-0`, `fold-1`, ... of a column of numbers, from 0 or from 1; rows of the split test stay in it.

    Raises:
        UserError: the numbers are not those of folds.
    """
    texts = whole_numbers(column, list(map(text_of, values)), shown)
    used = [text for text, split in zip(texts, splits, strict=True) if text and split.name != "test"]
    if wrong := [text for text in used if not (text.isascii() and text.isdecimal() and len(text) < _DIGITS)]:
        raise UserError(f"Column '{printable(column)}' holds '{printable(wrong[0][:40])}', which is no number of a fold.")
    numbers = sorted(set(map(int, used)))
    first = numbers[0] if numbers else 0
    if len(numbers) < 2 or first > 1 or numbers != list(range(first, first + len(numbers))):
        raise UserError(
            f"Column '{printable(column)}' holds the folds {listed(list(map(str, numbers))) or 'none'}. "
            "At least two are needed, numbered from 0 or from 1 without a gap."
        )
    notes = [f"Folds of column '{column}' are numbered from 1: fold 1 is the split fold-0."] if first else []

    def by_fold(text: str, split: RowSplit) -> RowSplit:
        if split.problem or split.name == "test":
            return split
        return RowSplit(f"fold-{int(text) - first}") if text else RowSplit("", f"column '{column}' has no fold")

    return [by_fold(text, split) for text, split in zip(texts, splits, strict=True)], notes


def splits_of(
    split_column: str,
    fold_column: str,
    columns: Mapping[str, Sequence[Any]],
    paths: Sequence[Path],
    source: Path,
    shown: Sequence[str],
) -> tuple[list[RowSplit], list[str]]:
    """The split of each row, and notes about them; `paths` are the files of the rows.

    Raises:
        UserError: files or folds do not fit together.
    """
    splits = splits_by_column(split_column, columns[split_column]) if split_column else splits_by_file(paths, source)
    return splits_by_fold(fold_column, columns[fold_column], splits, shown) if fold_column else (splits, [])
