"""A model card in Markdown: what a checkpoint is, what it was trained on, how well it does, and where that ends."""

import math
import re
import shlex
from collections.abc import Mapping
from typing import Any

from trainers.report.formatting import columns, flattened, label, written
from trainers.report.licence import licence_notice
from trainers.report.record import RunReport

MAX_ERRORS = 5


def model_card(report: RunReport) -> str:
    """The card's Markdown; text from the run cannot break out of it."""
    sections = [
        f"# {_plain(report.title)}",
        "A model that reads images, trained with Inkray. This folder holds all that it needs to predict: weights,"
        " configuration, vocabulary or class names.",
        _use(report.checkpoint),
        _results(report.metrics),
        _data(report.dataset),
        _limits(report),
        _errors(report),
        _training(report),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _use(checkpoint: str) -> str:
    path = shlex.quote(checkpoint) if checkpoint else "CHECKPOINT"
    command = _fenced(f"python -m trainers.predict {path} IMAGES OUT", "sh")
    return (
        f"## Use\n\n{command}\n\n`IMAGES` is a folder, a manifest or a dataset; `OUT` gets one row per image. Any image is"
        " brought to the size and colour that the configuration names."
    )


def _results(metrics: Mapping[str, Mapping[str, float]]) -> str:
    if not metrics:
        return ""
    keys = columns(metrics)
    lines = [f"| | {' | '.join(_plain(label(key)) for key in keys)} |", f"|---|{'---:|' * len(keys)}"]
    for group, values in metrics.items():
        lines.append(f"| {_plain(group)} | {' | '.join(_plain(written(key, values.get(key))) for key in keys)} |")
    return "## Results\n\n" + "\n".join(lines)


def _data(dataset: Mapping[str, Any]) -> str:
    if not dataset:
        return ""
    notice = licence_notice(dataset)
    parts = ["## Data", *([f"**{_plain(notice)}**"] if notice else []), _list(dataset)]
    return "\n\n".join(parts)


def _limits(report: RunReport) -> str:
    lines = [
        "- The figures hold for images like those of the test split. On other writers, cameras, fonts or notations they"
        " have to be measured again (`python -m trainers.evaluate`).",
        "- It answers with something for every image, also for one that shows nothing it knows. It has no notion of"
        " symbols or classes outside its vocabulary.",
    ]
    parts = {
        name: values["exact_match"]
        for name, values in report.sources.items()
        if math.isfinite(values.get("exact_match", math.nan))
    }
    if len(parts) > 1:
        worst = min(parts, key=lambda name: parts[name])
        share = written("exact_match", parts[worst])
        images = written("count", report.sources[worst].get("count"))
        lines.append(f"- It is weakest on {_plain(worst)}: {share} exact match ({images} images of the test split).")
    return "## Limits\n\n" + "\n".join(lines)


def _errors(report: RunReport) -> str:
    wrong = [example for example in report.examples if not example.correct][:MAX_ERRORS]
    if not wrong:
        return ""
    pairs = "\n".join(f"truth  {_one_line(example.truth)}\nread   {_one_line(example.prediction)}\n" for example in wrong)
    return f"## Some of its errors\n\n{_fenced(pairs.rstrip())}"


def _training(report: RunReport) -> str:
    parts = []
    if report.environment:
        parts.append(_list(report.environment))
    if report.config_yaml.strip():
        parts.append(_fenced(report.config_yaml.rstrip(), "yaml"))
    return "\n\n".join(["## Training", *parts]) if parts else ""


def _list(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in flattened(facts))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: object) -> str:
    """The text on one line with Markdown's and HTML's signs taken literally."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~&])", r"\\\1", _one_line(str(text)))


def _fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
