"""Plain data in which a task describes its results to people: metrics with names and formats, examples, sections of the report.

Consoles, tables, pages and model cards are made from these, so that none of them knows which task it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
class Matrix:
    """A number for each pair of a row and a column, as cells with a color.

    `values` (R, C) are written in `format` where there is room for them, NaN not at all. `shades` (R, C) are the colors: one
    for numbers up to `limit`, another for those down to `-limit`, none for 0. With `shade_format` their absolute values are
    written, too. `legend` says what the colors mean.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: NDArray[Any]
    shades: NDArray[np.floating[Any]]
    legend: str = ""
    row_title: str = ""
    column_title: str = ""
    format: str = ",.0f"
    shade_format: str = ""
    limit: float = 1.0


@dataclass(frozen=True)
class Bars:
    """Shares of one for each name, by the name of a series: the first as bars, the others as marks; NaN is left out.

    `counts` are the rows that they are measured on, by name. Of many names those with the lowest values of the first series
    are shown.
    """

    title: str
    names: Sequence[str]
    series: Mapping[str, Sequence[float]]
    counts: Sequence[int] = ()


@dataclass(frozen=True)
class Curves:
    """Shares of one over another share, `x`, by the name of a curve; NaN is a gap. `marks` are values of x by their label."""

    title: str
    x: Sequence[float]
    curves: Mapping[str, Sequence[float]]
    x_title: str = ""
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reliability:
    """How often predictions of some confidence are right (Guo et al. 2017), in bins of equal width from 0 to 1.

    `confidence` and `accuracy` (bins,) are means over the `counts` predictions of a bin, NaN of none; `error` is the
    calibration error. `x_title` and `y_title` say what it is confidence in.
    """

    title: str
    confidence: NDArray[np.floating[Any]]
    accuracy: NDArray[np.floating[Any]]
    counts: NDArray[np.integer[Any]]
    error: float
    x_title: str = "confidence"
    y_title: str = "right"


@dataclass(frozen=True)
class NotedImage:
    """An image (H, W) or (H, W, 3) with what there is to say of it, by label, and where the network looked (h, w)."""

    id: str
    image: Image
    notes: Mapping[str, str]
    source: str = ""
    attention: NDArray[Any] | None = None


@dataclass(frozen=True)
class Gallery:
    """Images to look at, in order."""

    title: str
    images: Sequence[NotedImage]


Drawing = Matrix | Bars | Curves | Reliability | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the report that a task adds.

    The content decides how it is shown: a table, a mapping of facts, a preformatted text, an image uint8 (H, W) or
    (H, W, 3), attention over an image, or drawings, side by side where there is room.
    """

    title: str
    content: Table | Mapping[str, Any] | str | Image | AttentionExample | tuple[Drawing, ...]
    note: str = ""
