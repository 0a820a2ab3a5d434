"""Launching a run on Ray: Ray Train starts the workers, this process watches over them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.errors import user_error_in
from cluster.ray_internals import draining_nodes
from cluster.resources import WorkerResources, plan_workers
from cluster.session import ray_session, require_session
from cluster.signals import counted_signals
from data_pipeline.dataset.manifest import Dataset
from data_pipeline.storage.base import Storage
from data_pipeline.storage.claim import Claim
from trainers.checkpoint.load import Checkpoint
from trainers.config.train import TrainConfig
from trainers.engine.events import Failed, Started
from trainers.engine.run_spec import RunSpec
from trainers.prediction.pool import predict_split_on_ray
from trainers.run.begin import Begun
from trainers.run.directory import keep_config
from trainers.run.hang_detector import HangDetector, kill_worker
from trainers.run.log import RunLog, RunResult
from trainers.run.monitor import Heartbeat, start_monitor
from trainers.run.ray_worker import WorkerSettings, train_loop_per_worker
from trainers.tracking import Console

POLL_S = 0.5
DRAINING_POLL_S = 2.0
HALVINGS = 10  # restarts that failure.on_out_of_memory=halve may take beyond failure.max_failures

T = TypeVar("T")


class RayLauncher:
    """Starts runs in the Ray cluster that this process connects to."""

    command = "python -m trainers.train"

    def __init__(self) -> None:
        self.overrides: list[str] = []

    def predict_split(self, checkpoint: Checkpoint, dataset: Dataset, split: str, batch_size: int) -> Iterator[dict[str, Any]]:
        """Predict a split in a pool of actors."""
        return predict_split_on_ray(checkpoint, dataset, split, batch_size)

    def connected(self, config: TrainConfig) -> contextlib.AbstractContextManager[None]:
        """Nothing to do: Ray places the workers."""
        return contextlib.nullcontext()

    def on_main(self, work: Callable[[], T]) -> T:
        """Do `work`: this process is the only one."""
        return work()

    def require(self) -> None:
        """Check that there is a cluster, before a run's folder is made."""
        require_session()

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """A Ray session."""
        with ray_session():
            yield

    def launch(self, begun: Begun) -> RunResult | None:
        """Train; returns the outcome."""
        return launch_ray(begun.spec, begun.run, claim=begun.claim, kept=begun.kept)


def launch_ray(
    spec: RunSpec,
    run: Storage,
    console: Console | None = None,
    on_row: Callable[[dict[str, float]], None] | None = None,
    concurrent_runs: int = 1,
    claim: Claim | None = None,
    kept: TrainConfig | None = None,
) -> RunResult:
    """Train in the connected Ray cluster to the last epoch, or until interrupted; resume if `run` has checkpoints.

    `on_row` is called with every row of metrics, in this process. `claim` is this process's claim of the folder `run`, which
    callers hold until they are done with it. The folder's configuration becomes `kept`, or the one of `spec`, once nothing
    speaks against it.

    Raises:
        UserError: a mistake in the configuration, the data or the cluster's size.
        ray.train.TrainingFailedError: workers failed more often than `failure.max_failures` allows.
    """
    console = console or Console()
    for note in spec.notes:
        console.line(f"warning: {note}")
    _warn_of_local_paths(console, run, spec.dataset)
    scaling = spec.config.scaling
    workers = plan_workers(
        scaling.num_train_workers,
        scaling.use_gpu,
        scaling.cpus_per_worker,
        scaling.wait_for_nodes_s,
        concurrent_runs,
        scaling.min_train_workers,
    )
    keep_config(run, kept or spec.config)
    log = RunLog(spec, run, console, on_row)
    if claim is not None and claim.taken_over:
        log.warn(claim.taken_over)
    monitor = start_monitor()
    try:
        trainer = _trainer(spec, run, workers, monitor, concurrent_runs)
        _Watch(trainer, monitor, log, spec.config.failure.hang_timeout_s, claim).run()
    finally:
        log.close()
    return log.result()


def _warn_of_local_paths(console: Console, run: Storage, dataset: Dataset) -> None:
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    for storage in (run, dataset.storage):
        if nodes > 1 and storage.is_local:
            console.line(f"warning: '{storage.uri}' must be one folder shared by all {nodes} machines of the cluster.")


def _trainer(spec: RunSpec, run: Storage, workers: WorkerResources, monitor: Any, concurrent_runs: int) -> TorchTrainer:
    config = spec.config
    parent = run.path.rpartition("/")[0]
    min_workers = config.scaling.min_train_workers
    halvings = HALVINGS if config.failure.on_out_of_memory == "halve" else 0
    # Checkpoints are written by Inkray (`trainers.checkpoint.writer`): Ray restarts the workers, they find the newest.
    return TorchTrainer(
        train_loop_per_worker,
        train_loop_config={"settings": WorkerSettings(spec, monitor, run, concurrent_runs)},
        torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(min_workers, workers.num_workers) if min_workers else workers.num_workers,
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
    """Runs a trainer in a thread and watches it here, where Ctrl-C arrives: events, requests, hangs, machines that go."""

    def __init__(
        self, trainer: TorchTrainer, monitor: Any, log: RunLog, hang_timeout_s: float, claim: Claim | None = None
    ) -> None:
        self._trainer, self._monitor, self._log, self._claim = trainer, monitor, log, claim
        self._hangs = HangDetector(hang_timeout_s)
        self._hang_timeout_s = hang_timeout_s
        self._failure: BaseException | None = None
        self._stop_requested = False
        self._draining: set[str] = set()
        self._looked = 0.0
        self._taken = 0  # number of the first event that the monitor is still to give

    def run(self) -> None:
        """Until the run ends."""
        thread = threading.Thread(target=self._fit, name="inkray-fit", daemon=True)
        thread.start()
        with counted_signals() as signals:
            alive = True
            while alive:
                thread.join(POLL_S)
                alive = thread.is_alive()
                heartbeats = self._handle_events()
                if self._claim is not None:
                    self._claim.check()
                if alive:
                    self._kill_hanging(heartbeats)
                    self._look_for_draining(heartbeats)
                if signals:
                    self._request_stop()
                if len(signals) > 1:
                    raise KeyboardInterrupt
            self._log.stopped |= bool(signals)  # also where the last step was taken before
        if self._failure is not None:
            raise user_error_in(self._failure) or self._failure

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:
            self._failure = error

    def _request_stop(self) -> None:
        self._monitor.stop.remote()  # repeatedly: a monitor that was restarted has forgotten it
        if not self._stop_requested:
            self._log.console.line("Stopping: a checkpoint is being written. Ctrl-C again to end at once.")
        self._stop_requested = True

    def _handle_events(self) -> dict[int, Heartbeat]:
        try:
            events, self._taken, heartbeats = ray.get(self._monitor.fetch.remote(self._taken), timeout=10)
        except ray.exceptions.RayError:
            return {}  # it is being restarted, or has much to do
        for event in sorted(events, key=lambda event: isinstance(event, Failed)):  # what ends the run comes last
            if isinstance(event, Started):
                self._hangs.restart()
                self._monitor.started.remote(event.world_size)
                heartbeats = {rank: heartbeat for rank, heartbeat in heartbeats.items() if rank < event.world_size}
            self._log.handle(event)
        self._log.save_rejected()
        return heartbeats

    def _kill_hanging(self, heartbeats: dict[int, Heartbeat]) -> None:
        for heartbeat in self._hangs.hanging(heartbeats):
            if kill_worker(heartbeat):
                self._log.warn(
                    f"rank {heartbeat.rank} (process {heartbeat.pid} on {heartbeat.host}) hangs: {heartbeat.phase}, no "
                    f"progress for {self._hang_timeout_s:g} s (failure.hang_timeout_s). It is killed; the workers restart from "
                    "the last checkpoint."
                )

    def _look_for_draining(self, heartbeats: dict[int, Heartbeat]) -> None:
        """A machine that the cloud takes back is announced by its draining: a checkpoint is written while there is time."""
        if time.monotonic() - self._looked < DRAINING_POLL_S:
            return
        self._looked = time.monotonic()
        draining = draining_nodes()
        for node_id in draining - self._draining:
            hosts = {heartbeat.host for heartbeat in heartbeats.values() if heartbeat.node_id == node_id}
            if hosts:
                self._log.warn(f"machine {hosts.pop()} is about to be taken away: a checkpoint is written now.")
                self._monitor.checkpoint.remote()
        self._draining = draining
