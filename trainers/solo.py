"""`python -m trainers.solo [CONFIG] [key=value ...]`: the same training without Ray, on this machine alone.

    python -m trainers.solo configs/train/crohme.yaml data.dataset=data/crohme
    torchrun --nproc_per_node=4 -m trainers.solo configs/train/crohme.yaml      # one process a GPU
    python -m trainers.solo --resume runs/crohme-20261120-181500-1a2b

The worker, the step, the stream and the checkpoints are those of `trainers.train`; a run begun by one goes on with the other.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import threading
import time
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

from cluster.errors import INTERRUPTED, UserError, run_command
from cluster.progress import progress
from cluster.signals import counted_signals, say_when_interrupted
from data_pipeline.storage.base import Storage
from data_pipeline.storage.claim import Claim, claim
from models import ModelConfigError
from trainers.checkpoint.format import load_checkpoint
from trainers.cli import training_arguments
from trainers.config.train import TrainConfig, load_config, merge_overrides
from trainers.distributed.collectives import first_on_rank_zero
from trainers.distributed.context import Place
from trainers.distributed.micro_batch import MemoryFull
from trainers.distributed.rank_events import CRASH_WAIT_S, LAST_WAIT_S, RankEvents, join_rank_events
from trainers.engine.evaluation import evaluate
from trainers.engine.reporter import Wishes
from trainers.engine.train_loop import Worker
from trainers.report.metrics_table import metrics_table, split_metrics
from trainers.run.log import RunLog
from trainers.run.preflight import begin_run, check_run, new_run
from trainers.run.resume import change_config, keep_config, open_run
from trainers.tasks.check_metrics import groups_of
from trainers.tasks.metrics.sequence import HEADLINES
from trainers.tracking import Console

FIGURES = "figures.json"  # of the run's folder: what the best checkpoint reads of the test split


class DirectLine:
    """The line of a worker that is watched by its own process; `log` is None on ranks that leave their `events` to rank 0."""

    def __init__(
        self, log: RunLog | None, signals: list[float], own: Claim | None = None, events: RankEvents | None = None
    ) -> None:
        self._log, self._signals, self._own, self._events, self._told = log, signals, own, events, False
        self._lock = threading.Lock()  # the thread that writes checkpoints tells of them, too

    def push(self, kind: str, **content: Any) -> None:
        """Handle an event at once, or leave it for rank 0."""
        with self._lock:
            if self._log is not None:
                self._log.handle({"kind": kind, **content})
                if kind in ("checkpoint", "epoch"):
                    self._log.save_rejected()
            elif self._events is not None:
                self._events.push({"kind": kind, **content})

    def mark(self, doing: str) -> None:
        """Nobody else watches."""

    def breathe(self) -> None:
        """Nobody else watches."""

    def poll(self) -> Wishes:
        """To stop once a signal has come; at the second at once.

        Raises:
            InUse: another process has taken the run's folder over.
        """
        if self._own is not None:
            self._own.check()
        if len(self._signals) > 1:
            raise KeyboardInterrupt
        if self._signals and not self._told and self._log is not None:
            self._log.console.line("Stopping: a checkpoint is being written. Ctrl-C again to end at once.")
        self._told = bool(self._signals)
        if self._log is not None and self._events is not None:
            self._handle(self._events.take())
        return Wishes(stop=bool(self._signals))

    def flush(self) -> None:
        """Have the events of all ranks handled, at the end of a run that all of them reach."""
        self._end(LAST_WAIT_S)

    def close(self) -> None:
        """Have handled what there is of the events of other ranks, however this one ends."""
        self._end(CRASH_WAIT_S)

    def _end(self, wait_s: float) -> None:
        events, self._events = self._events, None
        if events is not None and self._log is None:
            events.done()
        elif events is not None:
            self._handle(events.rest(wait_s))

    def _handle(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            with self._lock:
                if self._log is not None:
                    self._log.handle(event)


def main() -> int:
    """The command line."""
    args = training_arguments("trainers.solo", __doc__)
    workers = int(os.environ.get("WORLD_SIZE", 1))
    here = [f"scaling.num_train_workers={workers}", "scaling.min_train_workers=0"]
    if args.resume is not None:
        run, before = open_run(args.resume)
        kept = change_config(before, args.overrides)
        config = merge_overrides(kept, here, "this machine")  # the run's own stays
        place = own_place(config.scaling.use_gpu)
    else:
        kept = config = load_config(args.config, [*args.overrides, *here])
        place = own_place(config.scaling.use_gpu)
        run = first_on_rank_zero(lambda: _checked_run(config))
    if place.rank == 0:
        say_when_interrupted(f"Interrupted. Resume with: python -m trainers.solo --resume {run.uri}")
        print(f"Run {run.uri}", flush=True)
    try:
        with contextlib.ExitStack() as held:
            claims: list[Claim] = []
            first_on_rank_zero(lambda: claims.append(held.enter_context(claim(run, "training run"))))
            return train_alone(config, run, place, claims[0] if claims else None, kept)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _checked_run(config: TrainConfig) -> Storage:
    """The folder of a fresh run; there is none before all is checked."""
    check_run(config)
    return new_run(config)


def own_place(use_gpu: bool | None) -> Place:
    """Where this process works: alone, or one of those that `torchrun` started; on a GPU if there is one, or as `use_gpu` says.

    Raises:
        UserError: a GPU is wanted, and there is none.
    """
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
    return Place(rank, world_size, device, processes=int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def train_alone(
    config: TrainConfig, run: Storage, place: Place, own: Claim | None = None, kept: TrainConfig | None = None
) -> int:
    """Train to the end, read the test split with the best checkpoint, print what came out; the exit status.

    `own` is rank 0's claim of the folder `run`. Its configuration becomes `kept`, which may be meant for another number of
    workers, once nothing speaks against it.
    """
    logs: list[RunLog] = []

    def begin() -> None:
        dataset = begin_run(config, run, lambda text: Console().line(f"warning: {text}"))
        if kept is not None:
            keep_config(run, kept)
        logs.append(RunLog(config, run, dataset))
        if own is not None and own.taken_over:
            logs[0].warn(own.taken_over)

    first_on_rank_zero(begin)
    log = logs[0] if logs else None
    started = time.monotonic()
    events = join_rank_events(place.rank, place.world_size)
    line: DirectLine | None = None
    try:
        with counted_signals() as signals:
            line = DirectLine(log, signals, own, events)
            worker = None
            while worker is None:
                try:
                    worker = Worker(config, line, run, place)
                    worker.run()
                except MemoryFull as reason:
                    if place.world_size > 1:
                        raise UserError(f"{reason}: start the command again with --resume {run.uri}.") from None
                    line.push("warning", text=str(reason))
                    worker = None
                except ModelConfigError as error:  # a network may refuse images that are too small for it
                    raise UserError(f"{error}.") from None
                if worker is None:  # its network and the optimizer's state hold each other, and the memory that is wanted now
                    gc.collect()
                    torch.cuda.empty_cache()
    finally:
        if line is not None:
            line.close()
        if log is not None:
            log.close()
    if dist.is_initialized():
        dist.destroy_process_group()  # what follows is rank 0's alone
    if log is None:
        return 0
    if log.stopped:
        print(f"Stopped. Go on with: python -m trainers.solo --resume {run.uri}")
        return INTERRUPTED
    print(f"Trained in {(time.monotonic() - started) / 60:.1f} minutes.", flush=True)
    _judge_test_split(config, run, worker)
    print(f"Predict: python -m trainers.predict {run.uri} IMAGES OUT")
    return 0


def _judge_test_split(config: TrainConfig, run: Storage, worker: Worker) -> None:
    """Every row of the test split once, decoded as configured, by the best checkpoint."""
    split = config.data.test_split or config.data.val_split
    if not split:
        return
    loaded = load_checkpoint(run.uri, worker.place.device)
    stream = replace(worker.source, place=replace(worker.place, rank=0, world_size=1)).evaluation(split)
    assert stream is not None
    groups = groups_of(worker.source.dataset, split, config.tracking.max_sources)
    with progress(stream.rows, "images", f"evaluate {split}") as bar:
        device, line = worker.place.device, worker.line
        sums, _ = evaluate(loaded.model, loaded.task, stream, device, line, config.decoding, groups, on_images=bar.update)
    figures = split_metrics(split, sums)
    run.child(FIGURES).write_bytes(json.dumps({"checkpoint": loaded.uri, "figures": figures}, indent=1).encode())
    print(metrics_table(figures, HEADLINES), flush=True)


if __name__ == "__main__":
    run_command(main)
