"""`python -m trainers.tune STUDY`: the arms of a study in parallel, each the same training run as `trainers.train`.

Ends in a table of all arms: those that failed stand in it with their reasons, and the command then ends with status 2. The same
command started again goes on: a finished arm is not trained again, an interrupted one resumes, a failed one is tried again.
"""

from __future__ import annotations

import argparse
import logging
import traceback
from pathlib import Path
from typing import Any

from ray import tune

from cluster.errors import INTERRUPTED, UserError, run_command, user_error_in
from cluster.redaction import redact
from cluster.session import ray_session
from data_pipeline.storage.base import Storage, open_storage
from data_pipeline.storage.claim import claim
from data_pipeline.storage.lease import DEAD_AFTER_S, RENEW_S
from trainers.checkpoint.format import CONFIG, PREFIX
from trainers.config.criterion import Criterion
from trainers.config.load import to_yaml
from trainers.config.train import TrainConfig
from trainers.run.launch_ray import run_training
from trainers.run.preflight import check_run
from trainers.studies.arms import Arm, StudyConfig, arm_config, arms_of, load_study
from trainers.studies.table import FAILED, RESULT, UNFINISHED, outcome_of, result_table, save_failure, save_result
from trainers.tasks.check_metrics import check_metric
from trainers.tracking import Console

TABLE = "table.md"
CLAIM_WAIT_S = DEAD_AFTER_S + 2 * RENEW_S  # for an arm whose processes of before are about to end


def run_study(study: StudyConfig, folder: Storage) -> tuple[str, dict[str, str]]:
    """Train every arm that has no result below `folder`; returns the table of all, and why those without a result have none.

    Raises:
        UserError: an arm's configuration or the study's metric is wrong (before anything starts), or another process has the
            study.
    """
    arms = arms_of(study)
    configs = {arm.key: arm_config(study, arm, folder.uri) for arm in arms}
    for config in configs.values():
        criterion = check_metric("", study.metric, study.mode, config, check_run(config))
    with claim(folder, "study") as own:
        if own.taken_over:
            print(own.taken_over, flush=True)
        for arm in arms:
            _require_same_arm(folder.child(arm.key), configs[arm.key])
        missing = [arm for arm in arms if not folder.child(arm.key, RESULT).exists()]
        print(f"Study {folder.uri}: {len(arms)} runs, {len(arms) - len(missing)} finished already", flush=True)
        if missing:
            with ray_session(min_cpus=2):
                _train(study, folder, missing, configs, criterion)
        outcomes = {arm.key: outcome_of(folder.child(arm.key), criterion) for arm in arms}
        table = result_table(criterion, arms, outcomes)
        folder.child(TABLE).write_bytes(redact(table).encode())
    return table, {key: outcome.reason for key, outcome in outcomes.items() if outcome.reason}


def _require_same_arm(run: Storage, config: TrainConfig) -> None:
    """What a folder holds of an arm must be of this configuration, else metrics of two would stand in one table."""
    if not run.child(CONFIG).exists() or run.child(CONFIG).read_bytes().decode() == to_yaml(config):
        return
    if run.child(RESULT).exists() or any(name.startswith(PREFIX) for name in run.names()):
        raise UserError(
            f"'{run.uri}' was trained with another configuration (see its {CONFIG}). Rename the study, or remove it."
        )


def _train(study: StudyConfig, folder: Storage, arms: list[Arm], configs: dict[str, TrainConfig], criterion: Criterion) -> None:
    """Train `arms`, each to a record in its folder; of those whose process was lost the record is made here."""
    concurrent = min(study.max_concurrent, len(arms))
    trial = tune.with_parameters(_trial, folder=folder, concurrent=concurrent, criterion=criterion, configs=configs)
    texts = {arm.key: to_yaml(configs[arm.key]) for arm in arms}
    for arm in arms:
        folder.child(arm.key, FAILED).delete()  # it is tried again
    # A trial that is lost is reported by its record, not by a traceback of Ray's.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    tuner = tune.Tuner(
        # A trial only waits for its workers: it must not take the CPU that they need.
        tune.with_resources(trial, {"CPU": 0.01}),
        param_space={"arm": tune.grid_search(list(texts.items()))},
        tune_config=tune.TuneConfig(max_concurrent_trials=concurrent),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=folder.path,
            storage_filesystem=folder.filesystem,
            verbose=0,
            callbacks=[_Lines()],
        ),
    )
    for result in tuner.fit():
        if result.error is not None and result.config:
            save_failure(folder.child(result.config["arm"][0]), _last_line(result.error))


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _trial(
    parameters: dict[str, Any], folder: Storage, concurrent: int, criterion: Criterion, configs: dict[str, TrainConfig]
) -> None:
    """Train an arm, in a process of Ray Tune; whatever ends it stands in its record."""
    key, text = parameters["arm"]
    run, console = folder.child(key), Console(open_log())

    def report(row: dict[str, float]) -> None:
        if criterion.metric in row:
            tune.report({**row, "arm_name": key, "shown": criterion.metric})

    try:
        with claim(run, "training run", CLAIM_WAIT_S) as own:
            run.child(CONFIG).write_bytes(text.encode())
            result = run_training(configs[key], run, console, report, concurrent, own)
            save_result(run, result.history, criterion)
    except Exception as error:
        mistake = user_error_in(error)
        if mistake is None:
            console.block(traceback.format_exc())
        save_failure(run, str(mistake) if mistake else f"{type(error).__name__}: {_last_line(error)}")


def open_log() -> Any:
    """The log of a trial: a file in its working folder, which Tune keeps."""
    return Path("train.log").open("a", encoding="utf-8", buffering=1)


class _Lines(tune.Callback):
    """One line per evaluation of an arm."""

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        metric = result["shown"]
        print(
            f"{result['arm_name']} epoch {result['epoch']:.0f} {metric} {result[metric]:.4f} "
            f"exact {100 * result['val/exact_match']:.1f} % wer {100 * result['val/wer']:.1f} %",
            flush=True,
        )


def main() -> int:
    """The command line."""
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
        print("Stopped. The same command goes on.")
        return INTERRUPTED
    if failed:
        raise UserError(f"{len(failed)} runs failed ({', '.join(failed)}): their reasons stand below the table.")
    return 0


if __name__ == "__main__":
    run_command(main, "Interrupted. Start the same command again to resume the study.")
