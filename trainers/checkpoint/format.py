"""A checkpoint: a directory that needs nothing else to predict, and nothing unpickled to be read.

`model.safetensors` (the weights to predict with: averaged ones where a run averages), `config.yaml`, `vocab.json`, `data.json`
(image policy, output limits, where the data came from), `trainer_state.pt` (loaded with weights_only), `metrics.json`,
`README.md` (the model card) and, written last of all, `checkpoint.json`: sizes and SHA-256 of what nobody edits by hand, the
weights, the state, the vocabulary and the data's description. A directory without it is a part that a lost worker left.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import load, save
from torch import Tensor, nn

from cluster.errors import UserError
from cluster.scratch import scratch_folder
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.dataset.token_targets import MAX_TOKENS
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.preparation.images import ImagePolicy
from data_pipeline.storage.base import Storage, StorageError, open_storage
from data_pipeline.stream.plan import Position
from models import ModelConfig, ModelConfigError, Recognizer, build_model, check_decoding
from trainers.config.checkpoint import CheckpointConfig
from trainers.config.criterion import Criterion
from trainers.config.environment_values import without_missing_variables
from trainers.config.train import ConfigError, TrainConfig, config_from_dict, to_yaml
from trainers.engine.early_stopping import EarlyStoppingConfig
from trainers.tasks.sequence import SequenceTask

WEIGHTS, CONFIG, VOCAB, DATA = "model.safetensors", "config.yaml", "vocab.json", "data.json"
STATE, METRICS, CARD, WHOLE = "trainer_state.pt", "metrics.json", "README.md", "checkpoint.json"
PREFIX = "checkpoint-"
_FILES = {WEIGHTS, CONFIG, VOCAB, DATA, METRICS}  # what prediction needs
_CHECKED = (WEIGHTS, STATE, VOCAB, DATA)


class CheckpointError(UserError):
    """A checkpoint that cannot be used, with the reason."""


@dataclass(frozen=True)
class DataInfo:
    """What a checkpoint knows of its data."""

    dataset: str
    digest: str
    licence: str
    image: ImagePolicy
    max_length: int  # the most tokens of a prediction, <eos> included

    @classmethod
    def of(cls, manifest: Manifest, max_tokens: int = MAX_TOKENS) -> DataInfo:
        """Of a dataset: predictions may be as long as its longest text of at most `max_tokens`, and half as long again."""
        longest = min(max_tokens, max(split.target_stats["max_tokens"] for split in manifest.splits.values()))
        return cls(manifest.name, manifest.digest, manifest.license, manifest.image, longest + longest // 2 + 1)

    def to_json(self) -> bytes:
        """The bytes of `data.json`."""
        return json.dumps({**self.__dict__, "image": self.image.to_json()}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> DataInfo:
        """Read `data.json`."""
        content = json.loads(data)
        content["image"] = ImagePolicy.from_json(content["image"])
        if not isinstance(content["max_length"], int) or content["max_length"] < 1:
            raise ValueError(f"max_length is {content['max_length']!r}")
        return cls(**content)


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A recognizer in evaluation mode, with all that belongs to it."""

    uri: str
    model: Recognizer
    config: TrainConfig
    task: SequenceTask
    data: DataInfo
    metrics: dict[str, Any]


def build_recognizer(config: TrainConfig, task: SequenceTask, data: DataInfo, pretrained: bool = False) -> Recognizer:
    """The network of a configuration for the vocabulary and images of its data, able to decode as configured.

    Weights that the configuration takes from a hub are fetched only with `pretrained`, as a run does when it begins: a
    checkpoint brings its own.

    Raises:
        UserError: the configuration asks for something impossible, by key.
    """
    try:
        model = build_model(config.model if pretrained else without_pretrained(config.model), task.output_spec(data.max_length))
        check_decoding(model, config.decoding)
        return model
    except ModelConfigError as error:
        raise UserError(f"{error}.") from None


def without_pretrained(config: ModelConfig) -> ModelConfig:
    """The same network, that fetches no weights."""
    config = copy.deepcopy(config)
    config.backbone.timm.pretrained = config.backbone.swin.pretrained = False
    return config


@dataclass(frozen=True)
class Snapshot:
    """All that a checkpoint holds, at one moment: what training changes is copied, so it may be written while training goes on.

    `weights` are those to predict with; `state` is what training goes on from, besides the position (its own weights too, where
    `weights` are averages).
    """

    weights: dict[str, Tensor]
    config: TrainConfig
    tokenizer: Tokenizer
    data: DataInfo
    state: dict[str, Any]
    position: Position
    metrics: dict[str, float]
    card: str

    @classmethod
    def take(
        cls,
        network: nn.Module,
        config: TrainConfig,
        tokenizer: Tokenizer,
        data: DataInfo,
        state: dict[str, Any],
        position: Position,
        metrics: dict[str, float],
        card: str,
    ) -> Snapshot:
        """Of the weights of `network` and a `state` whose tensors training may change at its next step."""
        return cls(_copied(network.state_dict()), config, tokenizer, data, _copied(state), position, dict(metrics), card)

    def files(self) -> dict[str, bytes]:
        """The files of the checkpoint by name, in the order of writing: what says that it is whole comes last."""
        state = io.BytesIO()
        torch.save({"position": [self.position.epoch, self.position.samples], "step": self.state}, state)
        files = {
            WEIGHTS: save(self.weights),
            CONFIG: to_yaml(self.config).encode(),
            VOCAB: self.tokenizer.to_json(),
            DATA: self.data.to_json(),
            STATE: state.getvalue(),
            METRICS: json.dumps(self.metrics, indent=1).encode(),
            CARD: self.card.encode(),
        }
        checked = {name: {"bytes": len(files[name]), "sha256": _sha256(files[name])} for name in _CHECKED}
        by = criterion_of(self.config.checkpoint)
        whole = {"files": checked, "metrics": self.metrics, "best_by": [by.metric, by.direction]}
        whole |= {"patience": self.state["patience"]} if "patience" in self.state else {}
        return files | {WHOLE: json.dumps(whole, indent=1).encode()}

    def write(self, folder: Storage) -> None:
        """Write the checkpoint into `folder`, and look that all of it has arrived.

        Raises:
            StorageError: it cannot be written, or did not arrive whole.
        """
        files = self.files()
        for name, content in files.items():
            folder.child(name).write_bytes(content)
        sizes = folder.sizes()
        if any(sizes.get(name) != len(content) for name, content in files.items()):
            raise StorageError(f"'{folder.uri}' was written, but is not there as it was written.", transient=True)


def _copied(value: Any) -> Any:
    """`value` with every tensor in it copied to the host's memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_whole(checkpoint: Storage, *names: str) -> list[bytes]:
    """Files of `checkpoint`, checked; a small one of a checkpoint from before these had sums is taken as it is.

    Raises:
        CheckpointError: one is not what was written.
        StorageError: one cannot be read.
    """
    contents = [checkpoint.child(name).read_bytes() for name in names]
    sums = json.loads(checkpoint.child(WHOLE).read_bytes())["files"]
    for name, content in zip(names, contents, strict=True):
        if (name in sums or name in (WEIGHTS, STATE)) and _sha256(content) != sums[name]["sha256"]:
            raise CheckpointError(
                f"Checkpoint '{checkpoint.uri}' is damaged: the SHA-256 of its {name} is not the one it was written with."
            )
    return contents


@dataclass(frozen=True)
class TrainerState:
    """What a run goes on from: weights to predict with, position, the step's state."""

    weights: dict[str, Tensor]
    position: Position
    step: dict[str, Any]


def load_trainer_state(checkpoint: Storage) -> TrainerState:
    """Read what training goes on from, every byte of it checked; nothing is unpickled.

    Raises:
        CheckpointError: it is damaged.
        StorageError: it cannot be read.
    """
    try:
        state, weights = read_whole(checkpoint, STATE, WEIGHTS)
        content = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
        return TrainerState(load(weights), Position(*content["position"]), content["step"])
    except StorageError as error:
        if error.missing:
            raise CheckpointError(f"Checkpoint '{checkpoint.uri}' is incomplete: {error}") from None
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"Checkpoint '{checkpoint.uri}' is damaged: {error}") from None


def find_checkpoint(uri: str) -> Storage:
    """The checkpoint at `uri`, or the best one (by the run's `checkpoint.metric`, else the last) of the run at `uri`.

    The metric is that of the run's configuration as it is now: one that was changed by a resume holds for all checkpoints.

    Raises:
        CheckpointError: there is none.
    """
    storage = open_storage(uri)
    if WEIGHTS in storage.names():
        return storage
    goodness = whole_checkpoints(storage)
    if not goodness:
        raise CheckpointError(f"No checkpoint at '{uri}': neither {WEIGHTS} nor whole directories {PREFIX}* are there.")
    return storage.child(max(goodness, key=lambda name: (goodness[name], age_order(name))))


def criterion_of(config: CheckpointConfig | EarlyStoppingConfig) -> Criterion:
    """What the checkpoints of a run are compared by, or its patience counts by."""
    return Criterion.of(config.metric, config.mode, SequenceTask.metric_directions)


def age_order(name: str) -> tuple[int, str]:
    """A key that sorts names of checkpoints by their steps, however many digits these have."""
    step = name.removeprefix(PREFIX).partition("-")[0]
    return (int(step) if step.isdecimal() else -1, name)


def whole_checkpoints(run: Storage, criterion: Criterion | None = None) -> dict[str, float]:
    """The checkpoints of a run that were written to their end, oldest first: names, and how good each is by `criterion`.

    Without one it is that of the run's configuration. Those that were not validated are as good as -infinity.
    """
    marks = whole_marks(run)
    if marks and criterion is None:
        metric, mode = list(marks.values())[-1]["best_by"]
        criterion = _criterion_in(run) or Criterion.of(metric, mode, SequenceTask.metric_directions)
    return {name: criterion.goodness(mark["metrics"]) for name, mark in marks.items() if criterion}


def _criterion_in(run: Storage) -> Criterion | None:
    """What the configuration in a run's folder says, whichever other keys it has; None where there is none, or no such keys."""
    try:
        values = OmegaConf.create(run.child(CONFIG).read_bytes().decode())
        section = CheckpointConfig(**{key: values.checkpoint[key] for key in ("metric", "mode")})
    except StorageError as error:
        if error.missing:
            return None
        raise
    except Exception:  # a folder that was put together by hand, or cut short
        return None
    return criterion_of(section)


def whole_marks(run: Storage) -> dict[str, dict[str, Any]]:
    """What the last files of whole checkpoints say, oldest first: `metrics`, `best_by`, and `patience` of early stopping."""
    found = {}
    for name in sorted(run.names(), key=age_order):
        if name.startswith(PREFIX) and run.child(name, WHOLE).exists():
            try:
                mark = json.loads(run.child(name, WHOLE).read_bytes())
                if {"files", "metrics", "best_by"} <= mark.keys():
                    found[name] = mark
            except (ValueError, AttributeError):
                continue  # cut short: as good as not there
    return found


def load_checkpoint(uri: str, device: torch.device | None = None) -> LoadedCheckpoint:
    """Load the recognizer at `uri` (a checkpoint, or a run: its best) for evaluation or prediction.

    Raises:
        CheckpointError: there is none, or it is incomplete, damaged or of an Inkray with other configuration keys.
        StorageError: its storage cannot be read.
    """
    storage = find_checkpoint(uri)
    with _readable(storage):
        config, tokenizer, data = read_description(storage)
        task = SequenceTask(tokenizer, config.loss, config.decoding)
        model = build_recognizer(config, task, data)
        (weights,) = read_whole(storage, WEIGHTS)
        tensors = load(weights)
        try:
            model.load_state_dict(tensors)
        except RuntimeError:
            raise CheckpointError(
                f"Checkpoint '{storage.uri}' is damaged: its {WEIGHTS} is not of the network that its {CONFIG} describes."
            ) from None
        metrics = json.loads(storage.child(METRICS).read_bytes())
    return LoadedCheckpoint(storage.uri, model.to(device or torch.device("cpu")).eval(), config, task, data, metrics)


def read_description(storage: Storage) -> tuple[TrainConfig, Tokenizer, DataInfo]:
    """What a checkpoint is, without its weights: its configuration, its vocabulary and what it knows of its data.

    Raises:
        CheckpointError: it is incomplete, damaged or of an Inkray with other configuration keys.
        StorageError: its storage cannot be read.
    """
    with _readable(storage), scratch_folder("checkpoint") as scratch:
        file = scratch / CONFIG
        file.write_bytes(storage.child(CONFIG).read_bytes())
        vocabulary, data = read_whole(storage, VOCAB, DATA)
        return read_config(file, missing_variables=True), Tokenizer.from_json(vocabulary), DataInfo.from_json(data)


@contextlib.contextmanager
def _readable(storage: Storage) -> Iterator[None]:
    """Inside, what is missing or damaged of a checkpoint is one message."""
    missing = (_FILES | {WHOLE}) - set(storage.names())
    if missing:
        raise CheckpointError(f"Checkpoint '{storage.uri}' is incomplete: it lacks {', '.join(sorted(missing))}.")
    try:
        yield
    except (CheckpointError, StorageError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise CheckpointError(f"Checkpoint '{storage.uri}' is damaged: {reason}") from error


def read_config(file: Path, missing_variables: bool = False) -> TrainConfig:
    """The configuration that a checkpoint or run carries; with `missing_variables` also where what it names is not set."""
    values = OmegaConf.to_container(OmegaConf.load(file))
    values = without_missing_variables(values) if missing_variables else values
    if not isinstance(values, dict):
        raise ConfigError(f"its {CONFIG} is not a mapping of keys to values")
    return config_from_dict({str(key): value for key, value in values.items()}, f"its {CONFIG}")
