"""What is printed of a dataset with labels: its splits, its classes with their indices, what was rejected, what to look at."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import pyarrow.parquet as pq

from cluster.redaction import printable
from data_pipeline.dataset.manifest import REJECTED, Manifest
from data_pipeline.importers.labels.classes import listed
from data_pipeline.storage.base import open_storage

_WIDTH = 120
_REJECTED_SHOWN = 5
_TRAIN = "train"

# Rows of each class, by split.
ClassRows = Mapping[str, Mapping[str, int]]


def summary(manifest: Manifest, out: str) -> list[str]:
    """The lines about a dataset that has just been made at `out`."""
    splits = {name: split for name, split in manifest.splits.items() if split.rows}
    rows = ", ".join(f"{name} {split.rows:,}" for name, split in splits.items())
    image = f"{manifest.image.width}x{manifest.image.height} {manifest.image.color}"
    lines = [f"{out}: {manifest.task}, images {image}; rows: {rows}; {manifest.rejected:,} rejected; {manifest.digest[:19]}"]
    for head, classes, class_rows in _heads(manifest):
        lines += class_lines(head, classes, class_rows)
        lines += [f"warning: {note}" for note in class_notes(head, classes, class_rows)]
    if manifest.rejected:
        lines += [f"Rejected, see {open_storage(out).child(REJECTED).shown}:", *_rejections(out, manifest.rejected)]
    return lines


def _heads(manifest: Manifest) -> Iterable[tuple[str, Sequence[str], ClassRows]]:
    stats = {name: split.target_stats["class_rows"] for name, split in manifest.splits.items() if split.rows}
    if manifest.task != "multitask":
        yield "", manifest.target["classes"], stats
        return
    for head, classes in manifest.target["heads"].items():
        yield head, classes, {name: rows[head] for name, rows in stats.items()}


def class_lines(head: str, classes: Sequence[str], rows: ClassRows) -> list[str]:
    """The mapping from index to class, with the rows of each class in each split."""
    of = f" of {head}" if head else ""
    entries = [
        f"{index} {printable(name)} ({'/'.join(str(counts[name]) for counts in rows.values())})".replace(" ", "\u00a0")
        for index, name in enumerate(classes)
    ]
    text = textwrap.wrap("  ".join(entries), _WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"Classes{of}: index, name (rows of {'/'.join(rows)})", *("  " + line.replace("\u00a0", " ") for line in text)]


def class_notes(head: str, classes: Sequence[str], rows: ClassRows) -> list[str]:
    """What is strange about the classes: some without rows, with nearly the same name, or with rows in some splits only."""
    of = f" of {head}" if head else ""
    where = {name: [split for split, counts in rows.items() if counts[name]] for name in classes}
    empty = [name for name in classes if not where[name]]
    untaught = [name for name in classes if where[name] and _TRAIN in rows and _TRAIN not in where[name]]
    alone = [f"{name} ({where[name][0]})" for name in classes if len(where[name]) == 1 and name not in untaught]
    return [
        *([f"classes{of} without rows: {listed(empty)}"] if empty else []),
        *([f"classes{of} that differ little: {listed(alike)}"] if (alike := _alike(classes)) else []),
        *([f"classes{of} that cannot be learned, {_TRAIN} has none: {listed(untaught)}"] if untaught else []),
        *([f"classes{of} in one split only: {listed(alone)}"] if alone and len(rows) > 1 else []),
    ]


def _alike(classes: Sequence[str]) -> list[str]:
    """The names that differ only by case, by blanks at their ends, or by how Unicode composes a letter."""
    same: dict[str, list[str]] = {}
    for name in classes:
        same.setdefault(unicodedata.normalize("NFKC", name).strip().casefold(), []).append(f"'{name}'")
    return [" and ".join(names) for names in same.values() if len(names) > 1]


def _rejections(out: str, count: int) -> list[str]:
    file = open_storage(out).child(REJECTED)
    with file.filesystem.open_input_file(file.path) as opened:
        table = pq.read_table(opened, columns=["path", "reason"]).slice(0, _REJECTED_SHOWN)
    shown = [f"  {printable(row['path'])}: {printable(row['reason'])}" for row in islice(table.to_pylist(), _REJECTED_SHOWN)]
    return [*shown, *([f"  and {count - len(shown):,} more"] if count > len(shown) else [])]
