"""`python -m data_pipeline.explore DATASET`: what a dataset holds, and a grid of its images.

Prints rows, sizes, sources and targets of each split; `--grid FILE.png` draws images spread evenly over a split, or
those that `--where` names: the widest, the narrowest, the longest texts.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cluster.arguments import whole_number
from cluster.errors import UserError, run_command
from cluster.redaction import printable
from data_pipeline.dataset.manifest import REJECTED, Dataset, open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.dataset.token_targets import TEXT
from data_pipeline.exploration.grid import captioned_grid
from data_pipeline.preparation.images import BadImage, decode, encode_png
from data_pipeline.storage.base import storage_errors

_SORTED = {
    "widest": lambda row: -row["width"],
    "narrowest": lambda row: row["width"],
    "longest": lambda row: -len(row[TEXT].split()),
    "shortest": lambda row: len(row[TEXT].split()),
}
_NEED_TEXT = ("longest", "shortest")
SHOWN_VALUES = 8  # of a column: those that occur most


def describe(dataset: Dataset) -> str:
    """Describe rows, widths, sources and targets of each split as text."""
    manifest = dataset.manifest
    target = f"{len(manifest.charset)} tokens" if "charset" in manifest.target else f"columns {', '.join(manifest.columns)}"
    lines = [
        f"{manifest.name}: {manifest.task}, images {manifest.image.color} {manifest.image.height} high, up to "
        f"{manifest.image.width} wide, {target}, {manifest.digest[:19]}",
        f"license: {manifest.license or 'not stated'}",
    ]
    for name, split in manifest.splits.items():
        if not split.rows:
            lines.append(f"{name}: empty")
            continue
        table = read_split(dataset, name, [*manifest.columns, "width", "source"])
        low, middle, high = np.percentile(table.column("width").to_numpy(), [5, 50, 95])
        lines += [
            f"{name}: {split.rows:,} rows in {len(split.shards)} shards; sources: "
            f"{_counted([source or 'none' for source in table.column('source').to_pylist()])}",
            *(_column(column, table.column(column).to_pylist()) for column in manifest.columns),
            f"  width in pixels: 5 % {low:.0f}, median {middle:.0f}, 95 % {high:.0f}",
        ]
    file = dataset.storage.child(REJECTED)
    rejected: list[dict[str, Any]] = []
    if file.exists() or manifest.rejected:  # a dataset that was put together without `build_dataset` may have none
        with storage_errors(file), dataset.storage.filesystem.open_input_file(file.path) as source:
            rejected = pq.read_table(source).to_pylist()
    lines += [f"rejected: {len(rejected)}", *(f"  {row['path']}: {row['reason']}" for row in rejected[:20])]
    return "\n".join(map(printable, lines))  # all of it may be anybody's input


def _column(name: str, values: list[Any]) -> str:
    """The line about a column of the task."""
    if name != TEXT:
        return f"  {name}: {_counted(list(map(str, values)))}"
    lengths = [len(text.split()) for text in values]
    tokens = {token for text in values for token in text.split()}
    text, count = Counter(values).most_common(1)[0]
    return (
        f"  tokens a text: mean {np.mean(lengths):.1f}, 95 % {np.percentile(lengths, 95):.0f}, most {max(lengths)}; "
        f"{len(tokens)} different; commonest text '{text}' ({count})"
    )


def _counted(values: list[str]) -> str:
    """The most frequent values and how often they occur."""
    return ", ".join(f"{value} {count:,}" for value, count in Counter(values).most_common(SHOWN_VALUES))


def caption(row: dict[str, Any], columns: Sequence[str]) -> str:
    """The caption of an image in the grid: its text, or the values of its task's columns."""
    return str(row[TEXT]) if TEXT in columns else ", ".join(f"{name} {row[name]}" for name in columns)


def choose(rows: list[dict[str, Any]], where: str, count: int) -> list[dict[str, Any]]:
    """Choose `count` rows: spread evenly, or the extremes that `where` names."""
    if where == "spread":
        return rows[:: max(1, len(rows) // count)][:count]
    return sorted(rows, key=_SORTED[where])[:count]


def _require_file(file: Path) -> None:
    """Check, before anything is read for it, that `file` can be written; its folder is made."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab"):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--grid: cannot write '{file}' ({reason}). Name another file.") from None


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.explore", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="folder or URI")
    parser.add_argument("--grid", type=Path, help="draw images of a split into this PNG file")
    parser.add_argument("--sheet", help=argparse.SUPPRESS)
    parser.add_argument("--split", default="train")
    parser.add_argument("--where", choices=["spread", *_SORTED], default="spread")
    parser.add_argument("--count", type=whole_number(1), default=48, help="images in the grid (default %(default)s)")
    args = parser.parse_args()
    if args.sheet:
        raise UserError("--sheet was renamed to --grid.")
    dataset = open_dataset(args.dataset)
    if args.grid:
        dataset.manifest.filled_split(args.split)
        if args.where in _NEED_TEXT and TEXT not in dataset.manifest.columns:
            raise UserError(
                f"--where {args.where} sorts by the length of texts, which '{dataset.manifest.name}' does not have."
            )
        _require_file(args.grid)
    print(describe(dataset))
    if args.grid:
        policy, columns = dataset.manifest.image, list(dataset.manifest.columns)
        rows = read_split(dataset, args.split, ["id", "image", *columns, "width"]).to_pylist()
        images, captions = [], []
        for row in choose(rows, args.where, args.count):
            try:
                images.append(decode(row["image"], policy.color, policy.background))
                captions.append(caption(row, columns))
            except BadImage as reason:
                print(f"warning: image '{printable(row['id'])}' is left out: {reason}")
        args.grid.write_bytes(encode_png(captioned_grid(images, captions)))
        print(f"Grid {args.grid}")
    return 0


if __name__ == "__main__":
    run_command(main)
