"""Search for leaks: the same image, or rows of one writer, in two splits of a dataset or in two datasets."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from cluster.cores import cores_each
from cluster.errors import UserError
from cluster.progress import progress
from data_pipeline.dataset.manifest import Dataset
from data_pipeline.dataset.perceptual_hash import BLANK, SIDE, duplicate_groups, hash_of, thumbnail
from data_pipeline.dataset.row_groups import iter_row_groups
from data_pipeline.preparation.images import BadImage, decode

OTHER = "other:"  # before the names of the second dataset's splits


@dataclass(frozen=True)
class SharedImage:
    """An image that several splits have; its rows are (split, id, labels), the labels as a text."""

    rows: list[tuple[str, str, str]]
    labels_differ: bool  # whether some of its rows have other labels than others


@dataclass(frozen=True)
class SharedGroup:
    """A writer whose rows are in several splits: the number of them in each."""

    name: str
    rows: dict[str, int]


@dataclass
class Leaks:
    """What several splits share. `compared` are the pairs of splits; `blank` images are compared with none."""

    compared: list[tuple[str, str]]
    images: list[SharedImage] = field(default_factory=list)
    groups: list[SharedGroup] = field(default_factory=list)
    rows: int = 0
    blank: int = 0
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)  # split, id, reason


@dataclass
class _Rows:
    """All rows that are compared, column by column."""

    splits: list[str]
    ids: list[str]
    labels: list[dict[str, object]]
    writers: list[str]
    hashes: np.ndarray
    thumbnails: np.ndarray


def find_leaks(dataset: Dataset, other: Dataset | None = None) -> Leaks:
    """What the splits of `dataset` share with each other, or with those of another dataset.

    Memory holds a row group, and a thumbnail of 1 KiB for each image.

    Raises:
        UserError: there are no rows, or there is one split alone.
        StorageError: a shard cannot be read.
    """
    own = [name for name, split in dataset.manifest.splits.items() if split.rows]
    parts = [(name, dataset, name) for name in own]
    pairs = list(itertools.combinations(own, 2))
    if other is not None:
        foreign = [(OTHER + name, other, name) for name, split in other.manifest.splits.items() if split.rows]
        pairs = [(name, shown) for name in own for shown, _, _ in foreign]
        parts += foreign
    for place in filter(None, (dataset, other)):
        if not any(split.rows for split in place.manifest.splits.values()):
            raise UserError(f"Dataset '{place.storage.shown}' has no rows, so there is nothing to compare.")
    if not pairs:
        raise UserError(
            f"Dataset '{dataset.storage.shown}' has one split with rows, '{own[0]}': a leak is between two. "
            "Pass another dataset to compare it with."
        )
    found = Leaks(pairs)
    rows = _read(parts, found)
    found.images = list(_shared_images(rows, pairs))
    found.groups = _shared_groups(rows, pairs)
    return found


def _read(parts: Sequence[tuple[str, Dataset, str]], found: Leaks) -> _Rows:
    total = sum(dataset.manifest.split(name).rows for _, dataset, name in parts)
    rows = _Rows([], [], [], [], np.zeros(total, np.uint64), np.zeros((total, SIDE, SIDE), np.uint8))
    with ThreadPoolExecutor(cores_each(1)) as pool, progress(total, "images", "hashes") as bar:
        for shown, dataset, name in parts:
            columns = list(dataset.manifest.columns)
            for table in iter_row_groups(dataset.storage, dataset.manifest.split(name), ["id", "image", "writer", *columns]):
                first = len(rows.ids)
                ids = table.column("id").to_pylist()
                for offset, small in enumerate(pool.map(_thumbnail, table.column("image").to_pylist())):
                    if isinstance(small, str):
                        found.unreadable.append((shown, ids[offset], small))
                    else:
                        rows.thumbnails[first + offset] = small
                        rows.hashes[first + offset] = hash_of(small)
                        found.blank += int(rows.hashes[first + offset] == BLANK)
                rows.ids += ids
                rows.splits += [shown] * len(ids)
                rows.writers += [writer or "" for writer in table.column("writer").to_pylist()]
                rows.labels += table.select(columns).to_pylist()
                bar.update(len(ids))
    found.rows = total
    return rows


def _thumbnail(image: bytes) -> np.ndarray | str:
    """The thumbnail of an encoded image, or why there is none."""
    try:
        return thumbnail(decode(image, "gray"))
    except BadImage as error:
        return str(error)


def _labels(row: dict[str, object]) -> str:
    """The targets of a row as one text."""
    texts = {name: " ".join(map(str, value)) if isinstance(value, list) else str(value) for name, value in row.items()}
    return next(iter(texts.values())) if len(texts) == 1 else ", ".join(f"{name}={text}" for name, text in texts.items())


def _shared_images(rows: _Rows, pairs: Sequence[tuple[str, str]]) -> Iterator[SharedImage]:
    for group in duplicate_groups(rows.hashes, rows.thumbnails):
        indices = group.tolist()
        if _shared({rows.splits[index] for index in indices}, pairs):
            shared = [(rows.splits[index], rows.ids[index], _labels(rows.labels[index])) for index in indices]
            yield SharedImage(shared, any(rows.labels[index] != rows.labels[indices[0]] for index in indices))


def _shared_groups(rows: _Rows, pairs: Sequence[tuple[str, str]]) -> list[SharedGroup]:
    counts: dict[str, Counter[str]] = {}
    for writer, split in zip(rows.writers, rows.splits, strict=True):
        if writer:
            counts.setdefault(writer, Counter())[split] += 1
    return [SharedGroup(name, dict(found)) for name, found in sorted(counts.items()) if _shared(set(found), pairs)]


def _shared(splits: set[str], pairs: Sequence[tuple[str, str]]) -> bool:
    return any(first in splits and second in splits for first, second in pairs)
