"""Outcomes of a study's arms: a record in the folder of each, and the table of all."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.redaction import redact
from data_pipeline.storage.base import Storage
from trainers.config.criterion import Criterion
from trainers.run.log import best_row, seconds_of
from trainers.studies.arms import Arm
from trainers.tasks.presentation import MetricColumn
from trainers.tracking import History

RESULT, FAILED = "result.json", "failed.json"  # of an arm's folder, one of them once it has ended
UNFINISHED = "not finished"


@dataclass(frozen=True)
class Outcome:
    """Of an arm that has finished: the metrics of its best validation and the seconds it took; else why it has not."""

    metrics: Mapping[str, float]
    seconds: float = 0.0
    reason: str = ""


def save_result(run: Storage, history: Sequence[dict[str, float]], criterion: Criterion) -> None:
    """Record that an arm has finished, and its best validation by `criterion`."""
    record: dict[str, Any] = {"metric": criterion.metric, "direction": criterion.direction}
    record |= {"seconds": sum(seconds_of(row) for row in history), **best_row(history, criterion)}
    run.child(RESULT).write_bytes(json.dumps(record, indent=1).encode())
    run.child(FAILED).delete()


def save_failure(run: Storage, reason: str) -> None:
    """Record why an arm has ended before its time."""
    run.child(FAILED).write_bytes(json.dumps({"reason": redact(reason)}, indent=1).encode())


def outcome_of(run: Storage, criterion: Criterion) -> Outcome:
    """What the folder of an arm says of it.

    A record of the best validation by another criterion is made again from the run's history.
    """
    if run.child(RESULT).exists():
        record = json.loads(run.child(RESULT).read_bytes())
        if (record.get("metric"), record.get("direction")) != (criterion.metric, criterion.direction):
            save_result(run, History(run).rows, criterion)
            record = json.loads(run.child(RESULT).read_bytes())
        metrics = {key: value for key, value in record.items() if isinstance(value, int | float)}
        return Outcome(metrics, record["seconds"])
    if run.child(FAILED).exists():
        return Outcome({}, reason=json.loads(run.child(FAILED).read_bytes())["reason"])
    return Outcome({}, reason=UNFINISHED)


def result_table(
    criterion: Criterion, headlines: Sequence[MetricColumn], arms: Sequence[Arm], outcomes: Mapping[str, Outcome]
) -> str:
    """Markdown: mean and standard deviation over the finished seeds of each arm, best arm first, and what has not finished."""
    shown = [f"val/{column.key}" for column in headlines if column.better][:2]
    columns = list(dict.fromkeys([criterion.metric, *shown]))
    rows = []
    for name in dict.fromkeys(arm.name for arm in arms):
        members = [outcomes[arm.key] for arm in arms if arm.name == name]
        finished = [member for member in members if not member.reason]
        cells = [_cell([member.metrics.get(column, math.nan) for member in finished]) for column in columns]
        minutes = f"{statistics.mean(member.seconds for member in finished) / 60:.1f}" if finished else "–"
        count = str(len(members)) if finished == members else f"{len(finished)} of {len(members)}"
        order = statistics.mean(criterion.rank(member.metrics) for member in finished) if finished else -math.inf
        rows.append((bool(finished), order, f"| {name} | {count} | {' | '.join(cells)} | {minutes} |"))
    rows.sort(key=lambda row: row[:2], reverse=True)
    head = f"| arm | seeds | {' | '.join(columns)} | minutes |\n|---|---|{'---|' * (len(columns) + 1)}"
    reasons = [f"- {arm.key}: {' '.join(outcomes[arm.key].reason.split())}" for arm in arms if outcomes[arm.key].reason]
    listed = ["", "Not finished:", "", *reasons] if reasons else []
    return "\n".join([head, *(row for *_, row in rows), *listed]) + "\n"


def _cell(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    if not finite or len(finite) < len(values):
        return "–"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"
