"""`python -m data_pipeline.prepare manifest SOURCE OUT`: a table of images and their labels as a dataset.

SOURCE is a CSV, TSV, JSON lines or Parquet file, or a folder of Parquet files such as Hugging Face's. Images are paths relative
to the table, or bytes in it. What the metadata of Hugging Face say of images and classes needs no options.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cluster.errors import UserError
from data_pipeline.importers.labels.classes import read_classes, read_heads
from data_pipeline.importers.labels.label_targets import LabelOptions
from data_pipeline.importers.labels.manifest import ManifestOptions, read_manifest
from data_pipeline.importers.labels.options import add_common_arguments, run_preparation

HELP = "a CSV, JSON lines or Parquet file that names images and labels; Hugging Face's image Parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this kind of source."""
    parser.add_argument("source", type=Path, help="file or folder on this machine; on a cluster, one that all nodes can read")
    parser.add_argument("out", help="where the dataset goes: a folder or a URI")
    columns = parser.add_argument_group("columns")
    columns.add_argument("--image", default="", metavar="COLUMN", help="path of the image, or the image itself")
    columns.add_argument("--images", type=Path, metavar="FOLDER", help="that paths are relative to (default: the table's)")
    columns.add_argument("--label", default="", metavar="COLUMN", help="the class")
    columns.add_argument("--labels", default="", metavar="COLUMN", help="the classes: a list, or a text with --separator")
    columns.add_argument("--separator", default=",", help="between the classes of a text (default %(default)s)")
    columns.add_argument("--label-columns", default="", metavar="A,B,C", help="columns of 0 or 1, one for each class")
    columns.add_argument(
        "--heads", nargs="+", default=[], metavar="COLUMNS", help="several attributes at once: a,b,c or NAME=CLASS,CLASS ..."
    )
    columns.add_argument("--joint", default="", metavar="NAME", help="name of a class for each combination of the heads")
    columns.add_argument("--classes", metavar="A,B,C|FILE", help="classes of --label or --labels in their order")
    columns.add_argument("--split-column", default="", metavar="COLUMN", help="train, val, test, ...")
    columns.add_argument("--fold-column", default="", metavar="COLUMN", help="number of the fold; the split test stays")
    columns.add_argument(
        "--group", default="", metavar="COLUMN", help="person, patient, ...: drawn splits keep its rows together"
    )
    columns.add_argument("--source", dest="source_column", default="", metavar="COLUMN", help="origin; metrics name it")
    columns.add_argument("--id", default="", metavar="COLUMN", help="unique id (default: the path of the image)")
    add_common_arguments(parser, 224, "rgb")


def run(args: argparse.Namespace) -> int:
    """Prepare the dataset and print what it holds."""
    ways = [f"--{key.replace('_', '-')}" for key in ("label", "labels", "label_columns", "heads") if getattr(args, key)]
    if len(ways) > 1:
        raise UserError(f"{' and '.join(ways)}: labels come in one way. Leave out all but one.")
    if args.joint and not args.heads:
        raise UserError("--joint joins the classes of --heads; there are none.")
    if args.classes and (args.heads or args.label_columns):
        raise UserError(f"--classes is for --label and --labels; {ways[0]} names the classes itself.")
    if not args.separator:
        raise UserError("--separator is empty: it stands between the classes of a text.")
    labels = LabelOptions(
        label=args.label,
        labels=args.labels,
        separator=args.separator,
        label_columns=[name.strip() for name in args.label_columns.split(",") if name.strip()],
        heads=read_heads(args.heads),
        joint=args.joint,
        classes=read_classes(args.classes) if args.classes else None,
    )
    options = ManifestOptions(
        image=args.image,
        images=args.images,
        labels=labels,
        split=args.split_column,
        fold=args.fold_column,
        group=args.group,
        source=args.source_column,
        id=args.id,
    )
    return run_preparation(args, lambda: read_manifest(args.source, options))
