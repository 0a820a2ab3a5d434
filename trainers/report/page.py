"""The report as one HTML page beside its images. All text from the run is escaped; no script, no outside address."""

import shlex
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from cluster.redaction import redact
from trainers.report.formatting import flattened, heading, metric_columns, metric_text, metrics_rows, number, upright
from trainers.report.license import license_notice
from trainers.report.record import RunReport
from trainers.report.rendering import render_html
from trainers.report.token_diff import mark_tokens
from trainers.tasks.presentation import Section, Table


@dataclass(frozen=True)
class PageImages:
    """The images of a page by their paths relative to it: all of them, and those of examples and sections by index.

    Those that are `wide` have no room beside another.
    """

    paths: Set[str] = frozenset()
    examples: Mapping[int, str] = field(default_factory=dict)
    sections: Mapping[int, Sequence[str]] = field(default_factory=dict)
    wide: Set[str] = frozenset()


def page(report: RunReport, images: PageImages) -> str:
    """The HTML of the page; an image that `images` does not have is left out."""
    facts = [report.dataset.get("name"), report.environment.get("device"), report.environment.get("duration")]
    return render_html(
        "page.html",
        report=report,
        images=images.paths,
        subtitle=[str(fact) for fact in facts if fact],
        tiles=_tiles(report),
        metrics=upright(metrics_rows(report, arrows=True)),
        choices=_choices(report),
        cards=_cards(report, images.examples),
        sections=[
            _section(section, images.sections.get(index, ()), images.wide) for index, section in enumerate(report.sections)
        ],
        dataset=list(flattened(report.dataset)),
        notice=license_notice(report.dataset),
        command=f"python -m trainers.predict {shlex.quote(redact(report.checkpoint))} IMAGES OUT" if report.checkpoint else "",
        environment=list(flattened(report.environment)),
        config_yaml=report.config_yaml.strip(),
    )


def _tiles(report: RunReport) -> list[dict[str, str]]:
    """The headlines of the first row of metrics."""
    name, values = next(iter(report.metrics.items()), ("", {}))
    columns = [column for column in metric_columns(report) if column in report.headlines and column.key in values]
    return [{"value": metric_text(column, values[column.key]), "label": f"{heading(column)}, {name}"} for column in columns]


def _choices(report: RunReport) -> list[dict[str, str]]:
    wrong = sum(not example.correct for example in report.examples)
    counts = {"all": len(report.examples), "wrong": wrong, "right": len(report.examples) - wrong}
    return [{"name": name, "label": f"{name.capitalize()} {count:,}"} for name, count in counts.items()]


def _cards(report: RunReport, images: Mapping[int, str]) -> list[dict[str, Any]]:
    cards: list[dict[str, Any]] = []
    for index, example in enumerate(report.examples):
        truth, prediction = mark_tokens(example.truth, example.prediction)
        cards.append({"example": example, "image": images.get(index), "truth": truth, "prediction": prediction})
    return cards


def _section(section: Section, images: Sequence[str], wide: Set[str]) -> dict[str, Any]:
    """A section of the task as the template shows it: `content` by the macro that `kind` names."""
    content: Any = section.content
    if isinstance(content, Table):
        kind, content = "table", Table(content.columns, [[number(cell) for cell in row] for row in content.rows])
    elif isinstance(content, Mapping):
        kind, content = "facts", list(flattened(content))
    elif isinstance(content, str):
        kind = "text"
    elif isinstance(content, tuple):
        kind, content = (
            "drawings",
            [
                {"path": path, "title": drawing.title, "wide": path in wide}
                for path, drawing in zip(images, content, strict=True)
            ],
        )
    else:
        kind, content = ("image", images[0]) if images else ("nothing", None)
    return {"title": section.title, "note": section.note, "kind": kind, "content": content}
