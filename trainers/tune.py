"""`python -m trainers.tune STUDY`: the arms of a study in parallel, each the same training run as `trainers.train`.

Ends in a table. The same command started again goes on: a finished arm is not trained again, an interrupted one resumes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from ray import tune

from cluster.errors import UserError, run_command
from cluster.session import ray_session
from data_pipeline.storage import Storage, open_storage
from trainers.check_run import check_run
from trainers.checkpoint import CONFIG
from trainers.config import TrainConfig, config_from_dict, to_yaml
from trainers.run import run_training
from trainers.study import Arm, StudyConfig, arm_config, arms_of, load_study
from trainers.tracking import Console

RESULT = "result.json"
TABLE = "table.md"


def run_study(study: StudyConfig, folder: Storage) -> str:
    """Train every arm that has no result below `folder`; returns the table of all.

    Raises:
        UserError: an arm's configuration is wrong (before anything starts), or an arm failed.
    """
    arms = arms_of(study)
    configs = {arm.key: arm_config(study, arm, folder.uri) for arm in arms}
    for config in configs.values():
        check_run(config)
    for arm in arms:
        _require_same_arm(folder.child(arm.key), configs[arm.key])
    missing = [arm for arm in arms if not folder.child(arm.key, RESULT).exists()]
    print(f"Study {folder.uri}: {len(arms)} runs, {len(arms) - len(missing)} finished already", flush=True)
    if missing:
        _train(study, folder, missing, configs)
    results = {arm.key: json.loads(folder.child(arm.key, RESULT).read_bytes()) for arm in arms}
    table = result_table(study, arms, results)
    folder.child(TABLE).write_bytes(table.encode())
    return table


def _require_same_arm(run: Storage, config: TrainConfig) -> None:
    """What a folder holds of an arm must be of this configuration, else figures of two would stand in one table."""
    if run.child(CONFIG).exists() and run.child(CONFIG).read_bytes().decode() != to_yaml(config):
        raise UserError(
            f"'{run.uri}' was trained with another configuration (see its {CONFIG}). Rename the study, or remove it."
        )


def _train(study: StudyConfig, folder: Storage, arms: list[Arm], configs: dict[str, TrainConfig]) -> None:
    concurrent = min(study.max_concurrent, len(arms))
    trial = tune.with_parameters(_trial, folder=folder, concurrent=concurrent, study=study)
    texts = {arm.key: to_yaml(configs[arm.key]) for arm in arms}
    tuner = tune.Tuner(
        # A trial only waits for its workers: it must not take the CPU that they need.
        tune.with_resources(trial, {"CPU": 0.01}),
        param_space={"arm": tune.grid_search(list(texts.items()))},
        tune_config=tune.TuneConfig(metric=study.metric, mode=study.mode, max_concurrent_trials=concurrent),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=folder.path,
            storage_filesystem=folder.filesystem,
            verbose=0,
            callbacks=[_Lines()],
        ),
    )
    failed = {}
    for result in tuner.fit():
        if result.error is not None:
            failed[result.config["arm"][0] if result.config else "?"] = str(result.error).strip().splitlines()[-1]
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise UserError(f"{len(failed)} of {len(arms)} runs failed, the others are kept: {reasons}")


def _trial(parameters: dict[str, Any], folder: Storage, concurrent: int, study: StudyConfig) -> None:
    from omegaconf import OmegaConf

    key, text = parameters["arm"]
    values: Any = OmegaConf.to_container(OmegaConf.create(text))
    config = config_from_dict(values, key)
    run = folder.child(key)
    run.child(CONFIG).write_bytes(text.encode())

    def report(row: dict[str, float]) -> None:
        if "val/score" in row:
            tune.report({**row, "arm_name": key})

    result = run_training(config, run, console=Console(open_log()), on_row=report, concurrent_runs=concurrent)
    record = {"seconds": result.seconds, **result.best(study.metric, study.mode)}
    run.child(RESULT).write_bytes(json.dumps(record, indent=1).encode())


def open_log() -> Any:
    """The log of a trial: a file in its working folder, which Tune keeps."""
    return Path("train.log").open("a", encoding="utf-8", buffering=1)


class _Lines(tune.Callback):
    """One line per evaluation of an arm."""

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        print(
            f"{result['arm_name']} epoch {result['epoch']:.0f} val exact {100 * result['val/exact_match']:.1f} % "
            f"wer {100 * result['val/wer']:.1f} % score {result['val/score']:.4f}",
            flush=True,
        )


def result_table(study: StudyConfig, arms: list[Arm], results: dict[str, dict[str, float]]) -> str:
    """Markdown: the metric's mean and standard deviation over the seeds of each arm, best arm first."""
    columns = [study.metric, "val/exact_match", "val/wer"]
    rows = []
    for name in dict.fromkeys(arm.name for arm in arms):
        members = [results[arm.key] for arm in arms if arm.name == name]
        cells = []
        for column in columns:
            values = [member.get(column, float("nan")) for member in members]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        minutes = statistics.mean(member["seconds"] for member in members) / 60
        worst = float("-inf") if study.mode == "max" else float("inf")
        order = statistics.mean(member.get(study.metric, worst) for member in members)
        rows.append((order, f"| {name} | {len(members)} | {' | '.join(cells)} | {minutes:.1f} |"))
    rows.sort(key=lambda row: row[0], reverse=study.mode == "max")
    head = f"| arm | seeds | {' | '.join(columns)} | minutes |\n|---|---|{'---|' * (len(columns) + 1)}"
    return "\n".join([head, *(row for _, row in rows)]) + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m trainers.tune", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="a YAML file of configs/tune/")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="for every arm")
    args = parser.parse_args()
    study = load_study(args.study)
    study.overrides += args.overrides
    folder = open_storage(study.runs_dir).child(study.name)
    with ray_session(min_cpus=2):
        table = run_study(study, folder)
    print(table + f"Table {folder.uri}/{TABLE}")
    return 0


if __name__ == "__main__":
    run_command(main, "Interrupted. Start the same command again to resume the study.")
