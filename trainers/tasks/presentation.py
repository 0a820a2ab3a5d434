"""Plain data in which a task describes its results to people: metrics with names and formats, examples, sections of the report.

Consoles, tables, pages and model cards are made from these, so that none of them knows which task it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.config.criterion import Direction

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class MetricColumn:
    """A metric as people read it: a column of a table, a tile or a curve of the report.

    `key` is its name in the metrics (`exact_match` of `val/exact_match`), `label` the head of a column of text, `title` its
    longer name on a page (without one, the label). `format` is a Python format specification, such as `.4f`; its width is
    that of the text column, and shares of one that end in `%` are written with a blank (`50.0 %`). A metric without
    `better` is a count: neither more nor less of it is good.
    """

    key: str
    label: str
    format: str
    better: Direction | None = None
    title: str = ""

    @property
    def is_share(self) -> bool:
        """Whether the metric is a share of one, which is written in percent."""
        return self.format.endswith("%")

    def text(self, value: float) -> str:
        """The value as a table of text shows it."""
        return format(value, self.format).replace("%", " %")


@dataclass(frozen=True)
class Example:
    """One image of a split, its truth and the prediction of the model.

    `image` is (H, W) or (H, W, 3); `truth` and `prediction` are words joined by blanks, which are compared word by word;
    `source` names the part of the data that it comes from. `verdict` says whether the prediction is correct where that is
    not whether all words agree.
    """

    id: str
    image: Image
    truth: str
    prediction: str
    source: str = ""
    verdict: bool | None = None

    @property
    def correct(self) -> bool:
        """Whether the prediction is correct; blanks between words do not count."""
        return self.truth.split() == self.prediction.split() if self.verdict is None else self.verdict


def longest_correct(examples: Sequence[Example]) -> int:
    """The index of the example whose prediction is the longest that is right; of the first where none is."""
    right = [index for index, example in enumerate(examples) if example.correct and example.prediction]
    return max(right, key=lambda index: len(examples[index].prediction.split()), default=0)


@dataclass(frozen=True)
class AttentionExample:
    """One image, the T tokens read in it, and where the decoder looked for each: `maps` (T, h, w), not negative."""

    image: Image
    tokens: Sequence[str]
    maps: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Table:
    """Named columns and rows of cells, each a text or a number."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Section:
    """A part of the report that a task adds.

    The content decides how it is shown: a table, a mapping of facts, a preformatted text, an image uint8 (H, W) or
    (H, W, 3), or attention over an image.
    """

    title: str
    content: Table | Mapping[str, Any] | str | Image | AttentionExample
    note: str = ""
