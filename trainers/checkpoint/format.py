"""A checkpoint: a directory that needs nothing else to predict, and nothing unpickled to be read.

`model.safetensors` (the weights to predict with: averaged ones where a run averages), `config.yaml`, the task's file
(`vocab.json`, say), `data.json` (task, image policy, output limits, where the data came from), `trainer_state.pt` (loaded with
weights_only), `metrics.json`, `README.md` (the model card) and, written last of all, `checkpoint.json`: sizes and SHA-256 of
what nobody edits by hand, the weights, the state, the task's file and the data's description. A directory without it is a part
that a lost worker left.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.storage.base import Storage, StorageError
from data_pipeline.stream.plan import StreamPosition
from trainers.config.load import to_yaml
from trainers.config.train import TrainConfig
from trainers.tasks import Task
from trainers.tasks.criterion import criterion_of

WEIGHTS, CONFIG, DATA = "model.safetensors", "config.yaml", "data.json"
STATE, METRICS, CARD, COMPLETE = "trainer_state.pt", "metrics.json", "README.md", "checkpoint.json"
PREFIX = "checkpoint-"
_RENAMED = {"licence": "license"}  # keys of `data.json` as they were before


class CheckpointError(UserError):
    """A checkpoint that cannot be used, with the reason."""


@dataclass(frozen=True)
class DataInfo:
    """What a checkpoint knows of its data: the dataset, its image policy, its task, and limits of the task's outputs."""

    dataset: str
    digest: str
    license: str
    image: ImagePolicy
    task: str
    limits: dict[str, Any]

    @classmethod
    def of(cls, manifest: Manifest, task: Task) -> DataInfo:
        """What is to be known of a dataset."""
        return cls(manifest.name, manifest.digest, manifest.license, manifest.image, task.name, task.limits)

    def to_json(self) -> bytes:
        """The bytes of `data.json`."""
        return json.dumps({**vars(self), "image": self.image.to_json()}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> DataInfo:
        """Read `data.json`, also one from before tasks: then it is a sequence's.

        Raises:
            ValueError, KeyError, TypeError: it is damaged.
        """
        content = {_RENAMED.get(key, key): value for key, value in json.loads(data).items()}
        if "max_length" in content:
            content |= {"task": "sequence", "limits": {"max_length": content.pop("max_length")}}
        return cls(**content | {"image": ImagePolicy.from_json(content["image"])})


@dataclass(frozen=True)
class Snapshot:
    """All that a checkpoint holds, at one moment: what training changes is copied, so training may continue meanwhile.

    `weights` are those to predict with; `state` is what training resumes from, besides the position (its own weights too, where
    `weights` are averages).
    """

    weights: dict[str, Tensor]
    config: TrainConfig
    task: Task
    data: DataInfo
    state: dict[str, Any]
    position: StreamPosition
    metrics: dict[str, float]
    card: str

    @classmethod
    def take(
        cls,
        network: nn.Module,
        config: TrainConfig,
        task: Task,
        data: DataInfo,
        state: dict[str, Any],
        position: StreamPosition,
        metrics: dict[str, float],
        card: str,
    ) -> Snapshot:
        """Copy the weights of `network` and a `state` whose tensors training may change at its next step."""
        return cls(_copied(network.state_dict()), config, task, data, _copied(state), position, dict(metrics), card)

    def files(self) -> dict[str, bytes]:
        """The files of the checkpoint by name, in the order of writing: what says that it is complete comes last."""
        state = io.BytesIO()
        torch.save({"position": [self.position.epoch, self.position.samples], "step": self.state}, state)
        files = {
            WEIGHTS: save(self.weights),
            CONFIG: to_yaml(self.config).encode(),
            self.task.file: self.task.to_bytes(),
            DATA: self.data.to_json(),
            STATE: state.getvalue(),
            METRICS: json.dumps(self.metrics, indent=1).encode(),
            CARD: self.card.encode(),
        }
        checked = (WEIGHTS, STATE, self.task.file, DATA)
        sums = {name: {"bytes": len(files[name]), "sha256": sha256(files[name])} for name in checked}
        by = criterion_of(self.config.checkpoint, self.task)
        complete = {"files": sums, "metrics": self.metrics, "task": self.task.name, "best_by": [by.metric, by.direction]}
        complete |= {"patience": self.state["patience"]} if "patience" in self.state else {}
        return files | {COMPLETE: json.dumps(complete, indent=1).encode()}

    def write(self, folder: Storage) -> None:
        """Write the checkpoint into `folder`, and check that all of it has arrived.

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


def sha256(content: bytes) -> str:
    """The SHA-256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_checked(checkpoint: Storage, *names: str) -> list[bytes]:
    """Files of `checkpoint`, checked; a small one of a checkpoint from before these had sums is taken as it is.

    Raises:
        CheckpointError: one is not what was written.
        StorageError: one cannot be read.
    """
    contents = [checkpoint.child(name).read_bytes() for name in names]
    sums = json.loads(checkpoint.child(COMPLETE).read_bytes())["files"]
    for name, content in zip(names, contents, strict=True):
        if (name in sums or name in (WEIGHTS, STATE)) and sha256(content) != sums[name]["sha256"]:
            raise CheckpointError(
                f"Checkpoint '{checkpoint.uri}' is damaged: the SHA-256 of its {name} is not the one it was written with."
            )
    return contents
