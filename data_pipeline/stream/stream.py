"""Batches of a split, for training and for evaluation: a plan, carried out by threads of this process or by Ray's tasks."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Literal

from cluster.cores import cores_each
from cluster.errors import UserError
from data_pipeline.dataset.manifest import Dataset, DatasetError
from data_pipeline.dataset.targets import TargetEncoder
from data_pipeline.stream.batch import Batch, Decoded, Decoder
from data_pipeline.stream.config import Augmentation, StreamConfig
from data_pipeline.stream.plan import BatchRule, Plan, Position, Step, evaluation_plan, train_plan
from data_pipeline.stream.read import RowGroupReader
from data_pipeline.stream.threads import BATCHES_SHARE, WINDOWS_SHARE, threaded

if TYPE_CHECKING:
    from data_pipeline.stream.ray_tasks import Share

Batches = Generator[Batch, None, None]
Way = Literal["threads", "ray"]


def decoding_threads(config: StreamConfig, processes: int) -> int:
    """Threads of each of `processes` training workers on this machine: as configured, or their part of its cores."""
    return config.threads or cores_each(processes)


class _Stream:
    """What the streams share: the plan of a split, and how it is carried out. `auto` is `threads` here."""

    def __init__(
        self, dataset: Dataset, split: str, targets: TargetEncoder, config: StreamConfig, plan: Plan, ranks: int, processes: int
    ) -> None:
        self.plan = plan
        self._dataset, self._split, self._targets, self._config = dataset, split, targets, config
        self._way: Way = "ray" if config.execution == "ray" else "threads"
        self._threads = decoding_threads(config, processes)
        self._reader: RowGroupReader | None = None
        _require_columns(dataset, targets)
        _require_room(plan, dataset, config, ranks)

    def _run(
        self, start: Position, epochs: int, augmentation: Augmentation, seed: int, rank: int, ranks: int, share: Share | None
    ) -> Batches:
        reader = self._reader = RowGroupReader(
            self._dataset, self._split, self.plan.groups, self._config, self._targets.columns
        )
        decoder = Decoder(self._dataset.manifest.image, self._targets, augmentation, seed)
        if self._way == "threads":
            steps = threaded(
                self.plan, reader, decoder, self._config, self._threads, start, epochs, rank=rank, world_size=ranks
            )
        else:
            from data_pipeline.stream.ray_tasks import tasked  # threads need no Ray

            steps = tasked(self.plan, reader, decoder, self._config, start, epochs, rank=rank, world_size=ranks, share=share)
        try:
            for step, decoded in steps:
                yield self._batch(step, decoded)
        finally:
            steps.close()

    def stop(self) -> None:
        """From any thread: the batches that are being read are not wanted any more, so a storage that fails is left alone."""
        if self._reader is not None:
            self._reader.close()

    def _batch(self, step: Step, decoded: Decoded) -> Batch:
        done = step.first + step.size
        position = Position(step.epoch, done) if done < self.plan.rows else Position(step.epoch + 1, 0)
        return Batch(**vars(decoded), position=position, global_size=step.size)


class TrainStream(_Stream):
    """Batches of one rank, epoch after epoch, from any position on.

    Two streams with the same dataset, seed, window and batch size give the same samples in the same order, whatever the number
    of ranks and the way of execution. `processes` of the ranks share this machine.

    Raises:
        DatasetError: there is no such split, or the dataset lacks a column that `targets` reads.
        UserError: a window or a batch of this dataset may be larger than the memory that is allowed.
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
        processes: int = 1,
    ) -> None:
        rule = BatchRule(global_batch_size, config.batch_pixels)
        plan = train_plan(dataset.manifest, split, seed, config.window_row_groups, rule)
        super().__init__(dataset, split, targets, config, plan, world_size, processes)
        self._seed, self._rank, self._ranks = seed, rank, world_size

    @property
    def rows(self) -> int:
        """Samples of an epoch, over all ranks."""
        return self.plan.rows

    def total_steps(self, epochs: int) -> int:
        """Steps of a run of so many epochs, the same on every rank."""
        if not self.plan.rule.pixels:
            return epochs * self.plan.steps_in(0)
        return sum(self.plan.steps_in(epoch) for epoch in range(epochs))

    def batches(self, start: Position, epochs: int, share: Share | None = None) -> Batches:
        """Batches from `start` to the end of epoch `epochs` - 1, made ready ahead. Whoever stops early closes the generator.

        Where tasks of Ray feed several ranks, these call it together, with a `share` that gives all of them rank 0's argument.

        Raises (once consumed):
            StorageError, DatasetError: a shard is missing, cannot be read, or is not as the manifest describes it, by name.
            UserError: a mistake in a target, such as a token outside the vocabulary, or a cache that cannot be used.
        """
        return self._run(start, epochs, self._config.augmentation, self._seed, self._rank, self._ranks, share)


class EvaluationStream(_Stream):
    """Every row of a split exactly once, in batches of `batch_size` at most; ranks may differ in their number of batches."""

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
        processes: int = 1,
    ) -> None:
        rule = BatchRule(batch_size, max(1, config.batch_pixels // world_size) if config.batch_pixels else 0)
        window = max(1, config.window_row_groups // 4)
        plan = evaluation_plan(dataset.manifest, split, rank, world_size, window, rule)
        super().__init__(dataset, split, targets, config, plan, 1, processes)
        self.rows = dataset.manifest.split(split).rows  # over all ranks

    def batches(self) -> Batches:
        """This rank's batches; raises as those of training."""
        return self._run(Position(), 1, "none", 0, 0, 1, None)


def _require_columns(dataset: Dataset, targets: TargetEncoder) -> None:
    """Check that the dataset has what the target encoder reads."""
    manifest = dataset.manifest
    if missing := [name for name in targets.columns if name not in manifest.columns]:
        raise DatasetError(
            f"Dataset '{manifest.name}' is of the task '{manifest.task}': it has no column '{missing[0]}'. Its columns are: "
            f"{', '.join(manifest.columns) or 'none'}."
        )


def _require_room(plan: Plan, dataset: Dataset, config: StreamConfig, ranks: int) -> None:
    """The bound on memory holds, or this says what to set. What may occur is known from the manifest."""
    memory, where = config.memory_mb * 2**20, f"Dataset '{dataset.manifest.name}'"
    window = plan.most_bytes_of_a_window()
    if window > memory * WINDOWS_SHARE:
        most = max(1, int(config.window_row_groups * memory * WINDOWS_SHARE / window))
        raise UserError(
            f"{where}: a window of {config.window_row_groups} row groups takes up to {window / 2**20:.0f} MiB, more than "
            f"{WINDOWS_SHARE:.0%} of stream.memory_mb={config.memory_mb}. Set stream.window_row_groups={most}, or more memory."
        )
    batch = plan.most_pixels_of_a_batch() * dataset.manifest.image.channels / ranks
    if batch > memory * BATCHES_SHARE:
        pixels = int(memory * BATCHES_SHARE / 4 * ranks / dataset.manifest.image.channels)
        raise UserError(
            f"{where}: a batch of {plan.rule.samples} images takes up to {batch / 2**20:.0f} MiB a worker, more than "
            f"{BATCHES_SHARE:.0%} of stream.memory_mb={config.memory_mb}. Set stream.batch_pixels={pixels}, or more memory."
        )
