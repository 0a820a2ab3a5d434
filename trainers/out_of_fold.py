"""`python -m trainers.out_of_fold RUN [RUN ...] OUT.parquet`: every row of a dataset, predicted by the run that left it out.

RUN is a run that was trained with `data.fold=k`, or a folder of such runs, as a study over folds has. OUT gets one row for each
row of the folds: its truth, its prediction, its fold. `trainers.calibrate` tunes thresholds and temperatures on it,
`trainers.label_errors` looks for wrong labels in it.

`labeling.key=value` predicts in another way, as `trainers.predict` would: `labeling.tta=[identity,flip_horizontal]`.
"""

from __future__ import annotations

import argparse

from cluster.errors import UserError, run_command
from cluster.session import ray_session
from data_pipeline.dataset.manifest import open_dataset
from trainers.cli import add_option_arguments, batch_size_of, places_and_options
from trainers.prediction.evaluation import BATCH_SIZE, metrics_of
from trainers.prediction.new_file import new_file
from trainers.prediction.out_of_fold import (
    fold_runs,
    predict_out_of_fold,
    require_all_folds,
    runs_below,
    write_out_of_fold,
)
from trainers.prediction.pool import predict_split_on_ray
from trainers.report.metrics_table import metrics_table, split_metrics


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.out_of_fold", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs with data.fold=k, or a folder of them; last, OUT")
    parser.add_argument("--dataset", help="where the dataset lies now, if not where the runs had it")
    parser.add_argument("--some-folds", action="store_true", help="do without the rows of folds that have no run")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="images read at once (default %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    add_option_arguments(parser, "labeling.key=value")
    args = parser.parse_intermixed_args()
    places, options = places_and_options([*args.runs, *args.options], "labeling")
    if len(places) < 2:
        raise UserError("Give the runs, and last the file to write: python -m trainers.out_of_fold RUN ... OUT.parquet.")
    *runs, out = places
    batch_size = batch_size_of(args.batch_size)
    found = fold_runs(runs_below(runs), options)
    first = found[0].checkpoint
    dataset = open_dataset(args.dataset or first.config.data.dataset)
    if not args.some_folds:
        require_all_folds(found, dataset)
    file = new_file(out, args.overwrite)
    with ray_session(min_cpus=2):
        predicted = predict_out_of_fold(found, dataset, predict_split_on_ray, batch_size)
    write_out_of_fold(file, predicted, first.config)
    metrics = metrics_of(predicted.task, ((row, row) for row in predicted.rows))
    print(metrics_table(split_metrics("out of fold", metrics), predicted.task.headlines))
    left_out = predicted.made_by["rejected"]
    print(f"{out}: {len(predicted.rows):,} rows of {len(found)} folds, {left_out:,} images that could not be used are left out")
    return 0


if __name__ == "__main__":
    run_command(main)
