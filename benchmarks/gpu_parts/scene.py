"""Scene of the checks and measurements: a device, two datasets, and training runs in a scratch folder."""

from __future__ import annotations

import gc
import itertools
import json
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data_pipeline.dataset.manifest import MANIFEST, open_dataset
from data_pipeline.storage.base import Storage
from data_pipeline.stream import Batch, StreamPosition, TrainStream
from trainers.checkpoint.format import DataInfo
from trainers.config.load import load_config
from trainers.config.train import TrainConfig
from trainers.distributed.context import WorkerContext
from trainers.distributed.micro_batch import MicroBatch
from trainers.distributed.precision import resolve_precision
from trainers.engine.events import Event
from trainers.engine.reporter import ControlRequests
from trainers.engine.run_spec import DataSources, RunSpec
from trainers.engine.setup import TrainState, setup
from trainers.engine.step import TrainStep
from trainers.run.directory import new_run
from trainers.run.execution import choose_execution
from trainers.run.preflight import preflight
from trainers.tasks.device_batch import DeviceBatch, to_device

SMALL_IMAGES, LARGE_IMAGES = "f64", "f128"  # datasets of formulas: 64x256 and 128x512 pixels
RECOGNIZERS = ("satrn_small", "satrn_baseline", "vit", "aster", "comer", "satrn_final")
BatchPair = tuple[Batch, DeviceBatch]


def images_of(model: str) -> str:
    """The dataset that a recognizer reads."""
    return SMALL_IMAGES if model == "satrn_small" else LARGE_IMAGES


@dataclass(frozen=True)
class Training:
    """A fresh run of one worker, set up and ready to step."""

    spec: RunSpec
    run: Storage
    stream: TrainStream
    state: TrainState

    @property
    def step(self) -> TrainStep:
        """The step."""
        return self.state.step

    @property
    def network(self) -> nn.Module:
        """The network, on the device."""
        return self.state.network

    @cached_property
    def data(self) -> DataInfo:
        """What a checkpoint notes about the data."""
        return DataInfo.of(self.spec.dataset.manifest, self.spec.task)


@dataclass(frozen=True)
class Scene:
    """`data` holds the two datasets, `scratch` is thrown away; `tiny`: as little as shows that the script runs."""

    device: torch.device
    tiny: bool
    data: Path
    scratch: Path
    out: Path

    @property
    def gpu(self) -> bool:
        """Whether there is one."""
        return self.device.type == "cuda"

    @property
    def has_bf16(self) -> bool:
        """Whether the device computes in bf16: a V100 or T4 does not."""
        return resolve_precision("auto", self.device) != torch.float16

    def context(self, config: TrainConfig) -> WorkerContext:
        """The only rank of a run; its stream executes as training without Ray would have it."""
        execution = choose_execution(config.stream, self.device, machines_are_spare=lambda: False)
        return WorkerContext(0, 1, self.device, execution=execution)

    def on(self, device: torch.device) -> Scene:
        """The same on another device."""
        return replace(self, device=device)

    def many(self, count: int, tiny: int = 3) -> int:
        """`count`, or a few."""
        return tiny if self.tiny else count

    def overrides(self, model: str, images: str, batch: int) -> list[str]:
        """Values of a run of a recognizer on one worker that writes as little as possible."""
        return [
            f"data.dataset={self.data / images}",
            f"runs_dir={self.scratch / 'runs'}",
            f"model={model}",
            f"global_batch_size={min(batch, 8) if self.tiny else batch}",
            "scaling.num_train_workers=1",
            "stream.augmentation=none",
            "tracking.wandb=false",
            f"compute.threads_per_worker={int(self.tiny)}",
        ]

    def config(self, *overrides: str, model: str = "satrn_small", images: str = "", batch: int = 64) -> TrainConfig:
        """The configuration of a run, on the recognizer's own images unless others are named."""
        return load_config(None, [*self.overrides(model, images or images_of(model), batch), *overrides])

    def training(self, config: TrainConfig, rank: int = 0, world_size: int = 1, run: Storage | None = None) -> Training:
        """A fresh run, set up; of several ranks each calls it with the same `run`."""
        spec, folder = preflight(config), run or new_run(config)
        context = replace(self.context(config), rank=rank, world_size=world_size, local_world_size=world_size)
        stream = DataSources(spec, context).training()
        micro_batch = MicroBatch(folder, config.compute, config.failure, -(-config.global_batch_size // world_size))
        state = setup(spec, stream, micro_batch, QuietReporter(), folder, context)
        return Training(spec, folder, stream, state)

    def batches(self, config: TrainConfig, count: int) -> list[BatchPair]:
        """The first batches of a run, on the device."""
        stream = DataSources(preflight(config), self.context(config)).training(brief=True)
        batches = stream.batches(StreamPosition(), 1000)
        try:
            return [(batch, to_device(batch, self.device)) for batch in itertools.islice(batches, count)]
        finally:
            batches.close()

    def append(self, file: str, row: Mapping[str, Any]) -> None:
        """Add a line of JSON to a file of the output."""
        with (self.out / file).open("a") as out:
            out.write(json.dumps(row) + "\n")

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.gpu:
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give back memory that is no longer used."""
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()

    def longer(self, images: str, times: int) -> str:
        """The folder of a dataset whose train split is that of `images`, so many times over."""
        out = self.scratch / f"{images}-{times}"
        if not out.exists():
            shutil.copytree(self.data / images, out)
            manifest = open_dataset(str(out)).manifest
            train = manifest.splits["train"]
            splits = {**manifest.splits, "train": replace(train, shards=train.shards * times)}
            (out / MANIFEST).write_bytes(replace(manifest, splits=splits, digest="").to_json())
        return str(out)


class QuietReporter:
    """Reporter of a worker without a driver; `requests_at` gives the requests of each call, from 1."""

    def __init__(self, requests_at: Callable[[int], ControlRequests] = lambda call: ControlRequests()) -> None:
        self.calls = 0
        self._requests_at = requests_at

    def emit(self, event: Event) -> None:
        """Nobody listens."""

    def enter_phase(self, phase: str) -> None:
        """Nobody watches."""

    def heartbeat(self) -> None:
        """Nobody watches."""

    def flush(self) -> None:
        """Nobody waits."""

    def end(self) -> None:
        """Nobody waits."""

    def requests(self) -> ControlRequests:
        """What is requested at this step."""
        self.calls += 1
        return self._requests_at(self.calls)


def machine(device: torch.device) -> str:
    """What was measured on, in one line."""
    parts = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        capability = "sm_{}{}".format(*torch.cuda.get_device_capability(device))
        parts += [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
        parts += [f"{torch.cuda.get_device_name(device)} ({capability})", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"]
    return ", ".join(parts)
