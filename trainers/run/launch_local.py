"""Launching a run without Ray: in this process, or in those that torchrun started on this machine."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from cluster.errors import UserError
from cluster.signals import counted_signals
from data_pipeline.dataset.manifest import Dataset
from data_pipeline.storage.base import Storage
from data_pipeline.storage.claim import Claim
from data_pipeline.stream.config import StreamConfig
from models import ModelConfigError
from trainers.checkpoint.load import Checkpoint
from trainers.config.train import TrainConfig
from trainers.distributed.collectives import run_on_rank0
from trainers.distributed.context import WorkerContext
from trainers.distributed.micro_batch import MemoryFull
from trainers.distributed.rank_events import CRASH_WAIT_S, LAST_WAIT_S, RankEvents, join_rank_events
from trainers.engine.events import CheckpointWritten, EpochEnded, Event, Warned
from trainers.engine.reporter import ControlRequests
from trainers.engine.run_spec import RunSpec
from trainers.engine.train_loop import TrainLoop
from trainers.prediction.local import predict_split_here
from trainers.run.begin import Begun, is_torchrun
from trainers.run.directory import keep_config
from trainers.run.execution import choose_execution
from trainers.run.log import RunLog, RunResult
from trainers.tracking import Console

T = TypeVar("T")


class LocalLauncher:
    """Starts runs on this machine, without Ray: on a GPU if there is one, or as scaling.use_gpu says."""

    def __init__(self) -> None:
        workers = int(os.environ.get("WORLD_SIZE", 1))
        self.command = "python -m trainers.train --local"
        if is_torchrun():
            self.command = f"torchrun --nproc_per_node={os.environ['LOCAL_WORLD_SIZE']} -m trainers.train"
        self.overrides = [f"scaling.num_train_workers={workers}", "scaling.min_train_workers=0"]
        self._context: WorkerContext | None = None

    @contextlib.contextmanager
    def connected(self, config: TrainConfig) -> Iterator[None]:
        """The process group, if torchrun started other processes: ranks agree on all that follows."""
        self._context = local_context(config.scaling.use_gpu, config.stream)
        try:
            yield
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()

    def predict_split(self, checkpoint: Checkpoint, dataset: Dataset, split: str, batch_size: int) -> Iterator[dict[str, Any]]:
        """Predict a split in this process, on the device that was trained on."""
        assert self._context is not None
        return predict_split_here(checkpoint, dataset, split, batch_size, self._context.device)

    def on_main(self, work: Callable[[], T]) -> T:
        """Do `work` on rank 0; all ranks get its value."""
        value: T = run_on_rank0(work)
        return value

    def require(self) -> None:
        """Nothing more is needed than this process."""

    def session(self) -> contextlib.AbstractContextManager[None]:
        """Nothing more is needed than this process."""
        return contextlib.nullcontext()

    def launch(self, begun: Begun) -> RunResult | None:
        """Train; the outcome on rank 0."""
        assert self._context is not None
        return launch_local(begun.spec, begun.run, self._context, claim=begun.claim, kept=begun.kept)


def local_context(use_gpu: bool | None, stream: StreamConfig) -> WorkerContext:
    """Where this process trains: alone, or as one of those that `torchrun` started; on a GPU if there is one.

    Raises:
        UserError: a GPU is wanted, and there is none; or images are to be decoded by Ray's tasks.
    """
    if stream.execution == "ray":
        raise UserError(
            "stream.execution=ray decodes in tasks of Ray, and this is training without it. Set stream.execution=auto."
        )
    rank, local_rank = int(os.environ.get("RANK", 0)), int(os.environ.get("LOCAL_RANK", 0))
    gpu = torch.cuda.is_available() if use_gpu is None else use_gpu
    if gpu and not torch.cuda.is_available():
        raise UserError("scaling.use_gpu=true, but torch finds no GPU here. Set scaling.use_gpu=false to train on the CPU.")
    device = torch.device("cuda", local_rank) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if world_size > 1:
        dist.init_process_group("nccl" if gpu else "gloo")
    return WorkerContext(
        rank,
        world_size,
        device,
        local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        execution=choose_execution(stream, device, machines_are_spare=lambda: False),
    )


class LocalReporter:
    """Reporter of a worker whose own process is the driver; `log` is None on ranks that leave their `events` to rank 0."""

    def __init__(
        self, log: RunLog | None, signals: list[float], claim: Claim | None = None, events: RankEvents | None = None
    ) -> None:
        self._log, self._signals, self._claim, self._events, self._announced = log, signals, claim, events, False
        self._lock = threading.Lock()  # the thread that writes checkpoints emits, too

    def emit(self, event: Event) -> None:
        """Handle an event at once, or leave it for rank 0."""
        with self._lock:
            if self._log is not None:
                self._log.handle(event)
                if isinstance(event, CheckpointWritten | EpochEnded):
                    self._log.save_rejected()
            elif self._events is not None:
                self._events.emit(event)

    def enter_phase(self, phase: str) -> None:
        """Nothing to do: no other process watches."""

    def heartbeat(self) -> None:
        """Nothing to do: no other process watches."""

    def requests(self) -> ControlRequests:
        """To stop once a signal has come; at the second at once.

        Raises:
            InUse: another process has taken over the run's folder.
        """
        if self._claim is not None:
            self._claim.check()
        if len(self._signals) > 1:
            raise KeyboardInterrupt
        if self._signals and not self._announced and self._log is not None:
            self._log.console.line("Stopping: a checkpoint is being written. Ctrl-C again to end at once.")
        self._announced = bool(self._signals)
        if self._log is not None and self._events is not None:
            self._handle(self._events.take())
        return ControlRequests(stop=bool(self._signals))

    def flush(self) -> None:
        """Nothing to do: rank 0, which writes checkpoints, handles its events at once."""

    def end(self) -> None:
        """Have the events of all ranks handled, at the end of a run that all of them reach."""
        self._finish(LAST_WAIT_S)

    def close(self) -> None:
        """Have the events of other ranks handled that have come, however this one ends."""
        self._finish(CRASH_WAIT_S)

    def _finish(self, wait_s: float) -> None:
        events, self._events = self._events, None
        if events is not None and self._log is None:
            events.done()
        elif events is not None:
            self._handle(events.rest(wait_s))

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            with self._lock:
                if self._log is not None:
                    self._log.handle(event)


def launch_local(
    spec: RunSpec,
    run: Storage,
    context: WorkerContext,
    console: Console | None = None,
    claim: Claim | None = None,
    kept: TrainConfig | None = None,
) -> RunResult | None:
    """Train to the end or until interrupted; resume if `run` has checkpoints. The outcome on rank 0, None on other ranks.

    `claim` is rank 0's claim of the folder `run`. Its configuration becomes `kept`, which may be meant for another number of
    workers, once nothing speaks against it.

    Raises:
        UserError: a mistake in the configuration or the data.
    """
    log = _open_log(spec, run, console, claim, kept) if context.rank == 0 else None
    events = join_rank_events(context.rank, context.world_size)
    reporter: LocalReporter | None = None
    try:
        with counted_signals() as signals:
            reporter = LocalReporter(log, signals, claim, events)
            while not _train(spec, run, context, reporter):
                gc.collect()  # the network and the optimizer's state hold each other, and the memory that is wanted now
                torch.cuda.empty_cache()
            if signals and log is not None:  # also where the last step was taken before: what would follow is not wanted now
                log.stopped = True
    finally:
        if reporter is not None:
            reporter.close()
        if log is not None:
            log.close()
    if dist.is_initialized():
        dist.destroy_process_group()  # what follows is rank 0's alone
    return log.result() if log is not None else None


def _open_log(spec: RunSpec, run: Storage, console: Console | None, claim: Claim | None, kept: TrainConfig | None) -> RunLog:
    console = console or Console()
    for note in spec.notes:
        console.line(f"warning: {note}")
    keep_config(run, kept or spec.config)
    log = RunLog(spec, run, console)
    if claim is not None and claim.taken_over:
        log.warn(claim.taken_over)
    return log


def _train(spec: RunSpec, run: Storage, context: WorkerContext, reporter: LocalReporter) -> bool:
    """Train from the last checkpoint; whether to the end, or the memory was full and smaller micro-batches are to be tried."""
    try:
        TrainLoop(spec, reporter, run, context).run()
        return True
    except MemoryFull as reason:
        if context.world_size > 1:
            raise UserError(f"{reason}: start the command again with --resume {run.uri}.") from None
        reporter.emit(Warned(str(reason)))
        return False
    except ModelConfigError as error:  # a network may refuse images that are too small for it
        raise UserError(f"{error}.") from None
