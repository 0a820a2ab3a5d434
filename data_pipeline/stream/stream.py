"""Batches of a split, for training and for evaluation: a plan, carried out by threads, a process of its own or Ray tasks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from cluster.cores import cores_each
from cluster.errors import UserError
from data_pipeline.augmentation.chain import Chain
from data_pipeline.augmentation.config import chain_of
from data_pipeline.dataset.manifest import Dataset, DatasetError
from data_pipeline.dataset.targets import TargetEncoder
from data_pipeline.stream.batch import Batch
from data_pipeline.stream.collator import Collator
from data_pipeline.stream.config import StreamConfig
from data_pipeline.stream.plan import BatchRule, Plan, StreamPosition, evaluation_plan, train_plan
from data_pipeline.stream.process import DecodingProcess
from data_pipeline.stream.reader import RowGroupReader
from data_pipeline.stream.shared_memory import require_shared_memory
from data_pipeline.stream.spec import StreamSpec
from data_pipeline.stream.threads import BATCHES_SHARE, WINDOWS_SHARE, iter_threads

if TYPE_CHECKING:
    from data_pipeline.stream.ray_tasks import Share

Batches = Generator[Batch, None, None]


def decoding_threads(config: StreamConfig, local_world_size: int) -> int:
    """Threads of each of `local_world_size` training workers on this machine: as configured, or their part of its cores."""
    return config.threads or cores_each(local_world_size)


class _Stream:
    """A split's plan, for one of the ranks that it is cut for, and how it is carried out; `auto` means threads here.

    Raises:
        DatasetError: the dataset lacks a column that the target encoder reads.
        UserError: a window or a batch of this dataset may be larger than the memory that is allowed; or this system cannot
            execute the stream as configured.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        targets: TargetEncoder,
        config: StreamConfig,
        plan: Plan,
        ranks: tuple[int, int],
        local_world_size: int,
    ) -> None:
        self.plan = plan
        self._dataset, self._split, self._targets, self._config = dataset, split, targets, config
        self._rank, self._world_size = ranks
        self._threads = decoding_threads(config, local_world_size)
        self._stop: Callable[[], None] = lambda: None
        if config.execution == "process":
            require_shared_memory()
        _require_columns(dataset, targets)
        _require_memory(plan, dataset, config, self._world_size)

    def _run(self, start: StreamPosition, epochs: int, augmentation: Chain, seed: int, share: Share | None = None) -> Batches:
        plan, config = self.plan, self._config
        reader = RowGroupReader(self._dataset, self._split, plan.groups, config, self._targets.columns)
        collator = Collator(self._dataset.manifest.image, self._targets, augmentation, seed)
        spec = StreamSpec(plan, reader, collator, config, start, epochs, self._rank, self._world_size)
        self._stop = reader.close
        if config.execution == "ray":
            from data_pipeline.stream.ray_tasks import iter_ray  # threads need no Ray

            batches = iter_ray(spec, share)
        elif config.execution == "process":
            decoding = DecodingProcess(spec, self._threads)
            self._stop, batches = decoding.stop, decoding.batches()
        else:
            batches = iter_threads(spec, self._threads)
        try:
            for batch, rows in batches:
                yield Batch(**vars(rows), position=spec.after(batch), global_size=batch.size)
        finally:
            batches.close()

    def stop(self) -> None:
        """Abandon the batches that are being read: a storage that fails is not retried. May be called from any thread."""
        self._stop()


class TrainStream(_Stream):
    """Batches of one rank, epoch after epoch, from any position.

    Two streams with the same dataset, seed, window and batch size give the same samples in the same order, whatever the number
    of ranks and the way of execution. `local_world_size` of the ranks share this machine.

    Raises:
        DatasetError: there is no such split, or the dataset lacks a column that `targets` reads.
        UserError: a window or a batch of this dataset may be larger than the memory that is allowed; or the augmentation
            needs a package that is not installed.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        targets: TargetEncoder,
        config: StreamConfig,
        *,
        seed: int,
        global_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        local_world_size: int = 1,
    ) -> None:
        rule = BatchRule(global_batch_size, config.batch_pixels)
        plan = train_plan(dataset.manifest, split, seed, config.window_row_groups, rule)
        super().__init__(dataset, split, targets, config, plan, (rank, world_size), local_world_size)
        self._seed, self._augmentation = seed, chain_of(config.augmentation)
        self._augmentation.require()

    @property
    def rows(self) -> int:
        """The number of samples of an epoch, over all ranks."""
        return self.plan.rows

    def total_steps(self, epochs: int) -> int:
        """The number of steps of a run of so many epochs, the same on every rank."""
        if not self.plan.rule.pixels:
            return epochs * self.plan.steps_in(0)
        return sum(self.plan.steps_in(epoch) for epoch in range(epochs))

    def batches(self, start: StreamPosition, epochs: int, share: Share | None = None) -> Batches:
        """Batches from `start` to the end of epoch `epochs` - 1, made ahead. A caller that stops early closes the generator.

        Where Ray tasks feed several ranks, these call it together, with a `share` that gives all of them rank 0's argument.

        Raises (once consumed):
            StorageError, DatasetError: a shard is missing, cannot be read, or is not as the manifest describes it, by name.
            UserError: a mistake in a target, such as a token outside the vocabulary, or a cache that cannot be used.
        """
        return self._run(start, epochs, self._augmentation, self._seed, share)


class EvaluationStream(_Stream):
    """Every row of a split exactly once, in batches of at most `batch_size`; ranks may differ in their number of batches."""

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        targets: TargetEncoder,
        config: StreamConfig,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        local_world_size: int = 1,
    ) -> None:
        rule = BatchRule(batch_size, max(1, config.batch_pixels // world_size) if config.batch_pixels else 0)
        window = max(1, config.window_row_groups // 4)
        plan = evaluation_plan(dataset.manifest, split, rank, world_size, window, rule)
        super().__init__(dataset, split, targets, config, plan, (0, 1), local_world_size)  # the plan has this rank's rows alone
        self.rows = dataset.manifest.split(split).rows  # over all ranks

    def batches(self) -> Batches:
        """This rank's batches; raises what those of training raise."""
        return self._run(StreamPosition(), 1, Chain(), 0)


def _require_columns(dataset: Dataset, targets: TargetEncoder) -> None:
    """Check that the dataset has what the target encoder reads."""
    manifest = dataset.manifest
    if missing := [name for name in targets.columns if name not in manifest.columns]:
        raise DatasetError(
            f"Dataset '{manifest.name}' is of the task '{manifest.task}': it has no column '{missing[0]}'. Its columns are: "
            f"{', '.join(manifest.columns) or 'none'}."
        )


def _require_memory(plan: Plan, dataset: Dataset, config: StreamConfig, ranks: int) -> None:
    """Check that all windows and batches fit the memory, by the manifest; the message says what to set."""
    memory, where = config.memory_mb * 2**20, f"Dataset '{dataset.manifest.name}'"
    window = plan.max_window_bytes()
    if window > memory * WINDOWS_SHARE:
        row_groups = max(1, int(config.window_row_groups * memory * WINDOWS_SHARE / window))
        raise UserError(
            f"{where}: a window of {config.window_row_groups} row groups takes up to {window / 2**20:.0f} MiB, more than "
            f"{WINDOWS_SHARE:.0%} of stream.memory_mb={config.memory_mb}. Set stream.window_row_groups={row_groups}, or more "
            "memory."
        )
    batch = plan.max_batch_pixels() * dataset.manifest.image.channels / ranks
    if batch > memory * BATCHES_SHARE:
        pixels = int(memory * BATCHES_SHARE / 4 * ranks / dataset.manifest.image.channels)
        raise UserError(
            f"{where}: a batch of {plan.rule.samples} images takes up to {batch / 2**20:.0f} MiB a worker, more than "
            f"{BATCHES_SHARE:.0%} of stream.memory_mb={config.memory_mb}. Set stream.batch_pixels={pixels}, or more memory."
        )
