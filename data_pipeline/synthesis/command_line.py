"""Arguments that all kinds of synthesized datasets have."""

from __future__ import annotations

import argparse

from cluster.arguments import whole_number
from cluster.errors import UserError
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.synthesis.parts import MAX_COUNT, Part, fold_parts, parts_of

MAX_FOLDS = 100


def add_common(parser: argparse.ArgumentParser, count: int, val_count: int, test_count: int) -> None:
    """Add the place of the dataset, the samples of its splits (with these defaults), the seed and `--overwrite`."""
    number = whole_number(1, MAX_COUNT)
    parser.add_argument("out", help="where the dataset goes: a folder or a URI")
    parser.add_argument("--count", type=number, default=count, help="samples of the train split (default %(default)s)")
    parser.add_argument("--val-count", type=number, help=f"samples of the val split (default {val_count})")
    parser.set_defaults(usual_val_count=val_count)
    parser.add_argument("--test-count", type=number, default=test_count, help="samples of the test split (default %(default)s)")
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset that is there")


def add_folds(parser: argparse.ArgumentParser) -> None:
    """Add `--folds`."""
    parser.add_argument(
        "--folds",
        type=whole_number(2, MAX_FOLDS),
        help="splits fold-0, fold-1, ... in the place of train and val; --count is what they have together",
    )


def requested_counts(args: argparse.Namespace) -> dict[str, int]:
    """The samples of train, val and test that the arguments ask for."""
    return {"train": args.count, "val": args.val_count or args.usual_val_count, "test": args.test_count}


def requested_parts(args: argparse.Namespace, together: int = 1) -> dict[str, Part]:
    """The parts of the splits that the arguments ask for; runs of `together` samples stay in one split.

    Raises:
        UserError: there are more folds than runs of samples, or arguments contradict each other.
    """
    if args.folds is None:
        return parts_of(requested_counts(args))
    if args.val_count is not None:
        raise UserError("--folds puts folds in the place of the split val, and --val-count is its size. Leave one of them out.")
    if args.folds > -(-args.count // together):
        raise UserError(f"--folds {args.folds}: --count {args.count} is too few samples to fill them. Raise --count.")
    return fold_parts(args.count, args.folds, args.test_count, together)


def sizes(manifest: Manifest) -> str:
    """The splits of a dataset and their rows, on one line."""
    return ", ".join(f"{name} {split.rows:,}" for name, split in manifest.splits.items())
