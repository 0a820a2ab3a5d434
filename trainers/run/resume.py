"""A run that is resumed: with the data, the order and the network that it was begun with."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import OmegaConf

from cluster.scratch import scratch_folder
from data_pipeline.dataset.manifest import Dataset, DatasetError
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.storage.base import Storage, open_storage
from trainers.checkpoint.format import CONFIG, DATA, PREFIX, VOCAB, CheckpointError, DataInfo, read_config
from trainers.config.load import ConfigError, merge_overrides, to_yaml
from trainers.config.train import TrainConfig
from trainers.distributed.micro_batch import FILE as MICRO_BATCH

# What the samples' order, the weights, the optimizer's state and the meaning of what was validated follow from.
FIXED = (
    "seed",
    "global_batch_size",
    "model",
    "loss",
    "scheduled_sampling",
    "optim",
    "weight_averaging",
    "data.train_split",
    "data.val_split",
    "tracking.max_sources",
    "stream.window_row_groups",
    "stream.batch_pixels",
    "stream.augmentation",
    "stream.max_tokens",
)


def open_run(uri: str, missing_variables: bool = False) -> tuple[Storage, TrainConfig]:
    """The folder and the configuration of the run at `uri`.

    Raises:
        CheckpointError: there is none.
    """
    run = open_storage(uri)
    if not run.child(CONFIG).exists():
        raise CheckpointError(f"No run at '{uri}': there is no {CONFIG}. Give the folder that the run printed at its start.")
    with scratch_folder("resume") as scratch:
        file = scratch / CONFIG
        file.write_bytes(run.child(CONFIG).read_bytes())
        return run, read_config(file, missing_variables)


def change_config(config: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """The configuration of a run with overrides: where and how long it runs may change, not what it is.

    Nothing is written: `keep_config` does that once all else about the run has been checked.

    Raises:
        ConfigError: an override of a key that must stay, by name.
    """
    changed = merge_overrides(config, overrides, "the command line")
    before, after = OmegaConf.structured(config), OmegaConf.structured(changed)
    for key in FIXED:
        if OmegaConf.select(before, key) != OmegaConf.select(after, key):
            raise ConfigError(f"'{key}' cannot change when a run is resumed: it would not be the same run. Start a new one.")
    return changed


def keep_config(run: Storage, config: TrainConfig) -> None:
    """Write `config` into the folder of `run`, if it is another than the one that is there."""
    _, before = open_run(run.uri, missing_variables=True)  # in a trial, what was looked up stands in `config`
    if config != before:
        if config.compute.micro_batch_size != before.compute.micro_batch_size:
            run.child(MICRO_BATCH).delete()  # what was found under the other size
        run.child(CONFIG).write_bytes(to_yaml(config).encode())


def require_same_data(run: Storage, dataset: Dataset) -> None:
    """Check that `dataset` is the one that the checkpoints of `run` were trained on, if it has any.

    Raises:
        VocabularyMismatch: its tokens are others: the difference.
        DatasetError: its shards are others.
    """
    for name in (name for name in run.names() if name.startswith(PREFIX)):
        checkpoint = run.child(name)
        if not {VOCAB, DATA} <= set(checkpoint.names()):
            continue  # a part that a lost worker left
        saved = Tokenizer.from_json(checkpoint.child(VOCAB).read_bytes())
        saved.require_same(Tokenizer(dataset.manifest.charset), f"checkpoint '{name}'", f"dataset '{dataset.storage.uri}'")
        digest = DataInfo.from_json(checkpoint.child(DATA).read_bytes()).digest
        if digest != dataset.manifest.digest:
            raise DatasetError(
                f"Dataset '{dataset.storage.uri}' ({dataset.manifest.digest[:19]}) is not the one that '{run.uri}' was begun "
                f"with ({digest[:19]}): samples would be missed or seen twice. Start a new run."
            )
        return
