"""A pool of predictors over a Ray Data dataset of encoded images."""

from __future__ import annotations

import os

import ray
import ray.data

from data_pipeline.preparation.images import ImagePolicy
from models import Decoding
from trainers.prediction.predictor import Predictor

# Of an actor. Something else than reading asks for: Ray Data fuses steps that ask for the same, and then counts a batch in what
# reading takes in, names of row groups: a split of fewer than `batch_size` of them would go to one actor, in one piece.
PREDICTOR_CPUS = 0.4


def predict_with_pool(
    images: ray.data.Dataset,
    checkpoint: str,
    batch_size: int,
    decoding: Decoding | None = None,
    actors: int | None = None,
    image: ImagePolicy | None = None,
    digest: str = "",
) -> ray.data.Dataset:
    """Rows with `image` (encoded bytes) become rows with what `Predictor` gives; order is not kept, so carry an id.

    The checkpoint decodes as it is configured unless `decoding` says otherwise, and prepares images if `image` says how.
    One actor for each GPU; on CPUs two, which share the cores, or one where there are only two cores. `actors` says otherwise.
    With a `digest` an actor refuses a checkpoint that has another.
    """
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0))
    size = actors or (gpus if gpus else max(1, min(2, int(there.get("CPU", 1)) - 1)))
    threads = max(1, (os.cpu_count() or 1) // size) if not gpus else None
    return images.map_batches(
        Predictor,
        fn_constructor_kwargs={
            "checkpoint": checkpoint,
            "threads": threads,
            "decoding": decoding,
            "image": image,
            "digest": digest,
        },
        batch_size=batch_size,
        num_cpus=PREDICTOR_CPUS,
        num_gpus=1 if gpus else 0,
        compute=ray.data.ActorPoolStrategy(size=size),
    )
