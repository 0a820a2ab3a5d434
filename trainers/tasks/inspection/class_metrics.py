"""The metrics of each class as bars."""

from __future__ import annotations

from collections.abc import Sequence

from trainers.tasks.presentation import Bars, Table


def class_bars(table: Table, series: Sequence[str], title: str = "Classes") -> Bars:
    """Columns of a table with a row for each class, beside its `rows`: the first of `series` as bars, the others as marks."""
    columns = {name: [row[index] for row in table.rows] for index, name in enumerate(table.columns)}
    return Bars(title, columns["class"], {name: columns[name] for name in series}, columns["rows"])
