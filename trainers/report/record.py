"""The data that a report is made of: plain values and arrays, no tensors, no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainers.tasks.presentation import AttentionExample, Example, MetricColumn, Section


@dataclass(frozen=True)
class RunReport:
    """All that a report shows. Whatever is empty is left out of the page.

    `headlines` are the metrics that the task puts first: tiles, curves, the first columns; `details` further columns of the
    tables. The first headline that has a better direction is the one by which the weakest source is named.

    `history` has a row per logged interval or evaluation, with keys such as `step`, `train/loss`, `val/exact_match`, any of
    them missing in any row. `metrics` holds the final metrics by name of a row ("test", "test, handwritten"), `sources`
    those of each source of `split` by the source's name alone. `dataset["license"]` decides on a notice. `environment` says
    what the run was computed with; its `device` and `duration` stand below the title of the page. `sections` are the task's.
    """

    title: str
    config_yaml: str = ""
    history: Sequence[Mapping[str, float]] = ()
    headlines: Sequence[MetricColumn] = ()
    details: Sequence[MetricColumn] = ()
    split: str = "test"
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    attention: AttentionExample | None = None
    attention_note: str = ""
    sections: Sequence[Section] = ()
    dataset: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
