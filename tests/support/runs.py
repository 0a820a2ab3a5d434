"""A small training run, for the tests that need one."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch

from data_pipeline.storage.base import Storage
from tests.support.overrides import SMALL
from trainers.config.load import load_config
from trainers.config.train import TrainConfig
from trainers.distributed.context import WorkerContext
from trainers.run.directory import new_run
from trainers.run.launch_local import launch_local
from trainers.run.launch_ray import launch_ray
from trainers.run.log import RunResult
from trainers.run.preflight import preflight
from trainers.tracking import Console

Train = Callable[..., tuple[Storage, RunResult, str]]  # `train` or `train_here`


def small_config(dataset: str, runs_dir: str | Path, *overrides: str) -> TrainConfig:
    """15 steps an epoch over the 300 formulas of the `formulas` fixture."""
    return load_config(None, [*SMALL, f"data.dataset={dataset}", f"runs_dir={runs_dir}", *overrides])


def train(
    config: TrainConfig, run: Storage | None = None, on_row: Callable[[dict[str, float]], None] | None = None
) -> tuple[Storage, RunResult, str]:
    """Train in the connected session; returns the run's folder, the result and what was printed."""
    spec, printed = preflight(config, run), io.StringIO()
    folder = run or new_run(config)
    result = launch_ray(spec, folder, Console(printed), on_row)
    return folder, result, printed.getvalue()


def train_here(config: TrainConfig, run: Storage | None = None) -> tuple[Storage, RunResult, str]:
    """The same in this process, on its CPU, without Ray."""
    spec, printed = preflight(config, run), io.StringIO()
    folder = run or new_run(config)
    result = launch_local(spec, folder, WorkerContext(0, 1, torch.device("cpu")), Console(printed))
    assert result is not None
    return folder, result, printed.getvalue()


def losses(result: RunResult) -> dict[int, float]:
    """Training loss by step."""
    return {int(row["step"]): row["train/loss"] for row in result.history if "train/loss" in row}
