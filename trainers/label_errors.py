"""`python -m trainers.label_errors OUT_OF_FOLD.parquet OUT`: labels of a dataset that are likely wrong, to review and correct.

A label is doubted where a run that never saw its image predicts another one, near-duplicates where their labels differ. OUT
gets `index.html`, to look at, and `corrections.csv`, to fill in: `python -m data_pipeline.correct` applies it. With runs in the
place of the file (`RUN [RUN ...] OUT`, as of `trainers.out_of_fold`), they predict first, and OUT gets their predictions, too.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from cluster.arguments import finite_number, whole_number
from cluster.errors import UserError, run_command
from cluster.session import ray_session
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.storage.base import Storage, open_storage
from trainers.cli import add_option_arguments, batch_size_of, places_and_options
from trainers.prediction.evaluation import BATCH_SIZE
from trainers.prediction.label_doctor.cleanlab_method import require_cleanlab
from trainers.prediction.label_doctor.doubts import METHODS
from trainers.prediction.label_doctor.folder import PREDICTIONS, open_review
from trainers.prediction.label_doctor.label_columns import require_labels
from trainers.prediction.label_doctor.review import Options, review_labels
from trainers.prediction.out_of_fold import (
    OutOfFold,
    dataset_of,
    fold_runs,
    predict_out_of_fold,
    read_out_of_fold,
    require_all_folds,
    runs_below,
    write_out_of_fold,
)
from trainers.prediction.pool import predict_split_on_ray
from trainers.report.packages import require_page_package


def main() -> int:
    """Run the command line."""
    args = _arguments()
    places, labeling = places_and_options([*args.places, *args.options], "labeling")
    *sources, out = places or [""]
    if not sources:
        raise UserError(
            "Give the predictions or the runs, and last the folder: python -m trainers.label_errors OOF.parquet OUT."
        )
    require_page_package()
    if args.method == "cleanlab":
        require_cleanlab()
    if len(sources) == 1 and _is_file(sources[0]):
        if labeling or args.some_folds:
            option = "--some-folds" if args.some_folds else labeling[0]
            raise UserError(f"{option} is of runs that predict first: the predictions in '{sources[0]}' are made already.")
        found, folder = _read(sources[0], out, args)
    else:
        found, folder = _predict(sources, labeling, out, args)
    options = Options(args.method, args.share, args.count, not args.no_duplicates)
    review = review_labels(found, dataset_of(found), options)
    from trainers.prediction.label_doctor.write import write_review  # it draws: the check for its package comes first

    for line in write_review(folder, review, args.accept):
        print(line)
    return 0


def _read(source: str, out: str, args: argparse.Namespace) -> tuple[OutOfFold, Storage]:
    """The predictions in a file, and the folder to write."""
    found = read_out_of_fold(source)
    if args.dataset:
        found = replace(found, made_by={**found.made_by, "dataset": open_storage(args.dataset).uri})
    require_labels(found.task)
    dataset_of(found)
    return found, open_review(out, args.overwrite)


def _predict(runs: list[str], labeling: list[str], out: str, args: argparse.Namespace) -> tuple[OutOfFold, Storage]:
    """The predictions of runs, and the folder to write, which has them."""
    batch_size = batch_size_of(args.batch_size)
    found = fold_runs(runs_below(runs), labeling)
    first = found[0].checkpoint
    require_labels(first.task)
    dataset = open_dataset(args.dataset or first.config.data.dataset)
    if not args.some_folds:
        require_all_folds(found, dataset)
    folder = open_review(out, args.overwrite)
    with ray_session(min_cpus=2):
        predicted = predict_out_of_fold(found, dataset, predict_split_on_ray, batch_size)
    write_out_of_fold(folder.child(PREDICTIONS), predicted, first.config)
    return predicted, folder


def _is_file(uri: str) -> bool:
    """Whether this is a file, or is to be one: runs are folders."""
    place = open_storage(uri)
    return place.name.endswith(".parquet") or place.name in place.parent.sizes()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainers.label_errors", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "places", nargs="+", metavar="PLACE", help="out-of-fold predictions, or runs with data.fold=k; then the folder to write"
    )
    parser.add_argument("--method", choices=[*METHODS], default="confident", help="who doubts (default %(default)s)")
    most = parser.add_mutually_exclusive_group()
    most.add_argument("--share", type=finite_number(1e-9, 1), help="list at most this share of all labels, such as 0.02")
    most.add_argument("--count", type=whole_number(1), help="list at most so many labels")
    parser.add_argument("--accept", action="store_true", help="fill the column `new` with what is suggested")
    parser.add_argument("--no-duplicates", action="store_true", help="do not compare images")
    parser.add_argument("--dataset", help="where the dataset lies now, if it was moved")
    parser.add_argument("--some-folds", action="store_true", help="do without the rows of folds that have no run")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="images read at once (default %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier review in this folder")
    add_option_arguments(parser, "labeling.key=value")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    run_command(main)
