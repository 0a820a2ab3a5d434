"""Metrics of a split, and of its sources apart, as a table of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cluster.redaction import printable
from trainers.tasks.metrics.base import GroupedMetrics
from trainers.tasks.presentation import MetricColumn, Table


def split_metrics(split: str, metrics: GroupedMetrics) -> dict[str, dict[str, float]]:
    """The metrics of a split, and of its sources apart where there are several."""
    return {split: metrics.whole()} | {f"{split}, {name}": part for name, part in metrics.parts().items()}


def metrics_table(metrics: dict[str, dict[str, float]], columns: Sequence[MetricColumn]) -> str:
    """The headline metrics of each row as a table of text."""
    names = [printable(name) for name in metrics]  # sources are named after folders, which may hold anything
    texts = [["", *names]]
    for column in columns:
        values = [column.text(row.get(column.key, math.nan)) for row in metrics.values()]
        texts.append([column.label, *values])
    return _aligned(texts)


def per_class_text(table: Table | None) -> str:
    """The metrics of each class as a table of text; a sentence where there are no classes."""
    if table is None:
        return "This task has no classes that could have metrics of their own."
    cells = [[_cell(row[index]) for row in table.rows] for index in range(len(table.columns))]
    return _aligned([[name, *column] for name, column in zip(table.columns, cells, strict=True)])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return printable(str(value))


def _aligned(texts: Sequence[Sequence[str]]) -> str:
    """Columns of texts as lines, the first to the left, numbers to the right."""
    widths = [max(map(len, cells)) for cells in texts]
    lines = []
    for name, *cells in zip(*texts, strict=True):
        padded = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([f"{name:{widths[0]}}", *padded]))
    return "\n".join(lines)
