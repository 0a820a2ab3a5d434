"""`python -m data_pipeline.correct DATASET CORRECTIONS.csv OUT`: apply corrected labels to a dataset.

CORRECTIONS.csv has the columns id, given, suggested, new, as `python -m trainers.label_errors` writes it, and for several heads
also column. Fill in `new`: the name of a class; of several classes `a|b|c` or a JSON list; `drop` removes the row; what stays
empty stays as it is. OUT is a dataset with the same images and a digest of its own; corrections.parquet keeps the old labels.
"""

from __future__ import annotations

import argparse

from cluster.errors import run_command
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.preparation.corrections.apply import correct_dataset
from data_pipeline.storage.base import open_storage


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.correct", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="folder or URI")
    parser.add_argument("corrections", help="the CSV: a file or a URI")
    parser.add_argument("out", help="where the corrected dataset goes: a folder or a URI")
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset that is there")
    args = parser.parse_args()
    out, dataset = open_storage(args.out), open_dataset(args.dataset)
    done = correct_dataset(dataset, open_storage(args.corrections), out, args.overwrite)
    sizes = ", ".join(f"{name} {split.rows:,}" for name, split in done.manifest.splits.items())
    print(f"{args.out}: {done.changed:,} labels changed, {done.dropped:,} rows dropped; {sizes}; {done.manifest.digest[:19]}")
    print("What the labels were: corrections.parquet beside dataset.json.")
    return 0


if __name__ == "__main__":
    run_command(main)
