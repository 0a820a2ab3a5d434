"""Images that are the same to the eye but have different labels: at most one of the labels is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline.dataset.perceptual_hash import duplicate_groups
from trainers.prediction.label_doctor.images import FoldImages


def disagreeing_duplicates(found: FoldImages, columns: Sequence[str]) -> list[list[int]]:
    """Groups of rows whose images are near-duplicates and whose labels in `columns` are not all the same.

    Rows are numbers into `found.rows`, in order.
    """
    groups = [group.tolist() for group in duplicate_groups(found.hashes, found.thumbnails)]
    return [group for group in groups if len({_labels(found.rows[row], columns) for row in group}) > 1]


def _labels(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in columns)
