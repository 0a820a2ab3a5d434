"""`python -m data_pipeline.explore DATASET`: what a dataset holds, and a grid of its images.

Prints rows, sizes, sources and targets of each split; `--grid FILE.png` draws images spread evenly over a split, or
those that `--where` names: the widest, the narrowest, the longest texts. `--augmented FILE.png` draws each of them as
training sees it in its first epochs, with any `--augmentation`: a preset or a list of steps.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from cluster.arguments import whole_number
from cluster.errors import UserError, run_command
from cluster.redaction import printable
from cluster.values import Typing
from data_pipeline.augmentation.chain import Chain
from data_pipeline.augmentation.check import check_augmentation
from data_pipeline.augmentation.config import chain_of
from data_pipeline.dataset.manifest import REJECTED, Dataset, open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.dataset.token_targets import TEXT
from data_pipeline.exploration.augmented import Example, augmented_grid
from data_pipeline.exploration.grid import captioned_grid
from data_pipeline.importers.labels.classes import ordered
from data_pipeline.preparation.images import BadImage, decode, encode_png
from data_pipeline.preparation.pixels import PNG
from data_pipeline.storage.base import storage_errors
from data_pipeline.stream.config import StreamConfig

_SORTED = {
    "widest": lambda row: -row["width"],
    "narrowest": lambda row: row["width"],
    "longest": lambda row: -len(row[TEXT].split()),
    "shortest": lambda row: len(row[TEXT].split()),
}
_NEED_TEXT = ("longest", "shortest")
GRID_IMAGES, AUGMENTED_IMAGES = 48, 8  # unless --count says otherwise
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
    if values and isinstance(values[0], list):  # of classes, any number of them
        lengths = [len(labels) for labels in values]
        labels = _counted([str(label) for row in values for label in row])
        return f"  {name}: mean {np.mean(lengths):.1f} a row, most {max(lengths)}; {labels}"
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
    """The most frequent values and how often they occur; equally frequent ones in the order that classes have."""
    counts = Counter(values)
    names = sorted(ordered(counts), key=lambda name: -counts[name])
    shown = ", ".join(f"{name}: {counts[name]:,}" for name in names[:SHOWN_VALUES])
    return shown if len(names) <= SHOWN_VALUES else f"{shown} and {len(names) - SHOWN_VALUES:,} more"


def caption(row: dict[str, Any], columns: Sequence[str]) -> str:
    """The caption of an image in the grid: its text, or the values of its task's columns."""
    if TEXT in columns:
        return str(row[TEXT])
    texts = {name: " ".join(map(str, row[name])) if isinstance(row[name], list) else str(row[name]) for name in columns}
    return next(iter(texts.values())) if len(texts) == 1 else ", ".join(f"{name} {text}" for name, text in texts.items())


def choose(rows: list[dict[str, Any]], where: str, count: int) -> list[dict[str, Any]]:
    """Choose `count` rows: spread evenly, or the extremes that `where` names."""
    if where == "spread":
        return rows[:: max(1, len(rows) // count)][:count]
    return sorted(rows, key=_SORTED[where])[:count]


def _examples(dataset: Dataset, split: str, where: str, count: int) -> Iterator[Example]:
    """The images of the rows that are chosen, with their captions; those that cannot be decoded are named."""
    policy, columns = dataset.manifest.image, list(dataset.manifest.columns)
    rows = read_split(dataset, split, ["id", "image", *columns, "width"]).to_pylist()
    for row in choose(rows, where, count):
        try:
            yield Example(decode(row["image"], policy.color, policy.background), row["id"], caption(row, columns))
        except BadImage as reason:
            print(f"warning: image '{printable(row['id'])}' is left out: {reason}")


def _drawn(dataset: Dataset) -> str:
    """The split whose images are drawn where none is named: one in folds has no train."""
    filled = [name for name, split in dataset.manifest.splits.items() if split.rows]
    return "train" if "train" in filled or not filled else min(filled, key=lambda name: name == "test")


def _chain(written: str | None, dataset: Dataset) -> Chain:
    """The augmentation as it is written on the command line, the default one for None, checked on the dataset's images.

    Raises:
        UserError: whatever is wrong with it.
    """
    augmentation = StreamConfig().augmentation
    if written is not None:
        typing = Typing(StreamConfig, "the command line")
        augmentation = typing.override(f"augmentation={written}").get("augmentation")
        if typing.problems:
            raise UserError(" ".join(typing.problems))
    check_augmentation(augmentation, dataset.manifest.image)
    return chain_of(augmentation)


def _require_file(option: str, file: Path) -> None:
    """Check, before anything is read for it, that `file` is a PNG or to become one; its folder is made.

    Raises:
        UserError: it has another name, is another file, or cannot be written.
    """
    if file.suffix.lower() != ".png":
        raise UserError(f"{option}: '{printable(str(file))}' is no name of a PNG file. Name one that ends with .png.")
    try:
        if file.is_file() and not PNG.startswith(file.read_bytes()[: len(PNG)]):
            raise UserError(f"{option}: '{printable(str(file))}' is there, and no PNG. Name another file.")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab"):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{option}: cannot write '{file}' ({reason}). Name another file.") from None


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.explore", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="folder or URI")
    parser.add_argument("--grid", type=Path, help="draw images of a split into this PNG file")
    parser.add_argument("--augmented", type=Path, help="draw augmented images of a split into this PNG file")
    parser.add_argument("--augmentation", metavar="PRESET_OR_STEPS", help="as stream.augmentation takes it (default light)")
    parser.add_argument("--sheet", help=argparse.SUPPRESS)
    parser.add_argument("--split", help="what is drawn (default train, or the first that has rows)")
    parser.add_argument("--where", choices=["spread", *_SORTED], default="spread")
    parser.add_argument(
        "--count", type=whole_number(1), help=f"images in the grid (default {GRID_IMAGES}, augmented {AUGMENTED_IMAGES})"
    )
    args = parser.parse_args()
    if args.sheet:
        raise UserError("--sheet was renamed to --grid.")
    if args.augmentation is not None and not args.augmented:
        raise UserError("--augmentation is drawn where --augmented FILE.png says. Add it.")
    dataset = open_dataset(args.dataset)
    split = args.split or _drawn(dataset)
    chain = _chain(args.augmentation, dataset) if args.augmented else Chain()
    for option, file in (("--grid", args.grid), ("--augmented", args.augmented)):
        if not file:
            continue
        dataset.manifest.filled_split(split)
        if args.where in _NEED_TEXT and TEXT not in dataset.manifest.columns:
            raise UserError(
                f"--where {args.where} sorts by the length of texts, which '{dataset.manifest.name}' does not have."
            )
        _require_file(option, file)
    print(describe(dataset))
    if args.grid:
        examples = list(_examples(dataset, split, args.where, args.count or GRID_IMAGES))
        grid = captioned_grid([example.pixels for example in examples], [example.caption for example in examples])
        args.grid.write_bytes(encode_png(grid))
        print(f"Grid {args.grid}")
    if args.augmented:
        examples = list(_examples(dataset, split, args.where, args.count or AUGMENTED_IMAGES))
        args.augmented.write_bytes(encode_png(augmented_grid(examples, chain)))
        print(f"Augmented images {args.augmented}")
    return 0


if __name__ == "__main__":
    run_command(main)
