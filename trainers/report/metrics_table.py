"""Metrics of a split, and of its sources apart, as a table of text."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.redaction import printable
from trainers.tasks.base import Headline
from trainers.tasks.metrics.base import GroupedMetrics


def split_metrics(split: str, metrics: GroupedMetrics) -> dict[str, dict[str, float]]:
    """The metrics of a split, and of its sources apart where there are several."""
    return {split: metrics.whole()} | {f"{split}, {name}": part for name, part in metrics.parts().items()}


def metrics_table(metrics: dict[str, dict[str, float]], headlines: Sequence[Headline]) -> str:
    """The headline metrics of each row as a table of text."""
    metrics = {printable(name): row for name, row in metrics.items()}  # names of sources are folders of somebody's
    width = max(map(len, metrics))
    columns = [max(len(headline.label), 7 if headline.style == "percent" else 6) for headline in headlines]
    heads = [f"{headline.label:>{column}}" for headline, column in zip(headlines, columns, strict=True)]
    lines = ["  ".join([" " * width, f"{'images':>7}", *heads])]
    for name, row in metrics.items():
        values = [f"{h.text(row[h.key]):>{column}}" for h, column in zip(headlines, columns, strict=True)]
        lines.append("  ".join([f"{name:{width}}", f"{row['count']:7.0f}", *values]))
    return "\n".join(lines)
