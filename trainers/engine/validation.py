"""Validation at the ends of epochs: of the network that would be exported now, over all rows of the validation split."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from data_pipeline.stream import Batch, StreamPosition
from trainers.distributed.collectives import broadcast_from_rank0
from trainers.distributed.context import WorkerContext
from trainers.distributed.norms import norms_for
from trainers.engine.evaluation import evaluate
from trainers.engine.events import ImagesRejected, SampleImages, Warned
from trainers.engine.prefetch import prefetch_to_device
from trainers.engine.rejected import require_few
from trainers.engine.reporter import Reporter
from trainers.engine.run_spec import DataSources, RunSpec
from trainers.engine.setup import TrainState
from trainers.tasks.device_batch import DeviceBatch


class Validator:
    """Evaluates a run's weights on its validation split, if it has one, and shows a few images to the trackers."""

    def __init__(self, spec: RunSpec, sources: DataSources, reporter: Reporter) -> None:
        self._spec, self._sources, self._reporter = spec, sources, reporter
        self._context: WorkerContext = sources.context
        # Made now: what does not fit the memory is not found out after an epoch.
        self._stream = sources.evaluation(spec.config.data.val_split)

    def gather_statistics(self, state: TrainState, epoch: int) -> None:
        """Give averaged weights statistics of their own for BatchNorm, from the first batches of an epoch."""
        averaging = state.step.averaging
        if not averaging.needs_statistics:
            return
        stream = self._sources.training(brief=True)
        batches = prefetch_to_device(
            stream.batches(StreamPosition(epoch), epoch + 1, broadcast_from_rank0), self._context.device, stream.stop
        )

        def forward(network: Any, item: tuple[Batch, DeviceBatch]) -> None:
            self._reporter.heartbeat()
            batch, samples = item[1].samples()
            if samples:
                with state.step.autocast(), norms_for(network, samples):
                    self._spec.task.loss_sum(network, batch)

        try:
            averaging.gather_statistics(forward, batches)
        finally:
            batches.close()

    def validate(self, state: TrainState) -> dict[str, float]:
        """The metrics of the network that would be exported now; none without a validation split."""
        if self._stream is None:
            return {}
        self._share_buffers(state)
        split = self._spec.config.data.val_split
        metrics, errors = evaluate(
            state.step.averaging.network,
            self._spec.task,
            self._stream,
            self._context.device,
            self._reporter,
            self._spec.groups,
            lambda batch, tensors: self._show_images(state, batch, tensors),
        )
        if errors:
            self._reporter.emit(ImagesRejected(split, errors))
        require_few(metrics.total.rejected, self._stream.rows, self._spec.config.stream.max_rejected, split)
        return metrics.averages("val")

    def _share_buffers(self, state: TrainState) -> None:
        """Give every rank the running statistics of rank 0, which are those that a checkpoint holds."""
        if self._context.world_size > 1:
            networks = {id(network): network for network in (state.network, state.step.averaging.network)}
            for network in networks.values():
                for buffer in network.buffers():
                    dist.broadcast(buffer, 0)

    def _show_images(self, state: TrainState, batch: Batch, tensors: DeviceBatch) -> None:
        """What is predicted for a few images, for the sinks that show images; rank 0 alone draws them."""
        tracking = self._spec.config.tracking
        if self._context.rank or not tracking.images or not (tracking.wandb or tracking.tensorboard):
            return
        from trainers.report.sample_images import sample_images  # drawing is slow to import

        try:
            images = sample_images(state.step.averaging.network, self._spec.task, batch, tensors, tracking.images)
            self._reporter.emit(SampleImages(state.step.steps, images))
        except Exception as error:  # a drawing is never worth a run
            self._reporter.emit(Warned(f"the sample images of step {state.step.steps} could not be drawn: {error}"))
