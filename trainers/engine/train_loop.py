"""The training loop of one rank, wherever it runs: on Ray (`run.launch_ray`) or without it (`run.launch_local`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import torch

from data_pipeline.storage.base import Storage
from data_pipeline.stream import Batch
from trainers.checkpoint.format import Snapshot
from trainers.distributed.collectives import broadcast_from_rank0
from trainers.distributed.context import WorkerContext
from trainers.distributed.micro_batch import MicroBatch
from trainers.engine.bad_steps import BadSteps
from trainers.engine.checkpointer import Checkpointer
from trainers.engine.events import EndedEarly, EpochEnded, ImagesRejected, IntervalEnded, Started, Stopped
from trainers.engine.meters import IntervalMeter, TrainTotals
from trainers.engine.prefetch import prefetch_to_device
from trainers.engine.rejected import require_few
from trainers.engine.reporter import ControlRequests, Reporter
from trainers.engine.run_spec import DataSources, RunSpec
from trainers.engine.setup import TrainState, setup
from trainers.engine.step import StepResult
from trainers.engine.system_metrics import SystemMetrics
from trainers.engine.validation import Validator
from trainers.optim import describe_groups
from trainers.tasks.device_batch import DeviceBatch

READ_FLAGS_EVERY = 16  # steps between two readings of a GPU's flags by the host: each waits for the step

Batches = Generator[tuple[Batch, DeviceBatch], None, None]


class TrainLoop:
    """One rank of a run: from its last checkpoint, if it has one, to the end of its last epoch.

    `on_metrics` is called on rank 0 with each row of metrics of an interval, in this process.
    """

    def __init__(
        self,
        spec: RunSpec,
        reporter: Reporter,
        run: Storage,
        context: WorkerContext,
        on_metrics: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.config, self.reporter, self.context = spec.config, reporter, context
        self.sources = DataSources(spec, context)
        self.stream = self.sources.training()
        self.validator = Validator(spec, self.sources, reporter)
        self.micro_batch = MicroBatch(
            run, self.config.compute, self.config.failure, -(-self.config.global_batch_size // context.world_size)
        )
        self.state: TrainState = setup(spec, self.stream, self.micro_batch, reporter, run, context)
        self.checkpointer = Checkpointer(spec, run, reporter, context.rank)
        self.bad_steps = BadSteps(self.config.loss_guard, reporter, context.rank)
        self.meter = IntervalMeter(context.device)
        self.system = SystemMetrics(context.device)
        self._on_metrics = on_metrics or (lambda metrics: None)
        self._outputs, self._legend = spec.task.describe(), spec.task.legend()
        self._epoch_totals = TrainTotals()
        self._first_wait_s: float | None = None  # for the first batch of this epoch
        self._checkpoint_requested = False

    def run(self) -> None:
        """Train to the end of the stream."""
        if self.context.rank == 0:
            self._report_start()
        state, device = self.state, self.context.device
        batches = prefetch_to_device(
            self.stream.batches(state.position, self.config.epochs, broadcast_from_rank0), device, self.stream.stop
        )
        try:
            if not state.early_stopping.due:
                self._train(batches)
            self.checkpointer.finish()
        finally:
            batches.close()
            self.checkpointer.close()
        self.reporter.enter_phase("done")
        self.reporter.end()  # this process may end with the loop, and what it has not sent with it

    def _train(self, batches: Batches) -> None:
        state = self.state
        epoch_started = time.monotonic()
        state.step.begin_epoch(state.position.epoch)
        while (item := self._next(batches)) is not None:
            batch, tensors = item
            epoch = state.position.epoch
            result = self._step(batch, tensors, epoch)
            if batch.errors:
                self.reporter.emit(ImagesRejected(self.config.data.train_split, batch.errors))
            state.position = batch.position
            if state.step.steps % self.config.tracking.log_interval == 0:
                self._end_interval(epoch)
            requests = self._agreed_requests(result)
            if state.position.epoch > epoch:
                self.bad_steps.check()
                self._end_epoch(epoch, time.monotonic() - epoch_started)
                epoch_started = time.monotonic()
                state.step.begin_epoch(state.position.epoch)
            elif requests.stop or requests.checkpoint or self.checkpointer.due(state.step.steps):
                self.bad_steps.check()
                self.checkpointer.submit(self._snapshot({}, usable=False))
            if requests.stop or state.early_stopping.due:
                if self.context.rank == 0:
                    self.reporter.emit(Stopped() if requests.stop else EndedEarly(state.position.epoch))
                return

    def _next(self, batches: Batches) -> tuple[Batch, DeviceBatch] | None:
        self.reporter.enter_phase("waiting for data")
        started = time.monotonic()
        item = next(batches, None)
        if item is not None:
            waited = time.monotonic() - started
            self.meter.waited(waited)
            self._first_wait_s = waited if self._first_wait_s is None else self._first_wait_s
        return item

    def _step(self, batch: Batch, tensors: DeviceBatch, epoch: int) -> StepResult:
        """Take one step and count it."""
        step = self.state.step
        try:
            requests = self.reporter.requests()
            self._checkpoint_requested |= requests.checkpoint  # until one is taken: flags are not read after every step
            result = step(tensors, ControlRequests(requests.stop, self._checkpoint_requested))
        except torch.OutOfMemoryError:
            size = min(step.micro_batch_size or len(batch), len(batch))
            raise self.micro_batch.full(size, batch.images.shape, self.context.device, f"step {step.steps + 1}") from None
        self.meter.stepped(result, batch)
        self.bad_steps.add(step.steps, epoch, batch.ids, result)
        return result

    def _agreed_requests(self, result: StepResult) -> ControlRequests:
        """The requests of any rank. On a GPU reading them waits for the step: it is done now and then, at the same steps."""
        unread = self.context.device.type == "cuda" and self.state.step.steps % READ_FLAGS_EVERY
        if unread and self.config.loss_guard.on_bad_step == "stop":
            return ControlRequests()
        self.bad_steps.check()
        self.state.step.read_overflows()
        return ControlRequests(bool(result.stop > 0), bool(result.checkpoint > 0))

    def _report_start(self) -> None:
        device, step = self.context.device, self.state.step
        self.reporter.emit(
            Started(
                parameters=sum(p.numel() for p in self.state.network.parameters()),
                device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
                precision=str(step.dtype).removeprefix("torch."),
                world_size=self.context.world_size,
                rows=self.stream.rows,
                step=step.steps,
                total_steps=self.state.total_steps,
                execution=self.sources.stream_config.execution,
                outputs=self._outputs,
                notes=[
                    *self._legend,
                    *describe_groups(step.optimizer, self.state.network),
                    *step.freezing.describe(),
                    *step.averaging.describe(),
                ],
            )
        )

    def _end_interval(self, epoch: int) -> None:
        metrics = self._close_interval().metrics()
        if self.context.rank == 0:
            step = self.state.step
            metrics |= {"step": step.steps, "epoch": epoch, "train/lr": step.lr, **self.system.read()}
            self._on_metrics(metrics)
            self.reporter.emit(IntervalEnded(metrics))

    def _close_interval(self) -> TrainTotals:
        totals = self.meter.close()
        self._epoch_totals += totals
        split = self.config.data.train_split
        require_few(self._epoch_totals.rejected, self.stream.rows, self.config.stream.max_rejected, split)
        return totals

    def _end_epoch(self, epoch: int, seconds: float) -> None:
        self._close_interval()
        started = time.monotonic()
        state = self.state
        due = (epoch + 1) % self.config.validate_every == 0 or epoch + 1 == self.config.epochs
        state.step.averaging.end_epoch()
        state.metrics = {}
        if due:
            self.validator.gather_statistics(state, epoch)
            state.metrics = self.validator.validate(state)
            state.early_stopping.update(state.metrics)
        evaluated = time.monotonic()
        snapshot = self._snapshot(state.metrics, usable=due)
        if self.context.rank == 0:
            times = {
                "time/train_s": seconds,
                "time/wait_s": self._epoch_totals.wait_s,
                "time/evaluation_s": evaluated - started,
                "time/checkpoint_s": time.monotonic() - evaluated,
            }
            row = {"step": state.step.steps, "epoch": epoch, **state.metrics, **times, **self._epoch_totals.epoch_metrics()}
            self.reporter.emit(EpochEnded(row | {"epoch/first_wait_s": self._first_wait_s or 0.0}))
        self.checkpointer.submit(snapshot)
        self._epoch_totals, self._first_wait_s = TrainTotals(), None
        self.meter.restart()

    def _snapshot(self, metrics: dict[str, float], usable: bool) -> Snapshot | None:
        self._checkpoint_requested = False
        return self.checkpointer.take(self.state, metrics, usable)
