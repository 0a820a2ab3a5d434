"""A review of labels: doubtful ones, near-duplicates that disagree, and the corrections that they suggest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_pipeline.dataset.manifest import Dataset
from trainers.prediction.label_doctor.corrections import Correction
from trainers.prediction.label_doctor.doubts import METHODS, Doubt, find_doubts, most_listed
from trainers.prediction.label_doctor.duplicates import disagreeing_duplicates
from trainers.prediction.label_doctor.images import FoldImages, scan_folds
from trainers.prediction.label_doctor.label_columns import LabelColumn, label_columns
from trainers.prediction.out_of_fold import OutOfFold

MOST_CARDS = 1_000  # on the page: a browser shows no more at ease
MOST_GROUPS = 200  # of near-duplicates on the page
MOST_TWINS = 12  # of one group on the page


@dataclass(frozen=True)
class Options:
    """How labels are doubted: a key of `METHODS`; the most that are listed; whether images are compared."""

    method: str = "confident"
    share: float | None = None
    count: int | None = None
    duplicates: bool = True


@dataclass(frozen=True)
class Review:
    """What was found: `listed` are the surest of `flagged` doubts; `duplicates` are groups of rows of `images`."""

    predictions: OutOfFold
    dataset: Dataset
    options: Options
    columns: Sequence[LabelColumn]
    flagged: int
    listed: Sequence[Doubt]
    images: FoldImages
    duplicates: Sequence[Sequence[int]]

    @property
    def labels(self) -> int:
        """How many labels were doubted."""
        return sum(column.labels for column in self.columns)

    def by_image(self) -> dict[str, list[Doubt]]:
        """The listed doubts of each image, the surest first."""
        images: dict[str, list[Doubt]] = {}
        for doubt in self.listed:
            images.setdefault(self.predictions.rows[doubt.row]["id"], []).append(doubt)
        return images

    def shown_ids(self) -> list[str]:
        """The images that the page shows."""
        groups = [group[:MOST_TWINS] for group in self.duplicates[:MOST_GROUPS]]
        twins = [self.images.rows[row]["id"] for group in groups for row in group]
        return list(dict.fromkeys([*list(self.by_image())[:MOST_CARDS], *twins]))


def review_labels(found: OutOfFold, dataset: Dataset, options: Options) -> Review:
    """Doubt all labels of out-of-fold predictions of `dataset`.

    Raises:
        UserError: the task has no labels, or the predictions cannot be used.
        StorageError: the dataset cannot be read.
    """
    columns = label_columns(found)
    doubts = find_doubts(columns, METHODS[options.method])
    most = most_listed(sum(column.labels for column in columns), options.share, options.count)
    images = scan_folds(dataset, options.duplicates)
    names = [column.name for column in columns]
    twins = disagreeing_duplicates(images, names) if options.duplicates else []
    return Review(found, dataset, options, columns, len(doubts), doubts[:most], images, twins)


def corrections(review: Review) -> list[Correction]:
    """A correction for each doubtful row and column, the surest first; then other near-duplicates, without suggestion."""
    lines: dict[tuple[str, str], Correction] = {}
    several = {column.name: column.several for column in review.columns}
    order = {column.name: {name: index for index, name in enumerate(column.classes)} for column in review.columns}
    for name, doubts in review.by_image().items():
        row = review.predictions.rows[doubts[0].row]
        for column in dict.fromkeys(doubt.column for doubt in doubts):
            changes = [doubt for doubt in doubts if doubt.column == column]
            suggested: str | list[str] = changes[0].suggested
            if several[column]:
                kept = set(row[column]) - {doubt.given for doubt in changes} | {doubt.suggested for doubt in changes}
                suggested = sorted(kept - {""}, key=order[column].__getitem__)
            lines[name, column] = Correction(name, column, row[column], suggested)
    for group in review.duplicates:
        rows = [review.images.rows[number] for number in group]
        for column in several:
            if len({str(row[column]) for row in rows}) > 1:
                for row in rows:
                    lines.setdefault((row["id"], column), Correction(row["id"], column, row[column], None))
    return list(lines.values())
