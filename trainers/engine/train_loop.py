"""What each training worker does, wherever it runs: on Ray (`trainers.run.ray_worker`) or alone (`trainers.solo`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from cluster.errors import UserError
from data_pipeline.storage.base import Storage
from data_pipeline.stream import Batch, EvaluationStream, Position
from trainers.checkpoint.card import short_card
from trainers.checkpoint.format import Snapshot
from trainers.checkpoint.writer import CheckpointWriter
from trainers.config.train import TrainConfig
from trainers.distributed.collectives import from_rank_zero
from trainers.distributed.context import Place
from trainers.distributed.norms import norms_for
from trainers.engine.bad_steps import BadSteps
from trainers.engine.evaluation import evaluate
from trainers.engine.meters import Interval, Sums
from trainers.engine.prefetch import fed
from trainers.engine.rejected import require_few
from trainers.engine.reporter import Line, Wishes
from trainers.engine.setup import assemble
from trainers.engine.step import StepResult
from trainers.engine.system_metrics import SystemFigures
from trainers.optim import describe_groups
from trainers.report.sample_images import sample_images
from trainers.tasks.device_batch import DeviceBatch

LOOK_EVERY = 16  # steps between two looks of the host at a GPU's flags: each waits for the step


class Worker:
    """One rank of a run: from its last checkpoint, if it has one, to the end of its last epoch."""

    def __init__(
        self,
        config: TrainConfig,
        line: Line,
        run: Storage,
        place: Place,
        on_figures: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.config, self.line, self.run_folder, self.place = config, line, run, place
        self._on_figures = on_figures or (lambda figures: None)
        parts = assemble(config, line, run, place)
        self.source, self.task, self.data, self.stream = parts.source, parts.task, parts.data, parts.stream
        self.validation, self.groups, self.total_steps = parts.validation, parts.groups, parts.total_steps
        self.network, self.step, self.micro_batch, self.patience = parts.network, parts.step, parts.micro_batch, parts.patience
        self.position = parts.position
        self.metrics: dict[str, float] = {}  # of the validation at the end of the last epoch, if there was one
        self.bad_steps = BadSteps(config.guard, line, place.rank)
        self.writer: CheckpointWriter | None = None
        self.interval = Interval(place.device)
        self.system = SystemFigures(place.device)
        self.epoch_sums = Sums()
        self.first_wait_s: float | None = None  # for the first batch of this epoch
        self._wishes_checkpoint = False

    def run(self) -> None:
        """Consume the stream to its end."""
        if self.place.rank == 0:
            self._push_start()
            self.writer = CheckpointWriter(
                self.run_folder, self.config.checkpoint, lambda kind, text: self.line.push(kind, text=text)
            )
        batches = fed(
            self.stream.batches(self.position, self.config.epochs, from_rank_zero), self.place.device, self.stream.stop
        )
        try:
            if not self.patience.due:
                self._consume(batches)
            self._finish_writing()
        finally:
            batches.close()
            if self.writer is not None:
                self.writer.close()
        self.line.mark("done")
        self.line.flush()  # this process may end with the loop, and what it has not sent with it

    def _consume(self, batches: Any) -> None:
        epoch_ended = time.monotonic()
        self.step.begin_epoch(self.position.epoch)
        while True:
            self.line.mark("waiting for data")
            asked = time.monotonic()
            batch, tensors = next(batches, (None, None))
            if batch is None or tensors is None:
                return
            waited = time.monotonic() - asked
            self.interval.waited(waited)
            self.first_wait_s = waited if self.first_wait_s is None else self.first_wait_s
            epoch = self.position.epoch
            result = self._take(batch, tensors, epoch)
            self._reject(self.config.data.train_split, batch.errors)
            self.position = batch.position
            if self.step.steps % self.config.tracking.log_interval == 0:
                self._log(epoch)
            wishes = self._agreed(result)
            if self.position.epoch > epoch:
                self.bad_steps.look()
                self._end_epoch(epoch, time.monotonic() - epoch_ended)
                epoch_ended = time.monotonic()
                self.step.begin_epoch(self.position.epoch)
            elif wishes.stop or wishes.checkpoint or self._checkpoint_due():
                self.bad_steps.look()
                self._checkpoint({}, usable=False)
            if wishes.stop or self.patience.due:
                if self.place.rank == 0:
                    kind = "stopped" if wishes.stop else "ended_early"
                    self.line.push(kind, epoch=self.position.epoch, step=self.step.steps)
                return

    def _take(self, batch: Batch, tensors: DeviceBatch, epoch: int) -> StepResult:
        """One step, counted."""
        try:
            wishes = self.line.poll()
            self._wishes_checkpoint |= wishes.checkpoint  # until one is taken: the flags are not read after every step
            result = self.step(tensors, Wishes(wishes.stop, self._wishes_checkpoint))
        except torch.OutOfMemoryError:
            size = min(self.step.micro_batch_size or len(batch), len(batch))
            raise self.micro_batch.full(size, batch.images.shape, self.place.device, f"step {self.step.steps + 1}") from None
        self.interval.stepped(result, batch)
        self.bad_steps.taken(self.step.steps, epoch, batch.ids, result)
        return result

    def _push_start(self) -> None:
        device, step = self.place.device, self.step
        self.line.push(
            "started",
            parameters=sum(p.numel() for p in self.network.parameters()),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            precision=str(step.dtype).removeprefix("torch."),
            world_size=self.place.world_size,
            rows=self.stream.rows,
            steps=self.total_steps,
            execution=self.source.stream_config.execution,
            step=step.steps,
            vocabulary=len(self.task.tokenizer),
            digest=self.source.dataset.manifest.digest,
            notes=[*describe_groups(step.optimizer, self.network), *step.freezing.describe(), *step.averaging.describe()],
        )

    def _agreed(self, result: StepResult) -> Wishes:
        """What any rank wishes for. On a GPU reading waits for the step: it is done now and then, by all at the same steps."""
        if self.place.device.type == "cuda" and self.step.steps % LOOK_EVERY and self.config.guard.on_bad_step == "stop":
            return Wishes()
        self.bad_steps.look()
        return Wishes(bool(result.stop > 0), bool(result.checkpoint > 0))

    def _checkpoint_due(self) -> bool:
        every = self.config.checkpoint.every_steps
        return every > 0 and self.step.steps % every == 0

    def _log(self, epoch: int) -> None:
        figures = self._close_interval().figures()
        if self.place.rank == 0:
            figures |= {"step": self.step.steps, "epoch": epoch, "train/lr": self.step.lr, **self.system.read()}
            self._on_figures(figures)
            self.line.push("interval", figures=figures)

    def _close_interval(self) -> Sums:
        sums = self.interval.close()
        self.epoch_sums += sums
        data = self.config.data
        require_few(self.epoch_sums.rejected, self.stream.rows, self.config.stream.max_rejected, data.train_split)
        return sums

    def _reject(self, split: str, errors: dict[str, str]) -> None:
        """Have images that cannot be used told and listed: each rank those of its own."""
        if errors:
            self.line.push("rejected", split=split, errors=errors)

    def _end_epoch(self, epoch: int, seconds: float) -> None:
        self._close_interval()
        started = time.monotonic()
        due = (epoch + 1) % self.config.validate_every == 0 or epoch + 1 == self.config.epochs
        self.step.averaging.end_epoch()
        if due:
            self._gather_statistics(epoch)
        self.metrics = {}
        if due and self.validation is not None:
            self.metrics = self.validate(self.validation, self.config.data.val_split, "val")
            self.patience.update(self.metrics)
        evaluated = time.monotonic()
        self._checkpoint(self.metrics, usable=due)
        if self.place.rank == 0:
            times = {
                "time/train_s": seconds,
                "time/wait_s": self.epoch_sums.wait_s,
                "time/evaluation_s": evaluated - started,
                "time/checkpoint_s": time.monotonic() - evaluated,
            }
            figures = {"step": self.step.steps, "epoch": epoch, **self.metrics, **times, **self.epoch_sums.epoch_figures()}
            figures["epoch/first_wait_s"] = self.first_wait_s or 0.0
            self.line.push("epoch", figures=figures)
        self.epoch_sums, self.first_wait_s = Sums(), None
        self.interval.restart()

    def _gather_statistics(self, epoch: int) -> None:
        """Averaged weights have no statistics of their own for BatchNorm: they are gathered from this epoch's first batches."""
        averaging = self.step.averaging
        if averaging.needs_statistics:
            stream = self.source.training()
            batches = fed(stream.batches(Position(epoch), epoch + 1, from_rank_zero), self.place.device, stream.stop)

            def forward(network: Any, item: tuple[Batch, DeviceBatch]) -> None:
                self.line.breathe()
                batch, samples = item[1].samples()
                if samples:
                    with self.step.autocast(), norms_for(network, samples):
                        self.task.loss_sum(network, batch)

            try:
                averaging.gather_statistics(forward, batches)
            finally:
                batches.close()

    def _show_pictures(self, batch: Batch, tensors: DeviceBatch) -> None:
        """What is read in a few images, for the sinks that show pictures; rank 0 alone draws them."""
        tracking = self.config.tracking
        if self.place.rank or not tracking.pictures or not (tracking.wandb or tracking.tensorboard):
            return
        network: Any = self.step.averaging.network
        try:
            pictures = sample_images(network, self.task, batch, tensors, tracking.pictures)
            self.line.push("pictures", step=self.step.steps, pictures=pictures)
        except Exception as error:  # a drawing is never worth a run
            self.line.push("warning", text=f"the pictures of step {self.step.steps} could not be drawn: {error}")

    def validate(self, stream: EvaluationStream, split: str, prefix: str) -> dict[str, float]:
        """The figures of the network that would be exported now, over all rows of `stream`."""
        self._share_buffers()
        network: Any = self.step.averaging.network
        device, look = self.place.device, self._show_pictures
        sums, errors = evaluate(network, self.task, stream, device, self.line, groups=self.groups, look=look)
        self._reject(split, errors)
        require_few(sums.total.rejected, stream.rows, self.config.stream.max_rejected, split)
        return sums.averages(prefix)

    def _share_buffers(self) -> None:
        """Give every rank the running statistics of rank 0, which are those that a checkpoint holds."""
        if self.place.world_size > 1:
            networks = {id(network): network for network in (self.network, self.step.averaging.network)}
            for network in networks.values():
                for buffer in network.buffers():
                    dist.broadcast(buffer, 0)

    def _checkpoint(self, figures: dict[str, float], usable: bool) -> None:
        """Have a checkpoint written; training waits for the copy of what it will change, not for the storage.

        `figures` are those of a validation of these very weights; `usable`: averaged weights have their statistics.
        """
        self.line.mark("checkpoint")
        self._wishes_checkpoint = False
        if self.writer is None:
            return
        metrics = {"step": float(self.step.steps), "epoch": float(self.position.epoch)}
        metrics |= figures
        card = short_card(self.config.name, self.source.dataset.manifest, metrics)
        state = self.step.state_dict() | {"patience": self.patience.state_dict()}
        state |= {"planned": {"steps": self.total_steps, "epochs": self.config.epochs}}
        # Averages that have no statistics of their own yet are not to be used: they are in the state alone.
        averaging = self.step.averaging
        exported = averaging.network if usable or not averaging.needs_statistics else self.network
        self.writer.submit(
            Snapshot.take(exported, self.config, self.task.tokenizer, self.data, state, self.position, metrics, card)
        )

    def _finish_writing(self) -> None:
        """The last checkpoint has arrived, or the run ends with the reason why not."""
        if self.writer is None:
            return
        timeout_s = self.config.checkpoint.timeout_s
        deadline = time.monotonic() + timeout_s
        while not self.writer.wait(min(1.0, max(0.0, deadline - time.monotonic()))):
            self.line.breathe()
            if time.monotonic() >= deadline:
                raise UserError(
                    f"The last checkpoint could not be written within checkpoint.timeout_s={timeout_s:g}: {self.writer.reason} "
                    f"What was written before stays: go on from there with --resume {self.run_folder.uri}."
                )
