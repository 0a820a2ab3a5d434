"""What a run resumes from: the newest of its checkpoints that is complete and undamaged."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from data_pipeline.storage.base import Storage, StorageError
from data_pipeline.stream.plan import StreamPosition
from trainers.checkpoint.format import STATE, WEIGHTS, CheckpointError, read_checked
from trainers.checkpoint.select import completion_marks


@dataclass(frozen=True)
class TrainerState:
    """Weights to predict with, position, and the step's state."""

    weights: dict[str, Tensor]
    position: StreamPosition
    step: dict[str, Any]


def load_trainer_state(checkpoint: Storage) -> TrainerState:
    """Read what training resumes from, every byte of it checked; nothing is unpickled.

    Raises:
        CheckpointError: it is damaged.
        StorageError: it cannot be read.
    """
    try:
        state, weights = read_checked(checkpoint, STATE, WEIGHTS)
        content = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
        return TrainerState(load(weights), StreamPosition(*content["position"]), content["step"])
    except StorageError as error:
        if error.missing:
            raise CheckpointError(f"Checkpoint '{checkpoint.uri}' is incomplete: {error}") from None
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"Checkpoint '{checkpoint.uri}' is damaged: {error}") from None


def latest_complete(run: Storage, warn: Callable[[str], None]) -> tuple[str, TrainerState] | None:
    """The newest checkpoint of a run that is complete and undamaged, or None; `warn` is called for those that are damaged.

    Raises:
        StorageError: the storage cannot be asked.
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    names = list(completion_marks(run))[::-1]
    for name in names:
        try:
            return name, load_trainer_state(run.child(name))
        except CheckpointError as error:
            warn(f"{error} The one before it is taken.")
    if names:
        raise CheckpointError(f"All {len(names)} checkpoints of '{run.uri}' are damaged. Start a new run.")
    return None
