"""Metrics of a split, and of its sources apart, as a table of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cluster.redaction import printable
from trainers.tasks.metrics.base import GroupedMetrics
from trainers.tasks.presentation import MetricColumn


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
    widths = [max(map(len, cells)) for cells in texts]
    lines = []
    for name, *cells in zip(*texts, strict=True):
        padded = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([f"{name:{widths[0]}}", *padded]))
    return "\n".join(lines)
