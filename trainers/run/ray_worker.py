"""The function that Ray Train starts on each worker: finds the worker's context and runs the training loop there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import ray.train.torch

from cluster.errors import UserError, user_error_in
from cluster.resources import spare_machines
from data_pipeline.storage.base import Storage, StorageError
from data_pipeline.stream import StreamConfig
from models import ModelConfigError
from trainers.distributed.collectives import all_gather_objects, broadcast_from_rank0
from trainers.distributed.context import WorkerContext
from trainers.engine.events import Failed
from trainers.engine.run_spec import RunSpec
from trainers.engine.train_loop import TrainLoop
from trainers.run.execution import choose_execution
from trainers.run.gauges import Gauges
from trainers.run.monitor import ActorReporter


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is given: objects, so that what comes from the environment was looked up where the run began."""

    spec: RunSpec
    monitor: Any
    run: Storage
    concurrent_runs: int


def train_loop_per_worker(config: dict[str, WorkerSettings]) -> None:
    """Train from the last checkpoint of the run, if it has one, to the end of its last epoch."""
    settings = config["settings"]
    rank = ray.train.get_context().get_world_rank()
    reporter = ActorReporter(settings.monitor, rank)
    try:
        context = context_of(rank, settings.concurrent_runs, settings.spec.config.stream)
        on_metrics = Gauges(settings.run.name).set if rank == 0 else None
        TrainLoop(settings.spec, reporter, settings.run, context, on_metrics).run()
    except Exception as error:
        # A network may also refuse what it is given: images that are too small for it, say.
        mistake = UserError(str(error)) if isinstance(error, ModelConfigError) else user_error_in(error)
        # Sent before Ray sees it: a restart would only meet the same mistake again. Storage that is down may come back.
        if mistake is not None and not (isinstance(mistake, StorageError) and mistake.transient):
            reporter.emit(Failed(str(mistake)))
            reporter.flush()
        raise


def context_of(rank: int, concurrent_runs: int, stream: StreamConfig) -> WorkerContext:
    """Where Ray has placed this worker. `stream.execution=auto` uses tasks if machines are left that do not train."""
    context, device = ray.train.get_context(), ray.train.torch.get_device()

    def machines_are_spare() -> bool:
        nodes = all_gather_objects(ray.get_runtime_context().get_node_id())
        # Rank 0 decides: a machine may come or go between two ranks' looks.
        return bool(broadcast_from_rank0(rank == 0 and spare_machines(nodes)))

    return WorkerContext(
        rank=rank,
        world_size=context.get_world_size(),
        device=device,
        local_world_size=context.get_local_world_size() * concurrent_runs,
        execution=choose_execution(stream, device, machines_are_spare),
    )
