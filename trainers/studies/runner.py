"""Runs the arms of a study in parallel through Ray Tune, each as the same training run as `trainers.train`."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

from ray import tune

from cluster.errors import UserError, user_error_in
from cluster.redaction import redact
from cluster.session import ray_session
from data_pipeline.storage.base import Storage
from data_pipeline.storage.claim import claim
from data_pipeline.storage.lease import DEAD_AFTER_S, RENEW_S
from trainers.checkpoint.format import CONFIG, PREFIX
from trainers.config.criterion import Criterion
from trainers.config.load import ConfigError, to_yaml
from trainers.config.train import TrainConfig
from trainers.engine.run_spec import RunSpec
from trainers.run.launch_ray import launch_ray
from trainers.run.preflight import criterion_for, preflight
from trainers.studies.arms import Arm, StudyConfig, arm_config, arms_of
from trainers.studies.table import FAILED, RESULT, outcome_of, result_table, save_failure, save_result
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
    configs = _configs(study, arms, folder)
    specs = {arm.key: _checked(configs[arm.key], folder.child(arm.key)) for arm in arms}
    criteria = [criterion_for(spec, study.metric, study.mode) for spec in specs.values()]
    criterion = criteria[0]
    task = next(iter(specs.values())).task
    with claim(folder, "study") as own:
        if own.taken_over:
            print(own.taken_over, flush=True)
        for arm in arms:
            _require_same_arm(folder.child(arm.key), specs[arm.key].config)
        missing = [arm for arm in arms if not folder.child(arm.key, RESULT).exists()]
        print(f"Study {folder.uri}: {len(arms)} runs, {len(arms) - len(missing)} finished already", flush=True)
        if missing:
            with ray_session(min_cpus=2):
                _train(study, folder, missing, specs, criterion)
        outcomes = {arm.key: outcome_of(folder.child(arm.key), criterion) for arm in arms}
        table = result_table(criterion, task.headlines, arms, outcomes)
        folder.child(TABLE).write_bytes(redact(table).encode())
    return table, {key: outcome.reason for key, outcome in outcomes.items() if outcome.reason}


def _configs(study: StudyConfig, arms: list[Arm], folder: Storage) -> dict[str, TrainConfig]:
    """The configuration of each arm; the mistakes in all of them are one error."""
    configs, problems = {}, []
    for arm in arms:
        try:
            configs[arm.key] = arm_config(study, arm, folder.uri)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(" ".join(dict.fromkeys(problems)))
    return configs


def _checked(config: TrainConfig, run: Storage) -> RunSpec:
    """The spec of an arm; one that has finished is not resumed."""
    return preflight(config, None if run.child(RESULT).exists() else run)


def _require_same_arm(run: Storage, config: TrainConfig) -> None:
    """What a folder holds of an arm must be of this configuration, else metrics of two would stand in one table."""
    if not run.child(CONFIG).exists() or run.child(CONFIG).read_bytes().decode() == to_yaml(config):
        return
    if run.child(RESULT).exists() or any(name.startswith(PREFIX) for name in run.names()):
        raise UserError(
            f"'{run.uri}' was trained with another configuration (see its {CONFIG}). Rename the study, or remove it."
        )


def _train(study: StudyConfig, folder: Storage, arms: list[Arm], specs: dict[str, RunSpec], criterion: Criterion) -> None:
    """Train `arms`, each to a record in its folder; of those whose process was lost the record is made here."""
    concurrent = min(study.max_concurrent, len(arms))
    trial = tune.with_parameters(_trial, folder=folder, concurrent=concurrent, criterion=criterion, specs=specs)
    texts = {arm.key: to_yaml(specs[arm.key].config) for arm in arms}
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
    parameters: dict[str, Any], folder: Storage, concurrent: int, criterion: Criterion, specs: dict[str, RunSpec]
) -> None:
    """Train an arm, in a process of Ray Tune; whatever ends it stands in its record."""
    key, text = parameters["arm"]
    run, console = folder.child(key), Console(open_log())

    def report(row: dict[str, float]) -> None:
        if criterion.metric in row:
            shown = {h.label: h.text(row[f"val/{h.key}"]).strip() for h in specs[key].task.headlines if f"val/{h.key}" in row}
            tune.report({**row, "arm_name": key, "metric": criterion.metric, "headlines": shown})

    try:
        with claim(run, "training run", CLAIM_WAIT_S) as own:
            run.child(CONFIG).write_bytes(text.encode())
            result = launch_ray(specs[key], run, console, report, concurrent, own)
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
        metric = result["metric"]
        headlines = " ".join(f"{label} {value}" for label, value in result["headlines"].items())
        print(f"{result['arm_name']} epoch {result['epoch']:.0f} {metric} {result[metric]:.4f} {headlines}", flush=True)
