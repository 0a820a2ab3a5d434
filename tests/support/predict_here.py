"""The command `predict` in this process, without Ray: a predictor takes the place of the pool."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from data_pipeline.preparation.images import ImagePolicy
from tests.support.commands import Finished, command_here
from trainers import predict
from trainers.checkpoint.load import Checkpoint
from trainers.prediction import run_job
from trainers.prediction.inputs import FileInputs
from trainers.prediction.predictor import Predictor

NewPredictor = Callable[..., Predictor]


class Rows:
    """The rows of a batch, given one by one as those of a pool."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self._columns = columns

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        for row in range(len(self._columns["id"])):
            yield {name: values[row] for name, values in self._columns.items()}


def read_here(inputs: FileInputs, wanted: set[str]) -> dict[str, np.ndarray]:
    """What `FileInputs.read` gives, as one batch."""
    items = inputs.items(wanted)
    batch = inputs.reader()({key: [item[key] for item in items] for key in items[0]})
    return {key: np.array([*values, None], object)[:-1] for key, values in batch.items()}


@contextlib.contextmanager
def without_ray(new_predictor: NewPredictor = Predictor) -> Iterator[None]:
    """Inside, `predict` reads files and predicts in this process, with one predictor for each checkpoint and image policy."""
    predictors: dict[str, Predictor] = {}

    def predict_with_predictor(
        images: dict[str, np.ndarray], checkpoint: Checkpoint, batch_size: int, image: ImagePolicy | None = None
    ) -> Rows:
        key = f"{checkpoint.digest} {image}"
        if key not in predictors:
            predictors[key] = new_predictor(checkpoint, image=image)
        return Rows(predictors[key](images))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "ray_session", lambda min_cpus: contextlib.nullcontext())
        patch.setattr(run_job, "predict_with_pool", predict_with_predictor)
        patch.setattr(FileInputs, "read", read_here)
        yield


def predict_here(*args: str, new_predictor: NewPredictor = Predictor) -> Finished:
    """The command `predict` of images that are files."""
    with without_ray(new_predictor):
        return command_here("trainers.predict", *args)
