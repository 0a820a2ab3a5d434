"""A training run on Ray: the one way in for `trainers.train` and for the arms of a study."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.errors import user_error_in
from cluster.resources import WorkerResources, plan_workers
from cluster.signals import counted_signals
from data_pipeline.dataset.manifest import Dataset
from data_pipeline.storage.base import Storage
from data_pipeline.storage.claim import Claim
from trainers.config.train import TrainConfig
from trainers.run.hang_detector import HangWatch, end_worker
from trainers.run.log import RunLog, RunResult
from trainers.run.monitor import Beat, start_monitor
from trainers.run.preflight import begin_run
from trainers.run.ray_worker import train_loop_per_worker
from trainers.run.resume import keep_config
from trainers.tracking import Console

POLL_S = 0.5
DRAINING_POLL_S = 2.0
HALVINGS = 10  # restarts that failure.on_out_of_memory=halve may take beyond failure.max_failures


def run_training(
    config: TrainConfig,
    run: Storage,
    console: Console | None = None,
    on_row: Callable[[dict[str, float]], None] | None = None,
    concurrent_runs: int = 1,
    own: Claim | None = None,
) -> RunResult:
    """Train in the connected Ray cluster to the last epoch, or until interrupted; go on if `run` has checkpoints.

    `on_row` is called with every row of figures, in this process. `own` is this process's claim of the folder `run`, which
    callers hold until they are done with it. The folder's configuration becomes `config` once nothing speaks against it.

    Raises:
        UserError: a mistake in the configuration, the data or the cluster's size.
        ray.train.TrainingFailedError: workers failed more often than `failure.max_failures` allows.
    """
    console = console or Console()
    dataset = begin_run(config, run, lambda text: console.line(f"warning: {text}"))
    _warn_of_local_paths(console, run, dataset)
    scaling = config.scaling
    workers = plan_workers(
        scaling.num_train_workers,
        scaling.use_gpu,
        scaling.cpus_per_worker,
        scaling.wait_for_nodes_s,
        concurrent_runs,
        scaling.min_train_workers,
    )
    keep_config(run, config)
    log = RunLog(config, run, dataset, console, on_row)
    if own is not None and own.taken_over:
        log.warn(own.taken_over)
    monitor = start_monitor()
    try:
        trainer = _trainer(config, run, workers, monitor, concurrent_runs)
        _Watch(trainer, monitor, log, config.failure.hang_timeout_s, own).run()
    finally:
        log.close()
    return log.result()


def _warn_of_local_paths(console: Console, run: Storage, dataset: Dataset) -> None:
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    for storage in (run, dataset.storage):
        if nodes > 1 and storage.is_local:
            console.line(f"warning: '{storage.uri}' must be one folder shared by all {nodes} machines of the cluster.")


def _trainer(config: TrainConfig, run: Storage, workers: WorkerResources, monitor: Any, concurrent_runs: int) -> TorchTrainer:
    parent = run.path.rpartition("/")[0]
    least = config.scaling.min_train_workers
    halvings = HALVINGS if config.failure.on_out_of_memory == "halve" else 0
    # Checkpoints are our own affair (`trainers.checkpoint.writer`): Ray starts the workers anew, they find the newest.
    return TorchTrainer(
        train_loop_per_worker,
        train_loop_config={"config": config, "monitor": monitor, "run": run, "concurrent_runs": concurrent_runs},
        torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(least, workers.num_workers) if least else workers.num_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker=workers.to_ray(),
            elastic_resize_monitor_interval_s=config.scaling.resize_interval_s,
        ),
        run_config=RunConfig(
            name=run.name,
            storage_path=parent,
            storage_filesystem=run.filesystem,
            failure_config=FailureConfig(max_failures=config.failure.max_failures + halvings),
        ),
    )


class _Watch:
    """Runs a trainer in a thread and looks after it here, where Ctrl-C arrives: events, wishes, hangs, machines that go."""

    def __init__(
        self, trainer: TorchTrainer, monitor: Any, log: RunLog, hang_timeout_s: float, own: Claim | None = None
    ) -> None:
        self._trainer, self._monitor, self._log, self._own = trainer, monitor, log, own
        self._hangs = HangWatch(hang_timeout_s)
        self._hang_timeout_s = hang_timeout_s
        self._failure: BaseException | None = None
        self._asked_to_stop = False
        self._draining: set[str] = set()
        self._looked = 0.0

    def run(self) -> None:
        """Until the run ends."""
        thread = threading.Thread(target=self._fit, name="inkray-fit", daemon=True)
        thread.start()
        with counted_signals() as signals:
            alive = True
            while alive:
                thread.join(POLL_S)
                alive = thread.is_alive()
                beats = self._handle_events()
                if self._own is not None:
                    self._own.check()
                if alive:
                    self._end_hanging(beats)
                    self._look_for_draining(beats)
                if signals:
                    self._ask_to_stop()
                if len(signals) > 1:
                    raise KeyboardInterrupt
        if self._failure is not None:
            raise user_error_in(self._failure) or self._failure

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:
            self._failure = error

    def _ask_to_stop(self) -> None:
        self._monitor.stop.remote()  # again and again: a monitor that was restarted has forgotten it
        if not self._asked_to_stop:
            self._log.console.line("Stopping: a checkpoint is being written. Ctrl-C again to end at once.")
        self._asked_to_stop = True

    def _handle_events(self) -> dict[int, Beat]:
        try:
            events, beats = ray.get(self._monitor.drain.remote(), timeout=10)
        except ray.exceptions.RayError:
            return {}  # it is being restarted; what it held are lines of the log
        for event in sorted(events, key=lambda event: event["kind"] == "fatal"):  # the last word of a run comes last
            if event["kind"] == "started":
                self._hangs.restart()
                self._monitor.started.remote(event["world_size"])
                beats = {rank: beat for rank, beat in beats.items() if rank < event["world_size"]}
            self._log.handle(event)
        self._log.save_rejected()
        return beats

    def _end_hanging(self, beats: dict[int, Beat]) -> None:
        for beat in self._hangs.hanging(beats):
            if end_worker(beat):
                self._log.warn(
                    f"rank {beat.rank} (process {beat.pid} on {beat.host}) hangs: {beat.doing}, no progress for "
                    f"{self._hang_timeout_s:g} s (failure.hang_timeout_s). It is ended; the workers start again from the last "
                    "checkpoint."
                )

    def _look_for_draining(self, beats: dict[int, Beat]) -> None:
        """A machine that the cloud takes back is announced by its draining: a checkpoint is written while there is time."""
        if time.monotonic() - self._looked < DRAINING_POLL_S:
            return
        self._looked = time.monotonic()
        draining: set[str] = set()
        with contextlib.suppress(Exception):  # Ray's own watch asks the same way; there is no public one
            draining = set(ray._private.state.state.get_draining_nodes())
        for node_id in draining - self._draining:
            hosts = {beat.host for beat in beats.values() if beat.node_id == node_id}
            if hosts:
                self._log.warn(f"machine {hosts.pop()} is about to be taken away: a checkpoint is written now.")
                self._monitor.checkpoint.remote()
        self._draining = draining
