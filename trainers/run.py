"""A training run: the one way in for `trainers.train` and for the arms of a study."""

from __future__ import annotations

import datetime
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import torch
from omegaconf import OmegaConf
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.errors import UserError, user_error_in
from cluster.resources import WorkerResources, plan_workers
from data_pipeline.manifest import Dataset, open_dataset
from data_pipeline.storage import Storage, StorageError, open_storage
from data_pipeline.stream.cache import open_cache
from data_pipeline.tokenizer import Tokenizer
from models import ModelConfigError
from trainers.checkpoint import CONFIG, PREFIX, DataInfo, build_recognizer, without_pretrained
from trainers.config import TrainConfig, to_yaml
from trainers.ctc_room import texts_without_room
from trainers.loop import train_loop_per_worker
from trainers.monitor import start_monitor
from trainers.rejected import RejectedImages
from trainers.resume import require_same_data
from trainers.task import SequenceTask, wide_enough
from trainers.tracking import Console, History, Tracker, Wandb

POLL_S = 0.2
_DECODED_BY = {"threads": "threads of the workers", "ray": "tasks of the cluster"}


@dataclass(frozen=True)
class RunResult:
    """What a run leaves: its folder, whether it was stopped before its end, and all rows of figures."""

    uri: str
    stopped: bool
    history: list[dict[str, float]]

    @property
    def seconds(self) -> float:
        """Time spent in the epochs that are done, those before a resume included; the start of the workers is not."""
        parts = ("time/train_s", "time/evaluation_s", "time/checkpoint_s")
        return sum(row.get(part, 0.0) for row in self.history for part in parts)

    def best(self, metric: str = "val/score", mode: str = "max") -> dict[str, float]:
        """The figures of the evaluation with the best `metric`, empty if there was none."""
        rows = [row for row in self.history if metric in row]
        sign = 1 if mode == "max" else -1
        return max(rows, key=lambda row: sign * row[metric], default={})


def new_run(config: TrainConfig) -> Storage:
    """The folder of a fresh run below `config.runs_dir`, its configuration in it: what cannot be written says so now."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    run = open_storage(config.runs_dir).child(f"{config.name}-{stamp}-{uuid.uuid4().hex[:4]}")
    run.child(CONFIG).write_bytes(to_yaml(config).encode())
    return run


def check_run(config: TrainConfig, fresh: bool = True) -> Dataset:
    """Everything about a run that can be wrong and can be known before a worker starts.

    A `fresh` run has no checkpoint yet: the pretrained weights that it begins with must be there.

    Raises:
        UserError: dataset, splits, vocabulary, network or weights, by name.
    """
    dataset = open_dataset(config.data.dataset)
    for split in (config.data.train_split, config.data.val_split, config.data.test_split):
        if split and not dataset.manifest.split(split).rows:
            raise UserError(f"Split '{split}' of '{config.data.dataset}' is empty.")
    policy = dataset.manifest.image
    if policy.channels not in (1, config.model.in_channels):  # gray may stand for all channels
        raise UserError(
            f"model.in_channels={config.model.in_channels}, but the images of '{config.data.dataset}' are "
            f"{policy.colour}: set model.in_channels={policy.channels}."
        )
    task, data = SequenceTask(Tokenizer(dataset.manifest.charset)), DataInfo.of(dataset.manifest)
    with torch.device("meta"):
        model = build_recognizer(config, task, data).eval()
        images = torch.zeros((1, policy.channels, policy.height, policy.width), dtype=torch.uint8)
        targets = torch.zeros((1, 2), dtype=torch.long)
        try:
            model(wide_enough(model, images), targets)
        except ModelConfigError as error:
            raise UserError(f"{error}.") from None
    if fresh and config.model != without_pretrained(config.model):
        build_recognizer(config, task, data, pretrained=True)
    return dataset


def run_training(
    config: TrainConfig,
    run: Storage,
    console: Console | None = None,
    on_row: Callable[[dict[str, float]], None] | None = None,
    concurrent_runs: int = 1,
) -> RunResult:
    """Train in the connected Ray cluster to the last epoch, or until interrupted; go on if `run` has checkpoints.

    `on_row` is called with every row of figures, in this process.

    Raises:
        UserError: a mistake in the configuration, the data or the cluster's size.
        ray.train.TrainingFailedError: workers failed more often than `scaling.max_failures` allows.
    """
    console = console or Console()
    dataset = check_run(config, fresh=not any(name.startswith(PREFIX) for name in run.names()))
    require_same_data(run, dataset)
    _warn_of_local_paths(console, run, dataset)
    _warn_of_crowded_texts(console, config, dataset)
    open_cache(config.stream.cache)  # what cannot be used says so now; one in memory is cleared when this process ends
    scaling = config.scaling
    workers = plan_workers(
        scaling.num_train_workers, scaling.use_gpu, scaling.cpus_per_worker, scaling.wait_for_nodes_s, concurrent_runs
    )
    history = History(run)
    tracker = Tracker(console, history)
    if config.tracking.wandb:
        _add_wandb(tracker, config, run, dataset)
    monitor = start_monitor()
    trainer = _trainer(config, run, workers, monitor, concurrent_runs)
    try:
        stopped = _Watch(trainer, monitor, tracker, RejectedImages(run, dataset.storage.uri), on_row).run()
    finally:
        tracker.close()
    return RunResult(run.uri, stopped, history.rows)


def _add_wandb(tracker: Tracker, config: TrainConfig, run: Storage, dataset: Dataset) -> None:
    details = {"name": dataset.manifest.name, "digest": dataset.manifest.digest}
    try:
        tracker.add(Wandb(config, run, details))
    except Exception as error:  # tracking is never worth a run
        tracker.console.line(f"warning: wandb is not available ({error}); set tracking.wandb=false to do without.")


def _warn_of_local_paths(console: Console, run: Storage, dataset: Dataset) -> None:
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    for storage in (run, dataset.storage):
        if nodes > 1 and storage.is_local:
            console.line(f"warning: '{storage.uri}' must be one folder shared by all {nodes} machines of the cluster.")


def _warn_of_crowded_texts(console: Console, config: TrainConfig, dataset: Dataset) -> None:
    crowded = texts_without_room(config, dataset)
    if crowded:
        rows = dataset.manifest.split(config.data.train_split).rows
        console.line(
            f"warning: {crowded:,} of {rows:,} training texts have more tokens than their images have columns of features: "
            "the CTC head cannot learn them. Prepare wider images, or choose a backbone of smaller stride."
        )


def _trainer(config: TrainConfig, run: Storage, workers: WorkerResources, monitor: Any, concurrent_runs: int) -> TorchTrainer:
    parent = run.path.rpartition("/")[0]
    values = OmegaConf.to_container(OmegaConf.create(to_yaml(config)))
    return TorchTrainer(
        train_loop_per_worker,
        train_loop_config={"config": values, "monitor": monitor, "run": run, "concurrent_runs": concurrent_runs},
        torch_config=TorchConfig(backend="nccl" if workers.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers.num_workers, use_gpu=workers.use_gpu, resources_per_worker=workers.to_ray()
        ),
        run_config=RunConfig(
            name=run.name,
            storage_path=parent,
            storage_filesystem=run.filesystem,
            failure_config=FailureConfig(max_failures=config.scaling.max_failures),
            checkpoint_config=CheckpointConfig(
                num_to_keep=config.checkpoint.keep, checkpoint_score_attribute="val/score", checkpoint_score_order="max"
            ),
        ),
    )


class _Watch:
    """Runs a trainer in a thread and turns its events into lines and figures, here, where Ctrl-C arrives."""

    def __init__(self, trainer: TorchTrainer, monitor: Any, tracker: Tracker, rejected: RejectedImages, on_row: Any) -> None:
        self._trainer, self._monitor, self._tracker, self._on_row = trainer, monitor, tracker, on_row
        self._rejected = rejected
        self._failure: BaseException | None = None
        self._asked_to_stop = self._stopped = False

    def run(self) -> bool:
        """Until the run ends; whether it was stopped before its time."""
        thread = threading.Thread(target=self._fit, name="inkray-fit", daemon=True)
        thread.start()
        with _counted_signals() as signals:
            alive = True
            while alive:
                thread.join(POLL_S)
                alive = thread.is_alive()
                self._handle_events()
                if signals:
                    self._ask_to_stop()
                if len(signals) > 1:
                    raise KeyboardInterrupt
        if self._failure is not None:
            raise user_error_in(self._failure) or self._failure
        return self._stopped

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:
            self._failure = error

    def _ask_to_stop(self) -> None:
        self._monitor.stop.remote()  # again and again: a monitor that was restarted has forgotten it
        if not self._asked_to_stop:
            self._tracker.console.line("Stopping: a checkpoint is being written. Ctrl-C again to end at once.")
        self._asked_to_stop = True

    def _handle_events(self) -> None:
        try:
            events = ray.get(self._monitor.drain.remote(), timeout=10)
        except ray.exceptions.RayError:
            return  # it is being restarted; what it held are lines of the log
        for event in sorted(events, key=lambda event: event["kind"] == "fatal"):  # the last word of a run comes last
            self._handle(event)
        self._save_rejected()

    def _handle(self, event: dict[str, Any]) -> None:
        console = self._tracker.console
        match event["kind"]:
            case "started":
                self._tracker.history.rewind(event["step"])
                console.start(event["step"], event["steps"])
                console.line(
                    f"{event['world_size']} workers on {event['device']} ({event['precision']}), "
                    f"{event['parameters']:,} parameters, "
                    f"{event['rows']:,} images, {event['vocabulary']} tokens, {event['steps']} steps; "
                    f"images are decoded by {_DECODED_BY[event['execution']]}"
                )
            case "resumed":
                console.line(
                    f"Resumed from {event['checkpoint'].rpartition('/')[2]} (epoch {event['epoch']}, step {event['step']})"
                )
            case "interval" | "epoch":
                self._tracker.figures(event["figures"])
                if self._on_row:
                    self._on_row(event["figures"])
            case "rejected":
                self._reject(event["split"], event["errors"])
            case "checkpoint":
                self._tracker.history.save()
                console.line(f"Checkpoint {event['name']}")
            case "stopped":
                self._stopped = True
            case "fatal":
                self._save_rejected()
                raise UserError(event["message"])

    def _reject(self, split: str, errors: dict[str, str]) -> None:
        """Name images that are new among those that cannot be used, and list all of them in a file of the run."""
        new = self._rejected.add(split, errors)
        for sample_id, reason in list(new.items())[:5]:
            self._tracker.console.line(f"warning: image '{sample_id}' is left out: {reason}")
        if len(new) > 5:
            self._tracker.console.line(f"warning: {len(new) - 5} more images are left out")

    def _save_rejected(self) -> None:
        try:
            self._rejected.save()
        except StorageError as error:  # as with figures: training is worth more
            self._tracker.console.line(f"warning: {error} Training goes on.")


@contextmanager
def _counted_signals() -> Iterator[list[int]]:
    """Ctrl-C, and SIGTERM (a cluster takes the machine back), are counted instead of raised in the midst of a call."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda signum, _: received.append(signum)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
