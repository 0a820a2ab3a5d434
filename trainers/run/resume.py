"""Resuming a run: with the data, the order and the network that it was begun with; what will differ is said first."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import OmegaConf

from data_pipeline.dataset.manifest import Dataset, DatasetError
from data_pipeline.storage.base import Storage
from trainers.checkpoint.format import DATA, CheckpointError, DataInfo
from trainers.checkpoint.select import complete_checkpoints, completion_marks
from trainers.config.criterion import Criterion
from trainers.config.load import ConfigError, merge_overrides
from trainers.config.train import TrainConfig
from trainers.engine.early_stopping import EarlyStopping
from trainers.tasks import Task
from trainers.tasks.criterion import criterion_of

# What the samples' order, the weights, the optimizer's state and the meaning of what was validated follow from.
FIXED = (
    "seed",
    "global_batch_size",
    "model",
    "classifier",
    "loss",
    "label_loss",
    "mixup",
    "scheduled_sampling",
    "optim",
    "weight_averaging",
    "data.train_split",
    "data.val_split",
    "data.fold",
    "tracking.max_sources",
    "stream.window_row_groups",
    "stream.batch_pixels",
    "stream.augmentation",
    "stream.max_tokens",
)


def change_config(config: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """The configuration of a run with overrides: where and how long it runs may change, not what it is.

    Nothing is written: `directory.keep_config` does that once all else about the run has been checked.

    Raises:
        ConfigError: an override of a key that must stay, by name.
    """
    changed = merge_overrides(config, overrides, "the command line")
    before, after = OmegaConf.structured(config), OmegaConf.structured(changed)
    for key in FIXED:
        if OmegaConf.select(before, key) != OmegaConf.select(after, key):
            raise ConfigError(f"'{key}' cannot change when a run is resumed: it would not be the same run. Start a new one.")
    return changed


def require_same_data(run: Storage, dataset: Dataset, task: Task, config: TrainConfig) -> None:
    """Check that `dataset` is the one that the checkpoints of `run` were trained on, if it has any.

    Raises:
        UserError: it is of another task; its outputs (the tokens of its vocabulary) are others, with the difference; or its
            shards are; or what the checkpoints say of it is damaged.
    """
    damaged: CheckpointError | None = None
    for name, mark in completion_marks(run).items():
        checkpoint = run.child(name)
        if mark.get("task", task.name) != task.name:
            raise DatasetError(
                f"'{run.uri}' was trained for task '{mark['task']}', dataset '{dataset.storage.uri}' is of task '{task.name}': "
                "it would not be the same run. Start a new one."
            )
        if not {task.file, DATA} <= set(checkpoint.names()):
            continue  # put together by hand
        content = [checkpoint.child(part).read_bytes() for part in (DATA, task.file)]
        try:
            data = DataInfo.from_json(content[0])
            saved = type(task).from_checkpoint(content[1], data.limits, config)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            damaged = CheckpointError(f"Checkpoint '{checkpoint.uri}' is damaged: its {DATA} or {task.file} ({error!r}).")
            continue  # another one tells as well
        saved.require_same(task, f"checkpoint '{name}'", f"dataset '{dataset.storage.uri}'")
        if data.digest != dataset.manifest.digest:
            raise DatasetError(
                f"Dataset '{dataset.storage.uri}' ({dataset.manifest.digest[:19]}) is not the one that '{run.uri}' was begun "
                f"with ({data.digest[:19]}): samples would be missed or seen twice. Start a new run."
            )
        return
    if damaged is not None:
        raise damaged


def resume_notes(run: Storage, before: TrainConfig, after: TrainConfig, task: Task) -> list[str]:
    """Warnings about a run that is resumed as `after`, having been trained as `before`; for a new one, none.

    Patience that has run out stays so: a run that ended early is trained further with `early_stopping.patience=0`, a larger
    patience, or another metric, of which nothing has been counted yet.

    Raises:
        ConfigError: more epochs are asked for, but patience has run out.
    """
    marks = completion_marks(run)
    if not marks:
        return []
    mark = list(marks.values())[-1]
    epochs_done = int(mark["metrics"].get("epoch", 0))
    stopping = after.early_stopping
    criterion = criterion_of(stopping, task)
    patience = EarlyStopping(stopping, criterion)
    notes = []
    if not patience.load_state_dict(mark.get("patience", {})) and stopping.patience:
        notes.append(
            f"early_stopping counts {criterion.metric} from here on: what was counted before was by another metric, mode or "
            "min_delta, or it is not known by which."
        )
    best_by = criterion_of(after.checkpoint, task)
    if criterion_of(before.checkpoint, task) != best_by:
        notes.append(
            f"checkpoint.metric={best_by.metric}: the best of the checkpoints that are kept is chosen by it: "
            f"{_best(run, best_by)}."
        )
    if patience.due:
        since = f"{patience.epochs_since} validation{'s' * (patience.epochs_since > 1)}"
        reason = (
            f"'{run.uri}' ended early after {epochs_done} epochs: {since} in a row had no better {criterion.metric}, "
            f"and early_stopping.patience={stopping.patience} has run out"
        )
        way_out = f"Set early_stopping.patience=0, or above {patience.epochs_since}, to train on."
        if after.epochs > before.epochs:
            raise ConfigError(f"epochs={after.epochs} would train nothing. {reason}. {way_out}")
        notes.append(f"nothing is trained. {reason}. {way_out}")
    elif epochs_done >= after.epochs:
        notes.append(
            f"all {after.epochs} epochs are done: what is left is the evaluation. Set epochs above {epochs_done} to train on."
        )
    return notes


def _best(run: Storage, criterion: Criterion) -> str:
    ranks = complete_checkpoints(run, criterion)
    best = max(ranks, key=lambda name: ranks[name])
    return best if ranks[best] > float("-inf") else "none has it yet"
