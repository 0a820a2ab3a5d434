"""Preparation of labeled images: items of a source become a dataset, and what it holds is printed."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.label_columns import label_columns
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.importers.labels.rows import Format, Work, build_rows, mixing_key
from data_pipeline.importers.labels.source import Cell, Item, LabelSource
from data_pipeline.preparation.build import Chunk, build_dataset
from data_pipeline.preparation.label_survey import LabelSurvey
from data_pipeline.storage.base import open_storage

ITEMS_PER_SHARD = 1024


def prepare_labels(
    source: LabelSource,
    out: str,
    name: str,
    policy: ImagePolicy,
    stored: Format = "auto",
    license: str = "",
    preparation: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Make the dataset of a source whose items have splits; `preparation` is what `dataset.json` says of how it was made.

    Raises:
        UserError: nothing usable came out, or there is a dataset already and `overwrite` is off.
        StorageError: `out` cannot be written.
    """
    manifest = Manifest(
        name=name,
        task=source.task,
        target=source.target,
        columns=label_columns(source.task, source.target),
        image=policy,
        splits={},
        rejected=0,
        preparation=dict(preparation or {}),
        license=license,
    )
    builder = functools.partial(build_rows, policy, stored)
    survey = LabelSurvey(source.task, source.target)
    return build_dataset(open_storage(out), manifest, chunks_of(source), builder, overwrite, survey=survey)


def chunks_of(source: LabelSource) -> list[Chunk]:
    """The chunks of a source, splits in their usual order; the first reports what the reader has rejected.

    Files are mixed, so that a shard has all classes; cells of Parquet files keep their order, which makes reading them fast.
    """
    by_split: dict[str, list[Item]] = {}
    for item in source.items:
        by_split.setdefault(item.split, []).append(item)
    chunks: list[Chunk] = []
    for split in sorted(by_split, key=_split_order):
        items = by_split[split]
        if not any(isinstance(item.image, Cell) for item in items):
            items = sorted(items, key=lambda item: mixing_key(item.id))
        for number, first in enumerate(range(0, len(items), ITEMS_PER_SHARD)):
            part = items[first : first + ITEMS_PER_SHARD]
            rejected = [] if chunks else source.rejected
            chunks.append(Chunk(split, number, len(part) + len(rejected), Work(part, rejected)))
    return chunks


def _split_order(name: str) -> tuple[int, int, str]:
    """train, val and test first, folds by number, then others by name."""
    usual: Sequence[str] = ("train", "val", "test")
    number = int(name[5:]) if name.startswith("fold-") and name[5:].isdecimal() else -1
    return (usual.index(name) if name in usual else 3), number, name
