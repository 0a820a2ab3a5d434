"""Checkpoints to predict with: described once, loaded wherever they are used.

checkpoint = open_checkpoint("runs/formulas-20261120-181500-1a2b")
model = load_model(checkpoint)
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import load
from yaml import YAMLError

from cluster.errors import UserError
from data_pipeline.storage.base import Storage, StorageError
from trainers.checkpoint.format import (
    COMPLETE,
    CONFIG,
    DATA,
    METRICS,
    WEIGHTS,
    CheckpointError,
    DataInfo,
    sha256,
)
from trainers.checkpoint.select import find_checkpoint
from trainers.config.environment_values import without_missing_variables
from trainers.config.load import ConfigError, config_from_dict, merge_overrides
from trainers.config.train import TrainConfig
from trainers.tasks import TASKS, Task

_WAY_OUT = "Copy it again from where it is whole; or remove it: of its run, the best of the others is then taken."


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint without its weights: where it lies, how it was made, and what it predicts. It pickles.

    `weights_sha256` is that of the weights which are meant; `digest` that of all that predictions depend on.
    """

    storage: Storage
    config: TrainConfig
    task: Task
    data: DataInfo
    weights_sha256: str
    digest: str

    @property
    def uri(self) -> str:
        """Where it lies."""
        return self.storage.uri

    @property
    def options(self) -> dict[str, Any]:
        """How it predicts: the section of its configuration that `with_options` changes."""
        return asdict(getattr(self.config, self.task.options)) if self.task.options else {}

    def with_options(self, overrides: Sequence[str]) -> Checkpoint:
        """The same checkpoint that predicts in another way: `["decoding.method=beam"]`, or `["labeling=tuned.yaml"]`, a file.

        Raises:
            UserError: a key that is none of the task's options, a bad value, or a way that the network has no head for.
        """
        section = self.task.options
        for override in overrides:
            if not section or not override.startswith((f"{section}.", f"{section}=")):
                allowed = (
                    f"only {section}.* can be changed here, or {section}=FILE.yaml" if section else "no key can be changed here"
                )
                raise UserError(f"'{override}': {allowed}.")
        if not overrides:
            return self
        changed = self._configured(merge_overrides(self.config, overrides, "the command line"))
        with torch.device("meta"):
            changed.task.build_model()
        return changed

    def with_options_of(self, config: TrainConfig) -> Checkpoint:
        """The same checkpoint that predicts as `config` says, which is that of its run, checked already."""
        section = self.task.options
        if not section or getattr(self.config, section) == getattr(config, section):
            return self
        own = copy.copy(self.config)
        setattr(own, section, getattr(config, section))
        return self._configured(own)

    def _configured(self, config: TrainConfig) -> Checkpoint:
        task = type(self.task).from_checkpoint(self.task.to_bytes(), self.data.limits, config)
        return replace(self, config=config, task=task)


def open_checkpoint(uri: str) -> Checkpoint:
    """The checkpoint at `uri`, or the best of the run there.

    Raises:
        CheckpointError: there is none, or it is incomplete, damaged or of an Inkray with other configuration keys.
        StorageError: its storage cannot be read.
    """
    storage = find_checkpoint(uri)
    with _readable(storage):
        mark = json.loads(storage.child(COMPLETE).read_bytes())
        sums = {name: part["sha256"] for name, part in mark["files"].items()}
        described = storage.child(DATA).read_bytes()
        data = DataInfo.from_json(_checked(storage, DATA, described, sums))
        if data.task not in TASKS:
            raise CheckpointError(
                f"Checkpoint '{storage.uri}' is of task '{data.task}', which this Inkray does not have: {', '.join(TASKS)}."
            )
        kind = TASKS[data.task]
        if kind.file not in storage.names():
            raise CheckpointError(f"Checkpoint '{storage.uri}' is incomplete: it lacks {kind.file}.")
        outputs = _checked(storage, kind.file, storage.child(kind.file).read_bytes(), sums)
        written = storage.child(CONFIG).read_bytes()
        config = read_config(written, missing_variables=True)
        rest = [sha256(content) for content in (written, outputs, described)]
        digest = "sha256:" + hashlib.sha256(json.dumps([sums[WEIGHTS], *rest], sort_keys=True).encode()).hexdigest()
        task = kind.from_checkpoint(outputs, data.limits, config)
    return Checkpoint(storage, config, task, data, sums[WEIGHTS], digest)


def load_model(checkpoint: Checkpoint, device: torch.device | None = None) -> Any:
    """The network of a checkpoint with its weights, in evaluation mode.

    Raises:
        CheckpointError: its weights are damaged, of another network, or were replaced or removed since it was opened.
        StorageError: its storage cannot be read.
    """
    storage = checkpoint.storage
    if not storage.names():
        raise CheckpointError(
            f"Checkpoint '{storage.uri}' was removed while it was in use: a run that trains keeps its best and its last ones "
            "alone. Start again."
        )
    with _readable(storage):
        content = storage.child(WEIGHTS).read_bytes()
        if sha256(content) != checkpoint.weights_sha256:
            now = json.loads(storage.child(COMPLETE).read_bytes())["files"][WEIGHTS]["sha256"]
            if now != checkpoint.weights_sha256:
                raise CheckpointError(f"Checkpoint '{storage.uri}' was replaced by another while it was in use. Start again.")
            raise _damaged(storage, WEIGHTS)
        model = checkpoint.task.build_model()
        try:
            model.load_state_dict(load(content))
        except RuntimeError:
            raise CheckpointError(
                f"Checkpoint '{storage.uri}' is damaged: its {WEIGHTS} is not of the network that its {CONFIG} describes."
            ) from None
    return model.to(device or torch.device("cpu")).eval()


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint and its network, in evaluation mode."""

    checkpoint: Checkpoint
    model: Any

    @property
    def uri(self) -> str:
        """Where the checkpoint lies."""
        return self.checkpoint.uri

    @property
    def task(self) -> Task:
        """What it predicts."""
        return self.checkpoint.task

    @property
    def data(self) -> DataInfo:
        """What it knows of its data."""
        return self.checkpoint.data


def load_checkpoint(uri: str, device: torch.device | None = None) -> LoadedCheckpoint:
    """Open and load the checkpoint at `uri`, or the best of the run there. Raises as `open_checkpoint` and `load_model`."""
    checkpoint = open_checkpoint(uri)
    return LoadedCheckpoint(checkpoint, load_model(checkpoint, device))


def _checked(storage: Storage, name: str, content: bytes, sums: dict[str, str]) -> bytes:
    """The content of a small file; one of a checkpoint from before these had sums is taken as it is."""
    if name in sums and sha256(content) != sums[name]:
        raise _damaged(storage, name)
    return content


def _damaged(storage: Storage, name: str) -> CheckpointError:
    return CheckpointError(
        f"Checkpoint '{storage.uri}' is damaged: the SHA-256 of its {name} is not the one it was written with. {_WAY_OUT}"
    )


@contextlib.contextmanager
def _readable(storage: Storage) -> Iterator[None]:
    """Inside, what is missing or damaged of a checkpoint is one message."""
    missing = {WEIGHTS, CONFIG, DATA, METRICS, COMPLETE} - set(storage.names())
    if missing:
        raise CheckpointError(f"Checkpoint '{storage.uri}' is incomplete: it lacks {', '.join(sorted(missing))}.")
    try:
        yield
    except (CheckpointError, StorageError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        reason = f"its {COMPLETE} lacks {reason}" if isinstance(error, KeyError) else reason
        raise CheckpointError(f"Checkpoint '{storage.uri}' is damaged: {reason.rstrip('.')}. {_WAY_OUT}") from error


def read_config(content: bytes, missing_variables: bool = False) -> TrainConfig:
    """The configuration that a checkpoint or run carries; with `missing_variables` also where what it names is not set.

    Raises:
        ConfigError: it is none, or of an Inkray with other keys.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.create(content.decode()))
    except (UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"its {CONFIG} cannot be read: {' '.join(str(error).split())[:200]}") from None
    values = without_missing_variables(values) if missing_variables else values
    if not isinstance(values, dict) or not values:  # an empty file would be all defaults
        raise ConfigError(f"its {CONFIG} is not a mapping of keys to values")
    return config_from_dict({str(key): value for key, value in values.items()}, f"its {CONFIG}")
