"""The page on which people review labels that are likely wrong: plain data, and the HTML that is made of it.

All text of the dataset is escaped; there is no script and no outside address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trainers.report.formatting import number
from trainers.report.rendering import render_html
from trainers.tasks.presentation import Table

_MOST_CHANGES, _MOST_LABELS = 12, 40  # of one image, that a card has room for


@dataclass(frozen=True)
class Change:
    """A label that is likely wrong. One of `given` and `suggested` is empty where a class is missing, or too much.

    `column` is shown where there are several. The probabilities are those of the label as it is and as it should be.
    """

    given: str
    suggested: str
    given_prob: float
    suggested_prob: float
    column: str = ""


@dataclass(frozen=True)
class Label:
    """A label, or a predicted one with its probability, if that is shown; `doubt` says whether it is part of a change."""

    name: str
    prob: float | None = None
    column: str = ""
    doubt: Literal["", "given", "suggested"] = ""


@dataclass(frozen=True)
class ReviewedImage:
    """An image with its labels, what was predicted for it, and what is doubtful. `picture` is a path beside the page.

    `labels` is None where the changes say it all.
    """

    id: str
    source: str
    fold: int
    picture: str
    labels: Sequence[Label] | None
    predicted: Sequence[Label]
    changes: Sequence[Change] = ()


@dataclass(frozen=True)
class LabelReview:
    """What the page shows. `tiles` are numbers with their meaning; the last two columns of
    `pairs` are numbers."""

    dataset: str
    subtitle: Sequence[str]
    tiles: Sequence[tuple[float | str, str]]
    notes: Sequence[str]
    images: Sequence[ReviewedImage]
    duplicates: Sequence[Sequence[ReviewedImage]]
    pairs: Table
    pairs_note: str
    command: str
    facts: Mapping[str, str] = field(default_factory=dict)


def label_review_page(review: LabelReview) -> str:
    """The HTML of the page."""
    return render_html(
        "label_review.html",
        review=review,
        tiles=[{"value": number(value), "label": label} for value, label in review.tiles],
        images=[_card(image) for image in review.images],
        duplicates=[[_card(image) for image in group] for group in review.duplicates],
        pairs=Table(review.pairs.columns, [[number(cell) for cell in row] for row in review.pairs.rows]),
    )


def _card(image: ReviewedImage) -> dict[str, Any]:
    """An image as the template shows it: no list is longer than a card."""
    return {
        "image": image,
        "changes": [
            {"change": change, "given": percent(change.given_prob), "suggested": percent(change.suggested_prob)}
            for change in image.changes[:_MOST_CHANGES]
        ],
        "more_changes": max(0, len(image.changes) - _MOST_CHANGES),
        "lists": [
            _chips(title, labels)
            for title, labels in (("label", image.labels), ("predicted", image.predicted))
            if labels is not None
        ],
    }


def _chips(title: str, labels: Sequence[Label]) -> dict[str, Any]:
    more = max(0, len(labels) - _MOST_LABELS)
    return {"title": title, "chips": [_chip(label) for label in labels[:_MOST_LABELS]], "more": more}


def _chip(label: Label) -> dict[str, str]:
    share = "" if label.prob is None else percent(label.prob)
    return {"name": label.name, "column": label.column, "share": share, "doubt": label.doubt}


def percent(prob: float) -> str:
    """`97 %`; what is nearly nothing or nearly all is not rounded to it."""
    if 0 < prob < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < prob < 1 else f"{100 * prob:.0f} %"
