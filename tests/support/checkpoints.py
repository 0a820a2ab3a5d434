"""Small real checkpoints, written without training."""

from __future__ import annotations

from pathlib import Path

import torch

from data_pipeline.dataset.manifest import Manifest
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.preparation.images import ImagePolicy
from data_pipeline.storage.base import open_storage
from data_pipeline.stream.plan import StreamPosition
from models import Recognizer
from tests.support.overrides import SMALL
from trainers.checkpoint.format import DataInfo, Snapshot
from trainers.config.load import load_config
from trainers.engine.step import TrainStep
from trainers.tasks.sequence import SequenceTask

TOKENIZER = Tokenizer(["a", "b"])
DATA = DataInfo("letters", "sha256:0", "", ImagePolicy(64, 64), "sequence", {"max_length": 8})


def write_checkpoint(
    folder: Path,
    score: float = 0.5,
    *overrides: str,
    tokenizer: Tokenizer = TOKENIZER,
    data: DataInfo = DATA,
    manifest: Manifest | None = None,
) -> Recognizer:
    """Write an untrained network of SMALL and `overrides` as a checkpoint; it is of a dataset where `manifest` is given."""
    config = load_config(None, [*SMALL, *overrides])
    if manifest is not None:
        task = SequenceTask.from_dataset(manifest, config)
        data = DataInfo.of(manifest, task)
    else:
        task = SequenceTask.from_checkpoint(tokenizer.to_json(), data.limits, config)
    model = task.build_model()
    step = TrainStep(model, task, config.optim, 10, torch.device("cpu"))
    folder.mkdir(parents=True, exist_ok=True)
    snapshot = Snapshot.take(model, config, task, data, step.state_dict(), StreamPosition(3, 64), {"val/score": score}, "card")
    snapshot.write(open_storage(folder))
    return model
