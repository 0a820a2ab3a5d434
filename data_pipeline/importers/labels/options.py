"""Arguments that all kinds of labeled images share, and what becomes of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.arguments import finite_number, whole_number
from cluster.redaction import printable
from cluster.session import ray_session
from data_pipeline.dataset.image_policy import ImagePolicy, Scale
from data_pipeline.importers.labels.prepare import prepare_labels
from data_pipeline.importers.labels.source import LabelSource
from data_pipeline.importers.labels.splits import DEFAULT_SHARE, SplitOptions, with_splits
from data_pipeline.importers.labels.summary import summary
from data_pipeline.preparation.build import MAX_SIDE
from data_pipeline.preparation.destination import require_apart
from data_pipeline.storage.base import open_storage

_SCALES: dict[str, Scale] = {"pad": "fit", "crop": "crop", "stretch": "stretch"}
_NO_PREPARATION = ("kind", "source", "out", "overwrite", "name", "license")


def add_common_arguments(parser: argparse.ArgumentParser, size: int, color: str) -> None:
    """Add the arguments about images, splits and the dataset; `size` and `color` are the defaults."""
    side = whole_number(1, MAX_SIDE)
    images = parser.add_argument_group("images")
    images.add_argument("--size", type=side, default=size, help="height and width of all images, pixels (default %(default)s)")
    images.add_argument("--height", type=side, help="in the place of --size")
    images.add_argument("--width", type=side, help="in the place of --size")
    images.add_argument("--color", choices=["gray", "rgb"], default=color, help="default %(default)s")
    images.add_argument(
        "--resize",
        choices=list(_SCALES),
        default="pad",
        help="pad: the whole image, its border repeated; crop: its middle; stretch: without its aspect (default %(default)s)",
    )
    images.add_argument(
        "--format",
        choices=["auto", "png", "jpeg"],
        default="auto",
        help="of stored images; auto: what was JPEG in color is JPEG again, the rest PNG (default %(default)s)",
    )
    splits = parser.add_argument_group("splits, where the source has none")
    share, of = finite_number(0, 0.99), f"(default {DEFAULT_SHARE:g}; of a source that has a split train: 0)"
    splits.add_argument("--val", type=share, metavar="SHARE", help=f"share of the split val {of}")
    splits.add_argument("--test", type=share, metavar="SHARE", help=f"share of the split test {of}")
    splits.add_argument("--folds", type=whole_number(2, 1000), default=0, help="of cross-validation, instead of train and val")
    splits.add_argument(
        "--split",
        choices=["random", "stratified"],
        default="stratified",
        help="stratified: classes have the same shares in all splits (default %(default)s)",
    )
    splits.add_argument("--seed", type=whole_number(0), default=0, help="of the division into splits (default %(default)s)")
    about = parser.add_argument_group("the dataset")
    about.add_argument("--name", default="", help="default: the name of SOURCE")
    about.add_argument("--license", default="", help="of the data; reports and model cards state it")
    about.add_argument("--overwrite", action="store_true", help="replace a dataset that is there")


def run_preparation(args: argparse.Namespace, read: Callable[[], LabelSource]) -> int:
    """Read the source, divide it into splits, make the dataset, print what it holds.

    Raises:
        UserError: the source, its splits or the place of the dataset cannot be used.
    """
    require_apart(args.source, open_storage(args.out))  # an invalid URI is reported before a session starts
    policy = ImagePolicy(
        args.height or args.size, args.width or args.size, args.color, scale=_SCALES[args.resize], fixed_width=True
    )
    found = read()
    found.require_items(str(args.source))
    source = with_splits(found, SplitOptions(args.val, args.test, args.folds, args.split == "stratified", args.seed))
    require_apart(args.source, open_storage(args.out), {item.split for item in source.items})
    for note in source.notes:
        print(note)
    for warning in source.warnings:
        print(f"warning: {warning}")
    place = args.source.resolve()
    name = printable(args.name or (place.name if place.is_dir() else place.stem))
    preparation = _preparation(args) | ({"notes": said} if (said := [*source.notes, *source.warnings]) else {})
    with ray_session():
        made = prepare_labels(source, args.out, name, policy, args.format, printable(args.license), preparation, args.overwrite)
    for line in summary(made, args.out):
        print(line)
    return 0


def _preparation(args: argparse.Namespace) -> dict[str, Any]:
    """What `dataset.json` says of how it was made: the options that are set."""
    options = {key: value for key, value in vars(args).items() if key not in _NO_PREPARATION and value not in (None, "", [])}
    shown = {key: printable(str(value)) if isinstance(value, Path | str) else value for key, value in options.items()}
    return {"command": f"prepare {args.kind}", "source": printable(args.source.name), **shown}
