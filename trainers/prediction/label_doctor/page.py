"""What the page of a review shows: its images with what is doubtful, tables and notes."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.redaction import redact
from data_pipeline.storage.base import Storage
from trainers.prediction.label_doctor.doubts import Doubt
from trainers.prediction.label_doctor.folder import CORRECTIONS
from trainers.prediction.label_doctor.label_columns import FEW_ROWS, LabelColumn
from trainers.prediction.label_doctor.review import MOST_CARDS, MOST_GROUPS, MOST_TWINS, Review
from trainers.report.label_review import Change, Label, LabelReview, ReviewedImage
from trainers.tasks.presentation import Table

_MOST_PAIRS = 40  # of classes in the table
_NAMED = 8  # classes or images that a note names
_GUESSES, _PROBABLE = 3, 0.01  # of one class: so many are shown, if they are so probable


def review_page(review: Review, paths: Mapping[str, str], folder: Storage) -> LabelReview:
    """The page, with the pictures at `paths` by id."""
    by_id = {row["id"]: row for row in review.predictions.rows}

    def shown(row: Mapping[str, Any], doubts: Sequence[Doubt] = ()) -> ReviewedImage:
        return _image(review.columns, row, by_id.get(row["id"]), doubts, paths.get(row["id"], ""))

    by_image = review.by_image()
    groups = [[shown(review.images.rows[row]) for row in group[:MOST_TWINS]] for group in review.duplicates[:MOST_GROUPS]]
    pairs, note = _pairs(review)
    return LabelReview(
        dataset=review.dataset.manifest.name,
        subtitle=[review.predictions.task.describe(), f"{review.dataset.manifest.folds} folds"],
        tiles=[
            (len(review.predictions.rows), "images"),
            (review.labels, "labels"),
            (review.flagged, f"likely wrong: {100 * review.flagged / max(review.labels, 1):.2f} %"),
            (len(by_image), "images to review"),
            (len(review.duplicates), "near-duplicates that disagree") if review.options.duplicates else ("–", "not compared"),
        ],
        notes=_notes(review),
        images=[shown(review.predictions.rows[doubts[0].row], doubts) for doubts in list(by_image.values())[:MOST_CARDS]],
        duplicates=groups,
        pairs=pairs,
        pairs_note=note,
        command=correct_command(review, folder) if by_image or review.duplicates else "",
        facts={
            "dataset": review.dataset.storage.uri,
            "digest": review.dataset.manifest.digest,
            "method": "cleanlab" if review.options.method == "cleanlab" else "confident learning (Northcutt et al. 2021)",
            **{f"fold {fold}": str(uri) for fold, uri in review.predictions.made_by["checkpoints"].items()},
        },
    )


def correct_command(review: Review, folder: Storage) -> str:
    """The command that applies the corrections."""
    source = review.dataset.storage.uri
    places = [source, folder.child(CORRECTIONS).uri, f"{source.rstrip('/')}-corrected"]
    return redact(f"python -m data_pipeline.correct {shlex.join(places)}")


def _image(
    columns: Sequence[LabelColumn],
    row: Mapping[str, Any],
    predicted: Mapping[str, Any] | None,
    doubts: Sequence[Doubt],
    picture: str,
) -> ReviewedImage:
    shown = {column.name: column.name if len(columns) > 1 else "" for column in columns}
    changes = [
        Change(doubt.given, doubt.suggested, doubt.given_prob, doubt.suggested_prob, shown[doubt.column]) for doubt in doubts
    ]
    given = {(doubt.column, doubt.given) for doubt in doubts}
    labels = [
        Label(name, None, shown[column.name], "given" if (column.name, name) in given else "")
        for column in columns
        for name in (row[column.name] if column.several else [row[column.name]])
    ]
    says_all = bool(doubts) and len(columns) == 1 and not columns[0].several
    suggested = {(doubt.column, doubt.suggested) for doubt in doubts}
    found = [
        Label(name, prob, shown[column.name], "suggested" if (column.name, name) in suggested else "")
        for column in columns
        for name, prob in (_predicted(column, predicted, len(columns)) if predicted else [])
    ]
    return ReviewedImage(row["id"], row["source"] or "", row["fold"], picture, None if says_all else labels, found, changes)


def _predicted(column: LabelColumn, row: Mapping[str, Any], columns: int) -> list[tuple[str, float | None]]:
    """The classes that were predicted for a row: all of those it may have, or the most probable with their probabilities."""
    own = f"{column.name}_probs"
    probs = row[own] if own in row else row["probs"]
    if column.several:
        return [(name, None) for name, prob in zip(column.classes, probs, strict=True) if prob > 0.5]
    best = sorted(range(len(probs)), key=lambda index: -probs[index])[: _GUESSES if columns == 1 else 1]
    return [(column.classes[index], probs[index]) for index in best if index == best[0] or probs[index] >= _PROBABLE]


def _pairs(review: Review) -> tuple[Table, str]:
    """How often each class was listed for each other one."""
    with_column = len(review.columns) > 1
    several = {column.name for column in review.columns if column.several}
    rows = {column.name: dict(zip(column.classes, column.given.sum(0).tolist(), strict=True)) for column in review.columns}
    counts = Counter((doubt.column, doubt.given, doubt.suggested) for doubt in review.listed)
    lines = []
    for (column, given, suggested), count in counts.most_common(_MOST_PAIRS):
        name = [column] if with_column else []
        if column not in several:
            lines.append([*name, given, suggested, count, rows[column][given]])
        elif given:
            lines.append([*name, given, "present", "absent", count, rows[column][given]])
        else:
            absent = len(review.predictions.rows) - rows[column][suggested]
            lines.append([*name, suggested, "absent", "present", count, absent])
    more = len(counts) - len(lines)
    note = f"{more:,} more pairs of classes are not shown, with {counts.total() - sum(line[-2] for line in lines):,} labels."
    names = [*(["column"] if with_column else []), *(["class"] if several else [])]
    heads = [*names, "label", "suggested", "likely wrong", "rows so labeled"]
    return Table(heads, lines), note if more else ""


def _notes(review: Review) -> list[str]:
    """What a reader has to know before trusting the page."""
    notes = []
    if len(review.listed) < review.flagged:
        notes.append(f"Only the {len(review.listed):,} surest of {review.flagged:,} labels are listed, as was asked for.")
    images = len(review.by_image())
    if images > MOST_CARDS:
        notes.append(f"The page shows the {MOST_CARDS:,} surest of {images:,} images. All are in {CORRECTIONS}.")
    if len(review.duplicates) > MOST_GROUPS or any(len(group) > MOST_TWINS for group in review.duplicates):
        notes.append(
            f"The page shows at most {MOST_GROUPS} groups of near-duplicates and {MOST_TWINS} images of each. "
            f"All are in {CORRECTIONS}."
        )
    if rejected := review.predictions.made_by["rejected"]:
        notes.append(f"{rejected:,} images could not be used by the predictions: their labels were not reviewed.")
    if review.images.bad:
        some = ", ".join(f"{name} ({reason})" for name, reason in list(review.images.bad.items())[:_NAMED])
        notes.append(f"{len(review.images.bad):,} images cannot be decoded and were not compared: {some}")
    folds = set(range(review.dataset.manifest.folds)) - set(review.predictions.by_fold())
    if folds:
        notes.append(f"Nothing was predicted for fold {', '.join(map(str, sorted(folds)))}: its labels were not reviewed.")
    for column in review.columns:
        if rare := column.rare_classes():
            more = f" and {len(rare) - _NAMED} more" if len(rare) > _NAMED else ""
            notes.append(
                f"{column.name}: fewer than {FEW_ROWS} rows have {', '.join(rare[:_NAMED])}{more}. What is said of them "
                "is little more than a guess."
            )
    return notes
