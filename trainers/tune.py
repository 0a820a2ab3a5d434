"""`python -m trainers.tune STUDY`: the arms of a study in parallel, each the same training run as `trainers.train`.

Ends in a table of all arms: those that failed stand in it with their reasons, and the command then ends with status 2. The same
command started again resumes the study: finished arms are not trained again, interrupted ones resume, failed ones are retried.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cluster.errors import INTERRUPTED, UserError, run_command
from data_pipeline.storage.base import open_storage
from trainers.studies.arms import load_study
from trainers.studies.runner import TABLE, run_study
from trainers.studies.table import UNFINISHED


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m trainers.tune", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="a YAML file of configs/tune/")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="for every arm")
    args = parser.parse_args()
    study = load_study(args.study)
    study.overrides += args.overrides
    folder = open_storage(study.runs_dir).child(study.name)
    table, failed = run_study(study, folder)
    print(table + f"Table {folder.uri}/{TABLE}")
    if UNFINISHED in failed.values():
        print("Stopped. The same command resumes it.")
        return INTERRUPTED
    if failed:
        raise UserError(f"{len(failed)} runs failed ({', '.join(failed)}): their reasons stand below the table.")
    return 0


if __name__ == "__main__":
    run_command(main, "Interrupted. Start the same command again to resume the study.")
