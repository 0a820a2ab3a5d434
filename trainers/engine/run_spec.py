"""A run that was checked: what preflight hands to the workers, so that none of it is read or checked again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from data_pipeline.dataset.manifest import Dataset
from data_pipeline.stream import EvaluationStream, StreamConfig, TrainStream
from trainers.checkpoint.load import Checkpoint
from trainers.config.train import TrainConfig
from trainers.distributed.context import WorkerContext
from trainers.tasks import Task


@dataclass(frozen=True)
class RunSpec:
    """Configuration, dataset and task of a run. It pickles.

    `groups` are the sources of the validation split that have metrics of their own, `warm_start` the checkpoint that a new run
    takes weights from, `notes` what is doubtful about the run.
    """

    config: TrainConfig
    dataset: Dataset
    task: Task
    groups: tuple[str, ...] = ()
    warm_start: Checkpoint | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSources:
    """The streams of a rank."""

    spec: RunSpec
    context: WorkerContext

    @property
    def stream_config(self) -> StreamConfig:
        """As configured, executed as this worker does."""
        return replace(self.spec.config.stream, execution=self.context.execution)  # type: ignore[arg-type]

    @property
    def brief_config(self) -> StreamConfig:
        """The same for a stream that is read for some seconds: a process of its own would start for half a second of them."""
        config = self.stream_config
        return replace(config, execution="threads") if config.execution == "process" else config

    def training(self, brief: bool = False) -> TrainStream:
        """A stream over the train split; a `brief` one is read for some batches alone."""
        config = self.spec.config
        return TrainStream(
            self.spec.dataset,
            config.data.train_split,
            self.spec.task.target_encoder(),
            self.brief_config if brief else self.stream_config,
            seed=config.seed,
            global_batch_size=config.global_batch_size,
            rank=self.context.rank,
            world_size=self.context.world_size,
            local_world_size=self.context.local_world_size,
        )

    def evaluation(self, split: str) -> EvaluationStream | None:
        """A stream over `split`; None where it has no name."""
        if not split:
            return None
        return EvaluationStream(
            self.spec.dataset,
            split,
            self.spec.task.target_encoder(),
            self.brief_config,
            batch_size=self.spec.config.batch_size_per_worker,
            rank=self.context.rank,
            world_size=self.context.world_size,
            local_world_size=self.context.local_world_size,
        )
