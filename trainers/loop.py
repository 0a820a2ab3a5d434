"""What each training worker does. Ray is met here only; the step itself is plain torch (`trainers.step`)."""

from __future__ import annotations

import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import nn

from cluster.cores import cores_each
from cluster.errors import UserError, user_error_in
from cluster.resources import spare_machines
from data_pipeline.manifest import Dataset, open_dataset
from data_pipeline.storage import Storage, StorageError, open_storage, storage_errors
from data_pipeline.stream import EvaluationStream, Position, TrainStream
from data_pipeline.tokenizer import Tokenizer
from models import ModelConfigError
from trainers.card import short_card
from trainers.checkpoint import (
    PREFIX,
    VOCAB,
    DataInfo,
    build_recognizer,
    load_trainer_state,
    load_weights,
    save_checkpoint,
)
from trainers.config import TrainConfig, config_from_dict
from trainers.evaluation import evaluate
from trainers.feed import fed
from trainers.gauges import Gauges
from trainers.interval import Interval, Sums
from trainers.monitor import MonitorLine
from trainers.ranks import from_rank_zero, gathered
from trainers.rejected import require_few
from trainers.step import TrainStep
from trainers.task import SequenceTask


def train_loop_per_worker(settings: dict[str, Any]) -> None:
    """Train from the last checkpoint of the run, if it has one, to the end of its last epoch."""
    config = config_from_dict(settings["config"], "the run's configuration")
    line = MonitorLine(settings["monitor"])
    try:
        Worker(config, line, settings["run"], settings["concurrent_runs"]).run()
    except Exception as error:
        # A network may also refuse what it is given: images that are too small for it, say.
        mistake = UserError(str(error)) if isinstance(error, ModelConfigError) else user_error_in(error)
        # Told before Ray sees it: a restart would only meet the same mistake again. Storage that is down may come back.
        if mistake is not None and not (isinstance(mistake, StorageError) and mistake.transient):
            line.push("fatal", message=str(mistake))
            line.flush()
        raise


class Worker:
    """One rank of a run."""

    def __init__(self, config: TrainConfig, line: MonitorLine, run: Storage, concurrent_runs: int = 1) -> None:
        self.config, self.line, self.run_folder = config, line, run
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self.processes = context.get_local_world_size() * concurrent_runs  # that train on this machine
        if self.device.type == "cpu":
            torch.set_num_threads(cores_each(self.processes))
        self.stream_config = config.stream
        if config.stream.execution == "auto":
            nodes = gathered(ray.get_runtime_context().get_node_id())
            # Rank 0 decides: a machine may come or go between two ranks' looks.
            spare = from_rank_zero(self.rank == 0 and spare_machines(nodes))
            self.stream_config = replace(config.stream, execution="ray" if spare else "threads")
        self.dataset: Dataset = open_dataset(config.data.dataset)
        self.tokenizer = Tokenizer(self.dataset.manifest.charset)
        self.task = SequenceTask(self.tokenizer, config.loss, config.decoding)
        self.data = DataInfo.of(self.dataset.manifest)
        torch.manual_seed(config.seed)  # every rank starts from the same weights
        fresh = ray.train.get_checkpoint() is None
        self.network = build_recognizer(config, self.task, self.data, pretrained=fresh)
        self.stream = TrainStream(
            self.dataset,
            config.data.train_split,
            self.tokenizer,
            self.stream_config,
            seed=config.seed,
            global_batch_size=config.global_batch_size,
            rank=self.rank,
            world_size=self.world_size,
            processes=self.processes,
        )
        self.validation = self._validation_stream()  # now: what does not fit the memory is not found out after an epoch
        self.position = Position()
        self.metrics: dict[str, float] = {}
        state = self._restore()
        # Gradients as views of the buckets: one copy less a step.
        self.model: nn.Module = ray.train.torch.prepare_model(
            self.network, parallel_strategy_kwargs={"gradient_as_bucket_view": True}
        )
        self.total_steps = self.stream.total_steps(config.epochs)
        self.step = TrainStep(
            self.model,
            self.task,
            config.optim,
            self.total_steps,
            self.device,
            config.scaling.precision,
            config.seed,
            self.rank,
        )
        if state is not None:
            self.step.load_state_dict(state)
        self.interval = Interval(self.device)
        self.epoch_sums = Sums()
        self.first_wait_s: float | None = None  # for the first batch of this epoch
        self.gauges = Gauges(run.name)

    def _validation_stream(self) -> EvaluationStream | None:
        if not self.config.data.val_split:
            return None
        return EvaluationStream(
            self.dataset,
            self.config.data.val_split,
            self.tokenizer,
            self.stream_config,
            batch_size=self.config.batch_size_per_worker,
            rank=self.rank,
            world_size=self.world_size,
            processes=self.processes,
        )

    def _restore(self) -> dict[str, Any] | None:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as directory:
            folder = Path(directory)
            saved = Tokenizer.from_json((folder / VOCAB).read_bytes())
            saved.require_same(self.tokenizer, "the checkpoint", f"dataset '{self.config.data.dataset}'")
            load_weights(self.network, folder)
            self.position, state, self.metrics = load_trainer_state(folder)
        if self.rank == 0:
            self.line.push("resumed", checkpoint=checkpoint.path, epoch=self.position.epoch, step=state["steps"])
        return state

    def run(self) -> None:
        """Consume the stream to its end."""
        if self.rank == 0:
            self._push_start()
        batches = fed(self.stream.batches(self.position, self.config.epochs, from_rank_zero), self.device, self.stream.stop)
        epoch_ended = time.monotonic()
        while True:
            asked = time.monotonic()
            batch, tensors = next(batches, (None, None))
            if batch is None or tensors is None:
                break
            waited = time.monotonic() - asked
            self.interval.waited(waited)
            self.first_wait_s = waited if self.first_wait_s is None else self.first_wait_s
            result = self.step(tensors, stop=self.line.poll())
            self.interval.stepped(result, batch)
            self._reject(self.config.data.train_split, batch.errors)
            epoch, self.position = self.position.epoch, batch.position
            if self.step.steps % self.config.tracking.log_interval == 0:
                self._log(epoch)
            stop = self._agreed_to_stop(result.stop)
            if self.position.epoch > epoch:
                self._end_epoch(epoch, time.monotonic() - epoch_ended)
                epoch_ended = time.monotonic()
            elif stop or self._checkpoint_due():
                self._checkpoint(validated=False)
            if stop:
                if self.rank == 0:
                    self.line.push("stopped", epoch=self.position.epoch, step=self.step.steps)
                break
        batches.close()
        self.line.flush()  # this process ends with the loop, and what it has not sent with it

    def _push_start(self) -> None:
        manifest = self.dataset.manifest
        self.line.push(
            "started",
            parameters=sum(p.numel() for p in self.network.parameters()),
            device=torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
            precision=str(self.step.dtype).removeprefix("torch."),
            world_size=self.world_size,
            rows=self.stream.rows,
            steps=self.total_steps,
            execution=self.stream_config.execution,
            step=self.step.steps,
            vocabulary=len(self.tokenizer),
            digest=manifest.digest,
        )

    def _agreed_to_stop(self, stop: torch.Tensor) -> bool:
        # On a GPU reading the flag waits for the step, so it is read now and then; all ranks read it at the same steps.
        if self.device.type == "cuda" and self.step.steps % 16:
            return False
        return bool(stop > 0)

    def _checkpoint_due(self) -> bool:
        every = self.config.checkpoint.every_steps
        return every > 0 and self.step.steps % every == 0

    def _log(self, epoch: int) -> None:
        figures = self._close_interval().figures()
        if self.rank == 0:
            self.gauges.set(figures)
            figures |= {"step": self.step.steps, "epoch": epoch, "train/lr": self.step.lr}
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
        if self.validation is not None:
            self._share_buffers()
            sums, errors = evaluate(self.network, self.task, self.validation, self.device)
            self._reject(self.config.data.val_split, errors)
            require_few(sums.total.rejected, self.validation.rows, self.config.stream.max_rejected, self.config.data.val_split)
            self.metrics = sums.averages("val")
        evaluated = time.monotonic()
        self._checkpoint(validated=bool(self.config.data.val_split))
        if self.rank == 0:
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

    def _share_buffers(self) -> None:
        """Give every rank the running statistics of rank 0, which are those that a checkpoint holds."""
        if self.world_size > 1:
            for buffer in self.network.buffers():
                dist.broadcast(buffer, 0)

    def _checkpoint(self, validated: bool) -> None:
        """Write and report a checkpoint. A report is a barrier: every rank comes here at the same step."""
        metrics = {"step": float(self.step.steps), "epoch": float(self.position.epoch)}
        metrics |= self.metrics if validated else {}
        name = f"{PREFIX}{self.step.steps:07d}-{uuid.uuid4().hex[:6]}"  # unique: a lost worker may leave an orphan
        with tempfile.TemporaryDirectory(prefix="inkray-checkpoint-") as scratch:
            checkpoint = None
            if self.rank == 0:
                with storage_errors(open_storage(scratch)):
                    self._save(Path(scratch), metrics)
                checkpoint = ray.train.Checkpoint.from_directory(scratch)
            with storage_errors(self.run_folder):
                ray.train.report(metrics, checkpoint=checkpoint, checkpoint_dir_name=name)
        if self.rank == 0:
            self.line.push("checkpoint", name=name, step=self.step.steps)

    def _save(self, folder: Path, metrics: dict[str, float]) -> None:
        card = short_card(self.config.name, self.dataset.manifest, metrics)
        state = self.step.state_dict()
        save_checkpoint(folder, self.network, self.config, self.tokenizer, self.data, state, self.position, metrics, card)
