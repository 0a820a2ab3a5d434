"""`python -m trainers.calibrate OUT_OF_FOLD.parquet TUNED.yaml`: a temperature, and thresholds, from out-of-fold predictions.

The temperature (Guo et al. 2017) makes probabilities honest; thresholds (of multi-label tasks; `--per-class`: one for each
class) make F1 as large as it gets. Both are tuned on all rows and written into TUNED.yaml, which predicts as
`python -m trainers.predict CHECKPOINT IMAGES OUT labeling=TUNED.yaml`. What they are worth is measured on rows that they were
not tuned on: those of each fold, with values tuned on the other folds.
"""

from __future__ import annotations

import argparse

from cluster.errors import run_command
from trainers.prediction.calibration import calibrate, require_tunable, to_yaml
from trainers.prediction.new_file import new_file
from trainers.prediction.out_of_fold import read_out_of_fold
from trainers.report.metrics_table import metrics_table


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", help="out-of-fold predictions, as `trainers.out_of_fold` writes them")
    parser.add_argument("out", help="YAML file for the section `labeling`")
    parser.add_argument("--per-class", action="store_true", help="a threshold for each class, of multi-label tasks")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    args = parser.parse_args()
    found = read_out_of_fold(args.predictions)
    require_tunable(found, args.per_class)
    file = new_file(args.out, args.overwrite)
    tuned = calibrate(found, args.per_class)
    for note in tuned.notes:
        print(note)
    values = next(iter(tuned.metrics.values()))
    columns = [column for column in (*found.task.headlines, *found.task.details) if column.key in values]
    print(metrics_table(tuned.metrics, columns))
    file.write_bytes(to_yaml(tuned.labeling, found).encode())
    print(f"{args.out}: predict with labeling={args.out}")
    return 0


if __name__ == "__main__":
    run_command(main)
