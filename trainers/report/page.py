"""The report as one HTML page beside its pictures. All text from the run is escaped; no script, no outside address."""

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from trainers.report.formatting import HEADLINES, LOWER_IS_BETTER, columns, flattened, label, last_part, written
from trainers.report.licence import licence_notice
from trainers.report.record import Example, RunReport
from trainers.report.token_diff import Token, mark_tokens

CSS = Path(__file__).with_name("page.css")


def page(report: RunReport, curves: str | None, sheet: str | None, attention: str | None, images: Sequence[str | None]) -> str:
    """The page's HTML. Pictures are given by their paths relative to the page; None leaves one out.

    `images` has a path for each of `report.examples`.
    """
    title = escape(report.title)
    sections = [
        _headline(report),
        _section("Results", _metrics_table(report.metrics)),
        _section("Course of the run", _figure(curves, "Learning curves", "") if report.history else ""),
        _section("What it reads", _gallery(report.examples, images, sheet)),
        _section(
            "Where it looks",
            _figure(attention, "Attention per token", "Attention over the image for each token, in reading order."),
        ),
        _section("Data", _notice(report.dataset) + _facts(report.dataset)),
        _section("Use", _use(report.checkpoint)),
        _section("Run", _facts(report.environment) + _configuration(report.config_yaml)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{CSS.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def _headline(report: RunReport) -> str:
    parts = [f"<h1>{escape(report.title)}</h1>"]
    facts = [str(report.dataset.get("name", "")), *(str(report.environment.get(key, "")) for key in ("device", "duration"))]
    subtitle = " · ".join(escape(fact) for fact in facts if fact)
    if subtitle:
        parts.append(f'<p class="subtitle">{subtitle}</p>')
    group = next(iter(report.metrics), None)
    if group is not None:
        tiles = "".join(
            f'<div class="tile"><b>{escape(written(key, value))}</b><span>{escape(label(key))}, {escape(group)}</span></div>'
            for key, value in report.metrics[group].items()
            if last_part(key) in HEADLINES
        )
        parts.append(f'<div class="tiles">{tiles}</div>')
    return f"<header>{''.join(parts)}</header>"


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>" if body else ""


def _metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    if not metrics:
        return ""
    keys = columns(metrics)
    head = "".join(f"<th>{escape(label(key))}{' ↓' if last_part(key) in LOWER_IS_BETTER else ''}</th>" for key in keys)
    rows = []
    for group, values in metrics.items():
        cells = "".join(f"<td>{escape(written(key, values.get(key)))}</td>" for key in keys)
        rows.append(f"<tr><th>{escape(group)}</th>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _figure(path: str | None, alt: str, caption: str) -> str:
    if path is None:
        return ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{escape(path)}" alt="{escape(alt)}">{below}</figure>'


def _gallery(examples: Sequence[Example], images: Sequence[str | None], sheet: str | None) -> str:
    if not examples:
        return ""
    wrong = sum(not example.correct for example in examples)
    counts = {"all": len(examples), "wrong": wrong, "right": len(examples) - wrong}
    radios = "".join(
        f'<input class="pick" type="radio" name="pick" id="pick-{name}"{" checked" if name == "all" else ""}>'
        for name in counts
    )
    labels = "".join(f'<label for="pick-{name}">{name.capitalize()} {count:,}</label>' for name, count in counts.items())
    cards = "\n".join(_card(example, image) for example, image in zip(examples, images, strict=True))
    link = f' The same as <a href="{escape(sheet)}">one picture</a>.' if sheet else ""
    return (
        f'<p class="note">Images of the test split. Marked: tokens that are wrong, or were missed.{link}</p>\n'
        f'{radios}<div class="filter">{labels}</div>\n<div class="gallery">\n{cards}\n</div>'
    )


def _card(example: Example, image: str | None) -> str:
    truth, prediction = mark_tokens(example.truth, example.prediction)
    kind, mark = ("right", "✓") if example.correct else ("wrong", "✗")
    picture = f'<img src="{escape(image)}" alt="" loading="lazy">' if image else ""
    return (
        f'<article class="card {kind}"><header><span><span class="mark">{mark}</span>{escape(example.id)}</span>'
        f"<span>{escape(example.source)}</span></header>{picture}"
        f'<dl><dt>truth</dt><dd class="mono">{_tokens(truth)}</dd>'
        f'<dt>read</dt><dd class="mono">{_tokens(prediction) or "<mark>(nothing)</mark>"}</dd></dl></article>'
    )


def _tokens(tokens: Sequence[Token]) -> str:
    return " ".join(f"<mark>{escape(token.text)}</mark>" if token.wrong else escape(token.text) for token in tokens)


def _notice(dataset: Mapping[str, Any]) -> str:
    notice = licence_notice(dataset)
    return f'<p class="notice">{escape(notice)}</p>' if notice else ""


def _facts(facts: Mapping[str, Any]) -> str:
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in flattened(facts))
    return f'<dl class="facts">{pairs}</dl>' if pairs else ""


def _use(checkpoint: str) -> str:
    return f"<pre>python -m trainers.predict {escape(shlex.quote(checkpoint))} IMAGES OUT</pre>" if checkpoint else ""


def _configuration(config_yaml: str) -> str:
    if not config_yaml.strip():
        return ""
    return f"<details><summary>Configuration</summary><pre>{escape(config_yaml)}</pre></details>"
