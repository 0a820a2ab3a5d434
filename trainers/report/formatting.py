"""How numbers, metrics and settings are written on a page and in a model card."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from trainers.report.record import RunReport
from trainers.tasks.presentation import MetricColumn, Table

_COLUMNS = 9  # of numbers with their names that a page has room for
MISSING = "–"


def number(value: Any) -> str:
    """A value as a reader wants it: whole numbers with thousands set apart, else four digits; other types as they are."""
    if value is None:
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return MISSING if math.isnan(value) else str(value)
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.4g}"


def metric_text(column: MetricColumn, value: float | None) -> str:
    """The value of a metric in its own format, whole numbers with thousands set apart."""
    if value is None or math.isnan(value):
        return MISSING
    text = column.text(value).strip()
    return f"{int(text):,}" if text.isdecimal() else text


def heading(column: MetricColumn) -> str:
    """What a page calls a metric: its title, or its label with a capital letter."""
    return column.title or column.label[:1].upper() + column.label[1:]


def metric_columns(report: RunReport) -> list[MetricColumn]:
    """The columns of the metrics that occur: the task's in its order, then unknown ones, counts last."""
    known = {column.key: column for column in (*report.headlines, *report.details)}
    found = dict.fromkeys(key for row in report.metrics.values() for key in row)
    unknown = [MetricColumn(key, key.replace("_", " "), ".4g") for key in found if key not in known]
    columns = [column for column in known.values() if column.key in found]
    return sorted([*columns, *unknown], key=lambda column: column.better is None)


def upright(table: Table) -> Table:
    """A table that is wider than a page, with its rows as columns if these are fewer."""
    if len(table.columns) <= _COLUMNS or len(table.rows) >= len(table.columns) - 1:
        return table
    names = [str(row[0]) for row in table.rows]
    return Table(["", *names], [[name, *(row[at] for row in table.rows)] for at, name in enumerate(table.columns) if at])


def metrics_rows(report: RunReport, arrows: bool = False) -> Table:
    """All metrics of a report as texts, a row by name; `arrows` mark the columns of which less is better."""
    columns = metric_columns(report)
    heads = [heading(column) + (" ↓" if arrows and column.better == "min" else "") for column in columns]
    rows = [[name, *(metric_text(column, row.get(column.key)) for column in columns)] for name, row in report.metrics.items()]
    return Table(["", *heads], rows)


def main_metric(report: RunReport) -> MetricColumn | None:
    """The first headline that says how good the model is."""
    return next((column for column in report.headlines if column.better is not None), None)


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Pairs of a dotted name and a value as text, for nested mappings and short lists."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(number, value))
        else:
            yield name, number(value)
