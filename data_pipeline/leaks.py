"""`python -m data_pipeline.leaks DATASET [OTHER]`: what splits of a dataset share, or two datasets.

Finds the same image, also re-encoded, resized, or a little lighter or darker, by a perceptual hash, and writers (the column
`writer`) whose rows are in two splits. With OTHER, the splits of DATASET are compared with those of OTHER instead of with each
other. The status is 0 if nothing is shared, 1 if something is, and 2 after an error.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from cluster.arguments import whole_number
from cluster.errors import UserError, run_command
from cluster.redaction import printable
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.exploration.leak_check import Leaks, SharedImage, find_leaks
from data_pipeline.storage.base import Storage, open_storage

_HEADER = ("splits", "same image", "other labels", "rows", "same writer", "rows")


def table_of(leaks: Leaks) -> list[str]:
    """The lines of a table with what each pair of splits shares; pairs that share nothing are counted."""
    lines: list[list[str]] = []
    for first, second in leaks.compared:
        images = [image for image in leaks.images if {first, second} <= {split for split, _, _ in image.rows}]
        groups = [group for group in leaks.groups if {first, second} <= group.rows.keys()]
        if not images and not groups:
            continue
        of_images = [sum(split == name for image in images for split, _, _ in image.rows) for name in (first, second)]
        of_groups = [sum(group.rows[name] for group in groups) for name in (first, second)]
        differing = sum(image.labels_differ for image in images)
        counts = (f"{len(images):,}", f"{differing:,}", _sum_of(of_images), f"{len(groups):,}", _sum_of(of_groups))
        lines.append([f"{first}, {second}", *counts])
    shown = _aligned([_HEADER, *lines]) if lines else []
    return [*shown, f"{len(leaks.compared) - len(lines)} of {len(leaks.compared)} pairs of splits share nothing."]


def examples_of(leaks: Leaks, count: int) -> list[str]:
    """Lines with the first shared images, those with different labels first, and the first shared writers."""
    images = sorted(leaks.images, key=lambda image: not image.labels_differ)
    lines = [_image_line(image) for image in images[:count]]
    for group in leaks.groups[:count]:
        lines.append(f"writer '{group.name}': rows of " + ", ".join(f"{name} {rows:,}" for name, rows in group.rows.items()))
    return [printable(line) for line in lines]


def _image_line(image: SharedImage) -> str:
    rows = " = ".join(f"{split} '{name}'" for split, name, _ in image.rows[:4]) + (" = ..." if len(image.rows) > 4 else "")
    labels = list(dict.fromkeys(labels for _, _, labels in image.rows))
    return f"{rows}: " + ("other labels: " + " | ".join(labels[:4]) if image.labels_differ else f"both {labels[0]}")


def _sum_of(rows: Sequence[int]) -> str:
    return " + ".join(f"{count:,}" for count in rows)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def to_json(leaks: Leaks) -> bytes:
    """Every leak: {"images": [{"rows": [{"split", "id", "labels"}], "labels_differ"}], "writers": [{"name", "rows"}], ...}."""
    content = {
        "images": [
            {
                "rows": [dict(zip(("split", "id", "labels"), row, strict=True)) for row in image.rows],
                "labels_differ": image.labels_differ,
            }
            for image in leaks.images
        ],
        "writers": [{"name": group.name, "rows": group.rows} for group in leaks.groups],
        "compared": leaks.compared,
        "rows": leaks.rows,
        "blank": leaks.blank,
        "unreadable": [dict(zip(("split", "id", "reason"), row, strict=True)) for row in leaks.unreadable],
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


def _require_file(file: Storage) -> None:
    """Check that `file` can be made, and replaces nothing but what this command has written.

    Raises:
        UserError: another file is there.
    """
    file.make_parent()
    if not file.exists():
        return
    try:
        own = {"images", "writers", "compared"} <= set(json.loads(file.read_bytes()))
    except (ValueError, TypeError, RecursionError):
        own = False
    if not own:
        raise UserError(f"--json: '{file.shown}' is there, and is not what this command has written. Name another file.")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.leaks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="folder or URI")
    parser.add_argument("other", nargs="?", help="another dataset to compare it with")
    parser.add_argument("--images-only", action="store_true", help="do not compare writers, where their names mean nothing")
    parser.add_argument("--examples", type=whole_number(0), default=5, help="printed of each kind (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write all that is shared into this file")
    args = parser.parse_args()
    if args.json:
        _require_file(open_storage(args.json))  # an error now, not after all images are read
    leaks = find_leaks(open_dataset(args.dataset), open_dataset(args.other) if args.other else None)
    if args.images_only:
        leaks.groups = []
    print("\n".join([*map(printable, table_of(leaks)), *examples_of(leaks, args.examples)]))
    if leaks.blank:
        print(f"Blank images, compared with none: {leaks.blank:,} of {leaks.rows:,}.")
    for split, name, reason in leaks.unreadable[: args.examples]:
        print(f"warning: image '{printable(name)}' of {printable(split)} was not compared: {printable(reason)}")
    if len(leaks.unreadable) > args.examples:
        print(f"warning: {len(leaks.unreadable):,} images in all were not compared; --json lists them.")
    if args.json:
        open_storage(args.json).write_bytes(to_json(leaks))
        print(f"All of it: {args.json}")
    return 1 if leaks.images or leaks.groups else 0


if __name__ == "__main__":
    run_command(main)
