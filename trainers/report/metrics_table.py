"""The metrics of a split as a table of text, which `train` and `evaluate` print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cluster.redaction import printable
from trainers.tasks.presentation import MetricColumn

if TYPE_CHECKING:
    from trainers.tasks.metrics.sequence import GroupedSums


def split_metrics(split: str, sums: GroupedSums) -> dict[str, dict[str, float]]:
    """The metrics of a split, and of its sources apart where there are several, by name of the table's row."""
    metrics = {split: sums.total.averages()}
    if len(sums.groups) > 1:
        metrics |= {f"{split}, {name}": part.averages() for name, part in sorted(sums.groups.items())}
    return metrics


def metrics_table(metrics: Mapping[str, Mapping[str, float]], columns: Sequence[MetricColumn]) -> str:
    """The columns of each row of `metrics` as a table of text; a value that is missing is `nan`."""
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
