"""The commands that predict in this process, without Ray: a predictor takes the place of the pool."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.dataset.manifest import Dataset, Split
from data_pipeline.dataset.row_groups import iter_row_groups
from data_pipeline.preparation.images import ImagePolicy
from tests.support.commands import Finished, command_here
from trainers import evaluate, label_errors, predict
from trainers.checkpoint.load import Checkpoint
from trainers.prediction import inputs, run_job
from trainers.prediction.inputs import FileInputs
from trainers.prediction.local import predict_split_here
from trainers.prediction.predictor import Predictor

NewPredictor = Callable[..., Predictor]


class Rows:
    """The rows of a batch, given one by one as those of a pool."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = columns

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        for row in range(len(self.columns["id"])):
            yield {name: values[row] for name, values in self.columns.items()}


def read_files(files: FileInputs, wanted: set[str]) -> Rows:
    """What `FileInputs.read` gives."""
    items = files.items(wanted)
    batch = files.reader()({key: [item[key] for item in items] for key in items[0]})
    return Rows({key: np.array([*values, None], object)[:-1] for key, values in batch.items()})


def read_split_here(dataset: Dataset, split: Split, columns: list[str]) -> Rows:
    """What `read_rows` gives."""
    table = pa.concat_tables(iter_row_groups(dataset.storage, split, columns))
    return Rows({name: np.array(table[name].to_pylist(), object) for name in columns})


@contextlib.contextmanager
def without_ray(new_predictor: NewPredictor = Predictor) -> Iterator[None]:
    """Inside, they read and predict in this process, `predict` with one predictor for each checkpoint and image policy."""
    predictors: dict[str, Predictor] = {}

    def predict_with_predictor(images: Rows, checkpoint: Checkpoint, batch_size: int, image: ImagePolicy | None = None) -> Rows:
        key = f"{checkpoint.digest} {image}"
        if key not in predictors:
            predictors[key] = new_predictor(checkpoint, image=image)
        return Rows(predictors[key](images.columns))

    with pytest.MonkeyPatch.context() as patch:
        for command in (evaluate, label_errors, predict):
            patch.setattr(command, "ray_session", lambda min_cpus: contextlib.nullcontext())
        for command in (evaluate, label_errors):
            patch.setattr(command, "predict_split_on_ray", predict_split_here)
        patch.setattr(run_job, "predict_with_pool", predict_with_predictor)
        patch.setattr(inputs, "read_rows", read_split_here)
        patch.setattr(FileInputs, "read", read_files)
        yield


def predict_here(*args: str, new_predictor: NewPredictor = Predictor) -> Finished:
    """The command `predict`."""
    with without_ray(new_predictor):
        return command_here("trainers.predict", *args)
