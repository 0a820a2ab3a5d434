"""The function that Ray Train starts on each worker: finds the worker's context and runs `trainers.engine.train_loop` there."""

from __future__ import annotations

from typing import Any

import ray
import ray.train
import ray.train.torch

from cluster.errors import UserError, user_error_in
from cluster.resources import spare_machines
from data_pipeline.storage.base import StorageError
from data_pipeline.stream import StreamConfig
from models import ModelConfigError
from trainers.config.train import TrainConfig
from trainers.distributed.collectives import all_gather_objects, broadcast_from_rank0
from trainers.distributed.context import Place
from trainers.engine.train_loop import Worker
from trainers.run.gauges import Gauges
from trainers.run.monitor import ActorReporter


def train_loop_per_worker(settings: dict[str, Any]) -> None:
    """Train from the last checkpoint of the run, if it has one, to the end of its last epoch."""
    config: TrainConfig = settings["config"]  # not as values: what comes from the environment was looked up where the run began
    rank = ray.train.get_context().get_world_rank()
    line = ActorReporter(settings["monitor"], rank)
    try:
        place = place_of(rank, settings["concurrent_runs"], config.stream)
        on_figures = Gauges(settings["run"].name).set if rank == 0 else None
        Worker(config, line, settings["run"], place, on_figures).run()
    except Exception as error:
        # A network may also refuse what it is given: images that are too small for it, say.
        mistake = UserError(str(error)) if isinstance(error, ModelConfigError) else user_error_in(error)
        # Told before Ray sees it: a restart would only meet the same mistake again. Storage that is down may come back.
        if mistake is not None and not (isinstance(mistake, StorageError) and mistake.transient):
            line.push("fatal", message=str(mistake))
            line.flush()
        raise


def place_of(rank: int, concurrent_runs: int, stream: StreamConfig) -> Place:
    """Where Ray has put this worker. `stream.execution=auto` is tasks where the cluster has machines that do not train."""
    context = ray.train.get_context()
    execution = stream.execution
    if execution == "auto":
        nodes = all_gather_objects(ray.get_runtime_context().get_node_id())
        # Rank 0 decides: a machine may come or go between two ranks' looks.
        execution = "ray" if broadcast_from_rank0(rank == 0 and spare_machines(nodes)) else "threads"
    return Place(
        rank=rank,
        world_size=context.get_world_size(),
        device=ray.train.torch.get_device(),
        processes=context.get_local_world_size() * concurrent_runs,
        execution=execution,
    )
