"""A pool of predictors: actors of Ray Data that read encoded images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
import ray.data

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Dataset, Split
from data_pipeline.dataset.row_groups import iter_row_groups
from trainers.checkpoint.load import Checkpoint
from trainers.prediction.image_options import image_policy_of
from trainers.prediction.predictor import Predictor

# Of an actor. Something else than reading asks for: Ray Data fuses steps that ask for the same, and then counts a batch in what
# reading takes in, names of row groups: a split of fewer than `batch_size` of them would go to one actor, in one piece.
PREDICTOR_CPUS = 0.4
MAX_READING_TASKS = 1000  # row groups share tasks beyond that


def predict_with_pool(
    images: ray.data.Dataset,
    checkpoint: Checkpoint,
    batch_size: int,
    actors: int | None = None,
    image: ImagePolicy | None = None,
) -> ray.data.Dataset:
    """Rows with `image` (encoded bytes) become rows with what `Predictor` gives; order is not kept, so carry an id.

    Images are files as they come unless `image` says how they are to be prepared. One actor for each GPU; on CPUs two, which
    share the cores, or one where there are only two cores. `actors` says otherwise.
    """
    available = ray.cluster_resources()
    gpus = int(available.get("GPU", 0))
    size = actors or (gpus if gpus else max(1, min(2, int(available.get("CPU", 1)) - 1)))
    threads = max(1, (os.cpu_count() or 1) // size) if not gpus else None
    return images.map_batches(
        Predictor,
        fn_constructor_kwargs={"checkpoint": checkpoint, "threads": threads, "image": image},
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=size),
        num_gpus=1 if gpus else 0,
        num_cpus=0 if gpus else PREDICTOR_CPUS,
    )


def predict_split_on_ray(checkpoint: Checkpoint, dataset: Dataset, split: str, batch_size: int) -> Iterator[dict[str, Any]]:
    """Rows of a split (id, source, the task's columns) with their predictions, in any order, through a pool."""
    columns = ["id", "image", "source", *checkpoint.task.columns]
    images = read_rows(dataset, dataset.manifest.split(split), columns)
    policy = image_policy_of(checkpoint, [], prepared=True)
    yield from predict_with_pool(images, checkpoint, batch_size, image=policy).iter_rows()


def read_rows(dataset: Dataset, split: Split, columns: list[str]) -> ray.data.Dataset:
    """The rows of a split as a Ray Data dataset, read by row groups in parallel, and checked."""
    storage = dataset.storage

    def read(batch: dict[str, Any]) -> Any:
        return pa.concat_tables(iter_row_groups(storage, split, columns, batch["row_group"]))

    items = [{"row_group": index} for index in range(len(split.row_groups()))]
    blocks = min(len(items), MAX_READING_TASKS)
    return ray.data.from_items(items, override_num_blocks=blocks).map_batches(read, batch_size=None, num_cpus=0.5)
