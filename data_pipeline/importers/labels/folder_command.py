"""`python -m data_pipeline.prepare folder SOURCE OUT`: class folders, SOURCE/<class>/*.png, as a dataset.

Where SOURCE holds train/, val/ and test/ with class folders, these are the splits. Classes are in the order of --classes;
without it numeric names are ordered as numbers, others are sorted. The order is stored, so it is the same everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cluster.errors import UserError
from data_pipeline.importers.labels.classes import read_classes, read_heads, require_target
from data_pipeline.importers.labels.folder import read_folder
from data_pipeline.importers.labels.options import add_common_arguments, run_preparation

HELP = "class folders: SOURCE/<class>/*.png, or SOURCE/train/<class>/*.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this kind of source."""
    parser.add_argument("source", type=Path, help="folder on this machine; on a cluster, one that all nodes can read")
    parser.add_argument("out", help="where the dataset goes: a folder or a URI")
    parser.add_argument("--classes", metavar="A,B,C|FILE", help="names of the folders in the order of the classes")
    parser.add_argument(
        "--heads",
        nargs="+",
        default=[],
        metavar="NAME=A,B",
        help="several attributes at once: folders 0, 1, ... or a_b stand for all combinations, the last attribute fastest",
    )
    parser.add_argument("--joint", default="class", metavar="NAME", help="of the class of all heads (default %(default)s)")
    parser.add_argument(
        "--group-regex",
        default="",
        metavar="REGEX",
        help="group of an image, by its path: drawn splits keep it whole",
    )
    add_common_arguments(parser, 224, "rgb")


def run(args: argparse.Namespace) -> int:
    """Prepare the dataset and print what it holds."""
    if args.classes and args.heads:
        raise UserError("--classes and --heads: --heads declares the classes of each head. Leave out --classes.")
    classes = read_classes(args.classes) if args.classes else None
    heads = read_heads(args.heads)
    declared = {name: names for name, names in heads.items() if names}
    if len(declared) < len(heads):
        raise UserError("--heads takes NAME=CLASS,CLASS for class folders, as in --heads mask=worn,none gender=male,female.")
    if heads:
        require_target("multitask", {"heads": declared}, "--heads")
    return run_preparation(args, lambda: read_folder(args.source, classes, declared or None, args.joint, args.group_regex))
