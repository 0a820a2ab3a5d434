"""`python -m benchmarks.curve NAME=RUN [NAME=RUN ...] --out curve.svg`: how runs learn over their time, in one picture.

A point is a validation of a run, at the minutes that its epochs have taken until then: training, validation and checkpoints,
not the start of the command.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from cluster.errors import UserError, run_command
from data_pipeline.storage.base import open_storage
from trainers.run.log import seconds_of
from trainers.tracking.history import HISTORY, History


def points(run: str, metric: str) -> tuple[list[float], list[float]]:
    """Minutes and metrics of the validations of a run.

    Raises:
        UserError: there is no run, or it has no such figure.
    """
    folder = open_storage(run)
    rows = History(folder).rows
    minutes, values, spent = [], [], 0.0
    for row in rows:
        spent += seconds_of(row)
        if metric in row:
            minutes.append(spent / 60)
            values.append(row[metric])
    if not values:
        raise UserError(f"'{folder.uri}' has no '{metric}' in {HISTORY}. Give the folder of a run that was validated.")
    return minutes, values


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.curve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="the folder of a run, and how it is called")
    parser.add_argument("--metric", default="val/exact_match")
    parser.add_argument("--label", default="2013, read exactly, greedily (%)", help="of the vertical axis")
    parser.add_argument("--out", type=Path, required=True, help="an .svg or .png")
    args = parser.parse_args()
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for item in args.runs:
        name, _, folder = item.rpartition("=")
        minutes, values = points(folder, args.metric)
        axes.plot(minutes, [100 * value for value in values], marker="o", label=name or folder)
        print(
            name or folder,
            *(f"{at:.1f} min {100 * value:.1f} %" for at, value in zip(minutes, values, strict=True)),
            sep="\n  ",
        )
    axes.set(xlabel="minutes of two CPU cores", ylabel=args.label, xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(args.out, metadata={"Date": None} if args.out.suffix == ".svg" else None)
    return 0


if __name__ == "__main__":
    run_command(main)
