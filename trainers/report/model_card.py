"""A model card in Markdown: what a checkpoint is, what it was trained on, its metrics, and where they end."""

import math
import shlex

from cluster.redaction import redact
from trainers.report.formatting import flattened, heading, main_metric, metric_text, metrics_rows, number
from trainers.report.license import license_notice
from trainers.report.record import RunReport
from trainers.report.rendering import fenced, one_line, render_markdown

MAX_ERRORS = 5


def model_card(report: RunReport) -> str:
    """The Markdown of the card; text from the run cannot break out of it."""
    path = shlex.quote(redact(report.checkpoint)) if report.checkpoint else "CHECKPOINT"
    return render_markdown(
        "model_card.md",
        report=report,
        command=fenced(f"python -m trainers.predict {path} IMAGES OUT", "sh"),
        metrics=metrics_rows(report),
        dataset=list(flattened(report.dataset)),
        notice=license_notice(report.dataset),
        weakest=_weakest(report),
        errors=_errors(report),
        environment=list(flattened(report.environment)),
        config_yaml=fenced(report.config_yaml.rstrip(), "yaml") if report.config_yaml.strip() else "",
    )


def _weakest(report: RunReport) -> dict[str, str] | None:
    """The source on which the main metric is worst, where they differ."""
    column = main_metric(report)
    if column is None:
        return None
    values = {name: row[column.key] for name, row in report.sources.items() if math.isfinite(row.get(column.key, math.nan))}
    if len(set(values.values())) < 2:
        return None
    choose = min if column.better == "max" else max
    source = choose(values, key=lambda name: values[name])
    name = heading(column)
    return {
        "source": source,
        "value": metric_text(column, values[source]),
        "metric": name if name.isupper() else name[:1].lower() + name[1:],
        "images": number(report.sources[source].get("count")),
    }


def _errors(report: RunReport) -> str:
    wrong = [example for example in report.examples if not example.correct][:MAX_ERRORS]
    pairs = [f"truth       {one_line(example.truth)}\nprediction  {one_line(example.prediction)}" for example in wrong]
    return fenced("\n\n".join(pairs)) if pairs else ""
