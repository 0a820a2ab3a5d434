"""A checkpoint: a directory that needs nothing else to predict, and nothing unpickled to be read.

`model.safetensors`, `config.yaml`, `vocab.json`, `data.json` (image policy, output limits, where the data came from),
`trainer_state.pt` (loaded with weights_only), `metrics.json`, `README.md` (the model card).
"""

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

from cluster.errors import UserError
from data_pipeline.images import ImagePolicy
from data_pipeline.manifest import Manifest
from data_pipeline.storage import Storage, StorageError, open_storage
from data_pipeline.stream.plan import Position
from data_pipeline.tokenizer import Tokenizer
from models import ModelConfig, ModelConfigError, Recognizer, build_model, check_decoding
from trainers.config import ConfigError, TrainConfig, config_from_dict, to_yaml
from trainers.task import SequenceTask

WEIGHTS, CONFIG, VOCAB, DATA = "model.safetensors", "config.yaml", "vocab.json", "data.json"
STATE, METRICS, CARD = "trainer_state.pt", "metrics.json", "README.md"
PREFIX = "checkpoint-"
_FILES = {WEIGHTS, CONFIG, VOCAB, DATA, METRICS}  # what prediction needs


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
    def of(cls, manifest: Manifest) -> DataInfo:
        """Of a dataset: predictions may be as long as its longest text, and half as long again."""
        longest = max(split.max_tokens for split in manifest.splits.values())
        return cls(manifest.name, manifest.digest, manifest.licence, manifest.image, longest + longest // 2 + 1)

    def to_json(self) -> bytes:
        """The bytes of `data.json`."""
        return json.dumps({**self.__dict__, "image": self.image.to_json()}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> DataInfo:
        """Read `data.json`."""
        content = json.loads(data)
        content["image"] = ImagePolicy(**content["image"])
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


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    config: TrainConfig,
    tokenizer: Tokenizer,
    data: DataInfo,
    state: dict[str, Any],
    position: Position,
    metrics: dict[str, float],
    card: str,
) -> None:
    """Write a checkpoint into the empty local `folder`."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    (folder / CONFIG).write_text(to_yaml(config))
    (folder / VOCAB).write_bytes(tokenizer.to_json())
    (folder / DATA).write_bytes(data.to_json())
    torch.save({"position": [position.epoch, position.samples], "step": state}, folder / STATE)
    (folder / METRICS).write_text(json.dumps(metrics, indent=1))
    (folder / CARD).write_text(card)


def load_trainer_state(folder: Path) -> tuple[Position, dict[str, Any], dict[str, float]]:
    """Position, state of the step and last metrics of a checkpoint in a local folder."""
    content = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    return Position(*content["position"]), content["step"], json.loads((folder / METRICS).read_text())


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights of a checkpoint in a local folder, strictly."""
    model.load_state_dict(load_file(folder / WEIGHTS))


def find_checkpoint(uri: str) -> Storage:
    """The checkpoint at `uri`, or the best one (by `val/score`, else the last) of the run at `uri`.

    Raises:
        CheckpointError: there is none.
    """
    storage = open_storage(uri)
    names = storage.names()
    if WEIGHTS in names:
        return storage
    scored = []
    for name in names:
        if name.startswith(PREFIX) and _FILES | {STATE} <= set(storage.child(name).names()):  # a part may be left over
            metrics = json.loads(storage.child(name, METRICS).read_bytes())
            scored.append((metrics.get("val/score", -1.0), name))
    if not scored:
        raise CheckpointError(f"No checkpoint at '{uri}': neither {WEIGHTS} nor whole directories {PREFIX}* are there.")
    return storage.child(max(scored)[1])


def load_checkpoint(uri: str, device: torch.device | None = None) -> LoadedCheckpoint:
    """Load the recognizer at `uri` (a checkpoint, or a run: its best) for evaluation or prediction.

    Raises:
        CheckpointError: there is none, or it is incomplete, damaged or of an Inkray with other configuration keys.
        StorageError: its storage cannot be read.
    """
    storage = find_checkpoint(uri)
    with _readable(storage), tempfile.TemporaryDirectory(prefix="inkray-") as scratch:
        folder = Path(scratch)
        config, tokenizer, data = read_description(storage)
        for name in (WEIGHTS, METRICS):
            (folder / name).write_bytes(storage.child(name).read_bytes())
        task = SequenceTask(tokenizer, config.loss, config.decoding)
        model = build_recognizer(config, task, data)
        load_weights(model, folder)
        metrics = json.loads((folder / METRICS).read_text())
    return LoadedCheckpoint(storage.uri, model.to(device or torch.device("cpu")).eval(), config, task, data, metrics)


def read_description(storage: Storage) -> tuple[TrainConfig, Tokenizer, DataInfo]:
    """What a checkpoint is, without its weights: its configuration, its vocabulary and what it knows of its data.

    Raises:
        CheckpointError: it is incomplete, damaged or of an Inkray with other configuration keys.
        StorageError: its storage cannot be read.
    """
    with _readable(storage), tempfile.TemporaryDirectory(prefix="inkray-") as scratch:
        file = Path(scratch) / CONFIG
        file.write_bytes(storage.child(CONFIG).read_bytes())
        tokenizer = Tokenizer.from_json(storage.child(VOCAB).read_bytes())
        return read_config(file), tokenizer, DataInfo.from_json(storage.child(DATA).read_bytes())


@contextlib.contextmanager
def _readable(storage: Storage) -> Iterator[None]:
    """Inside, what is missing or damaged of a checkpoint is one message."""
    missing = _FILES - set(storage.names())
    if missing:
        raise CheckpointError(f"Checkpoint '{storage.uri}' is incomplete: it lacks {', '.join(sorted(missing))}.")
    try:
        yield
    except (CheckpointError, StorageError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise CheckpointError(f"Checkpoint '{storage.uri}' is damaged: {reason}") from error


def read_config(file: Path) -> TrainConfig:
    """The configuration that a checkpoint or run carries."""
    values = OmegaConf.to_container(OmegaConf.load(file))
    if not isinstance(values, dict):
        raise ConfigError(f"its {CONFIG} is not a mapping of keys to values")
    return config_from_dict({str(key): value for key, value in values.items()}, f"its {CONFIG}")
