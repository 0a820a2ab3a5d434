"""`python -m data_pipeline.prepare letters SOURCE OUT`: images beside a table `index,a,b,...` of 0 and 1 as a dataset.

The classes are the columns behind the first, in their order; several may be on one image. An index is the number of an image's
name, so 12 is 00012.png, or the name itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_pipeline.importers.labels.letters import read_letters
from data_pipeline.importers.labels.options import add_common_arguments, run_preparation

HELP = "images and a CSV file `index,a,b,...` with 0 or 1 for each class"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this kind of source."""
    parser.add_argument("source", type=Path, help="folder on this machine; on a cluster, one that all nodes can read")
    parser.add_argument("out", help="where the dataset goes: a folder or a URI")
    parser.add_argument("--csv", default="", metavar="FILE", help="below SOURCE (default: the only one, or *_answer.csv)")
    parser.add_argument("--images", default="", metavar="FOLDER", help="below SOURCE (default: the only folder of images)")
    add_common_arguments(parser, 256, "gray")


def run(args: argparse.Namespace) -> int:
    """Prepare the dataset and print what it holds."""
    return run_preparation(args, lambda: read_letters(args.source, args.csv, args.images))
