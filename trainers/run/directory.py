"""The folder of a run: made for a new one, opened for one that is resumed, its configuration kept up to date."""

from __future__ import annotations

import datetime
import uuid

from data_pipeline.storage.base import Storage, open_storage
from trainers.checkpoint.format import CONFIG, CheckpointError
from trainers.checkpoint.load import read_config
from trainers.config.load import ConfigError, to_yaml
from trainers.config.train import TrainConfig
from trainers.distributed.micro_batch import FILE as MICRO_BATCH


def new_run(config: TrainConfig) -> Storage:
    """The folder of a new run below `config.runs_dir`, its configuration in it: what cannot be written is an error now."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    run = open_storage(config.runs_dir).child(f"{config.name}-{stamp}-{uuid.uuid4().hex[:4]}")
    run.child(CONFIG).write_bytes(to_yaml(config).encode())
    return run


def open_run(uri: str, missing_variables: bool = False) -> tuple[Storage, TrainConfig]:
    """The folder and the configuration of the run at `uri`.

    Raises:
        CheckpointError: there is none.
    """
    run = open_storage(uri)
    if not run.child(CONFIG).exists():
        raise CheckpointError(f"No run at '{uri}': there is no {CONFIG}. Give the folder that the run printed at its start.")
    try:
        return run, read_config(run.child(CONFIG).read_bytes(), missing_variables)
    except ConfigError as error:
        raise ConfigError(f"Run '{uri}': {error}") from None


def keep_config(run: Storage, config: TrainConfig) -> None:
    """Write `config` into the folder of `run`, if it differs from the one that is there."""
    _, before = open_run(run.uri, missing_variables=True)  # in a trial, what was looked up stands in `config`
    if config != before:
        if config.compute.micro_batch_size != before.compute.micro_batch_size:
            run.child(MICRO_BATCH).delete()  # what was found under the other size
        run.child(CONFIG).write_bytes(to_yaml(config).encode())
