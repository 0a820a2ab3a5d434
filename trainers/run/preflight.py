"""Preflight: all that can be wrong with a run and can be known before a worker starts, checked once."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

import torch

from cluster.errors import UserError
from data_pipeline.augmentation.check import check_augmentation
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.storage.base import Storage
from data_pipeline.stream.cache import open_cache
from trainers.checkpoint.format import COMPLETE, CheckpointError
from trainers.checkpoint.load import open_checkpoint
from trainers.checkpoint.select import marks_of
from trainers.checkpoint.warm_start import warm_start
from trainers.config.criterion import AUTO, Criterion, Directions, Mode, require_metric
from trainers.config.train import TrainConfig
from trainers.distributed.context import WorkerContext
from trainers.engine.run_spec import DataSources, RunSpec
from trainers.optim import Freezing
from trainers.prediction.columns import require_own_columns
from trainers.report.packages import require_report_packages
from trainers.run.directory import open_run
from trainers.run.resume import require_same_data, resume_notes
from trainers.tasks import TASKS, Task
from trainers.tasks.metrics.base import reported_groups, reported_metrics


def preflight(config: TrainConfig, run: Storage | None = None) -> RunSpec:
    """Check a run, and hand on what was read for it; `run` is the folder of one that is resumed.

    That folder still has the configuration of before. Nothing in it changes: `directory.keep_config` does that afterwards.

    Raises:
        UserError: packages, dataset, splits, vocabulary, network or weights, by name; or the run cannot be resumed so.
    """
    if config.report.enabled:
        require_report_packages()
    dataset = open_dataset(config.data.dataset)
    manifest = dataset.manifest
    config = copy.copy(config)  # not `replace`: what it remembers of the environment goes with it
    config.data = config.data.with_fold(manifest.folds, manifest.splits)
    _require_splits(config, dataset)
    task = _task_of(dataset, config)
    marks = {} if run is None else marks_of(run)
    damaged = [name for name, mark in marks.items() if mark is None]
    fresh = len(damaged) == len(marks)
    notes = [f"Checkpoint '{name}' is damaged (its {COMPLETE}): it is left out." for name in damaged]
    if run is not None and fresh and damaged:  # to train from the beginning would remove them
        raise CheckpointError(f"All {len(damaged)} checkpoints of '{run.uri}' are damaged (their {COMPLETE}). Start a new run.")
    if run is not None and not fresh:
        require_same_data(run, dataset, task, config)
        notes += resume_notes(run, open_run(run.uri, missing_variables=True)[1], config, task)
    groups = _groups(dataset, config)
    if config.data.val_split:  # without a validation there is no choice
        reported = reported_metrics(task.reported_directions, "val", groups)
        for section, part in (("checkpoint", config.checkpoint), ("early_stopping", config.early_stopping)):
            _require_reported(section, part.metric, part.mode, reported, config)
    source = open_checkpoint(config.init.checkpoint) if fresh and config.init.checkpoint else None
    check_augmentation(config.stream.augmentation, manifest.image)
    spec = RunSpec(config, dataset, task, groups, source)
    _check_streams(spec)
    notes += _check_network(spec, fresh)
    open_cache(config.stream.cache)  # what cannot be used is an error now; one in memory is cleared when this process ends
    return RunSpec(config, dataset, task, groups, source, tuple(notes))


def criterion_for(spec: RunSpec, metric: str, mode: Mode) -> Criterion:
    """The criterion that a metric of a run's validation is, for a study that compares runs by it.

    Raises:
        UserError: the metric is none of those that the validation reports, the mode contradicts it, or nothing is validated.
    """
    metric = f"val/{spec.task.main_metric}" if metric == AUTO else metric
    if not spec.config.data.val_split:
        raise UserError(f"data.val_split is empty: nothing is validated, so there is no {metric} to compare by.")
    _require_reported("", metric, mode, reported_metrics(spec.task.reported_directions, "val", spec.groups), spec.config)
    return Criterion.of(metric, mode, spec.task.directions)


def _task_of(dataset: Dataset, config: TrainConfig) -> Task:
    manifest = dataset.manifest
    if manifest.task not in TASKS:
        raise UserError(
            f"Dataset '{dataset.storage.uri}' is for task '{manifest.task}', which is none of those that there are: "
            f"{', '.join(TASKS)}."
        )
    task = TASKS[manifest.task].from_dataset(manifest, config)
    require_own_columns(task)
    return task


def _groups(dataset: Dataset, config: TrainConfig) -> tuple[str, ...]:
    """The sources of the validation split whose metrics are reported apart; reads that column alone."""
    split = config.data.val_split
    if not split or config.tracking.max_sources < 1:
        return ()
    return groups_of(read_split(dataset, split, ["source"]).column("source").to_pylist(), config)


def groups_of(sources: Sequence[str], config: TrainConfig) -> tuple[str, ...]:
    """The groups that are reported apart, from the source of every row."""
    return reported_groups(Counter(sources), config.tracking.max_sources)


def _require_reported(section: str, metric: str, mode: Mode, reported: Directions, config: TrainConfig) -> None:
    if metric != AUTO:
        require_metric(section, metric, mode, reported, config.data.val_split)


def _check_streams(spec: RunSpec) -> None:
    """Check that a window and a batch fit into stream.memory_mb."""
    workers = spec.config.scaling.num_train_workers
    sources = DataSources(spec, WorkerContext(0, workers, torch.device("cpu"), execution=spec.config.stream.execution))
    sources.training()
    sources.evaluation(spec.config.data.val_split)


def _check_network(spec: RunSpec, fresh: bool) -> list[str]:
    """Check that the network takes the dataset's images and can start as configured; returns what is doubtful."""
    config, policy = spec.config, spec.dataset.manifest.image
    section = spec.task.model_section
    channels = getattr(config, section).in_channels
    if policy.channels not in (1, channels):  # gray may stand for all channels
        raise UserError(
            f"{section}.in_channels={channels}, but the images of '{config.data.dataset}' are "
            f"{policy.color}: set {section}.in_channels={policy.channels}."
        )
    with torch.device("meta"):
        model = spec.task.build_model()
    # Tensors that a check makes have values: the network alone is without.
    notes = spec.task.check_dataset(spec.dataset, config.data.train_split, model)
    Freezing(model, config.optim.freeze)  # its patterns match
    if spec.warm_start is not None:
        warm_start(model, spec.task, config.init, spec.warm_start)  # only whether it can be done
    if fresh and spec.task.pretrained:
        spec.task.build_model(pretrained=True)  # weights of a hub that are missing are an error now
    return notes


def _require_splits(config: TrainConfig, dataset: Dataset) -> None:
    """Check that every split that the configuration names has rows; those that a run can do without can be left out."""
    manifest, wrong, without = dataset.manifest, [], []
    for key in ("train_split", "val_split", "test_split"):
        name = getattr(config.data, key)
        missing = manifest.missing_splits(name) if name else []
        if name and (missing or not manifest.split(name).rows):
            wrong.append(f"data.{key}={name}: the dataset has {'no' if missing else 'an empty'} split of this name")
            without += [f"data.{key}="] if key != "train_split" else []
    if wrong:
        filled = ", ".join(name for name, split in manifest.splits.items() if split.rows)
        leave_out = f" To do without, leave the value empty: {' '.join(without)}" if without else ""
        if manifest.folds and config.data.fold < 0:
            leave_out = " Name the fold to validate on, as in data.fold=0: the others are trained on."
        raise UserError(f"{'; '.join(wrong)}. Splits of '{config.data.dataset}' with rows: {filled or 'none'}.{leave_out}")
