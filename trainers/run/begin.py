"""The beginning of a run, new or resumed: configuration, checks, folder, claim, and the session that it trains in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from cluster.signals import say_when_interrupted
from data_pipeline.dataset.manifest import Dataset
from data_pipeline.storage.base import Storage
from data_pipeline.storage.claim import Claim, claim
from trainers.checkpoint.load import Checkpoint
from trainers.cli import TrainingArguments
from trainers.config.load import load_config, merge_overrides, require_unset
from trainers.config.train import TrainConfig
from trainers.engine.run_spec import RunSpec
from trainers.run.directory import new_run, open_run
from trainers.run.log import RunResult
from trainers.run.preflight import preflight
from trainers.run.resume import change_config

T = TypeVar("T")


def is_torchrun() -> bool:
    """Whether torchrun started this process: then training needs no flag to be local, and torchrun would misread --local."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@dataclass(frozen=True)
class Begun:
    """A run that may start: `kept` is the configuration that its folder is to have, which may be meant for other machines.

    `claim` is None in processes other than the main one.
    """

    spec: RunSpec
    run: Storage
    kept: TrainConfig
    claim: Claim | None


class Launcher(Protocol):
    """A way to run training: on Ray, or in this process and those that torchrun started beside it."""

    command: str  # that resumes a run so
    overrides: list[str]  # what this way of running fixes of the configuration

    def predict_split(self, checkpoint: Checkpoint, dataset: Dataset, split: str, batch_size: int) -> Iterator[dict[str, Any]]:
        """Rows of a split with their predictions, in any order."""

    def connected(self, config: TrainConfig) -> contextlib.AbstractContextManager[None]:
        """Inside, this process has its place among those that train."""

    def on_main(self, work: Callable[[], T]) -> T:
        """Do `work` in the main process; all processes get its value."""

    def require(self) -> None:
        """Check that there is something to run on, before a run's folder is made."""

    def session(self) -> contextlib.AbstractContextManager[None]:
        """Inside, runs can be launched."""

    def launch(self, begun: Begun) -> RunResult | None:
        """Train; the outcome, or None in processes other than the main one."""


@contextlib.contextmanager
def begin_run(args: TrainingArguments, launcher: Launcher) -> Iterator[Begun]:
    """Inside, the run that a command line asks for is checked, its folder is made and claimed, and the session is open.

    Raises:
        UserError: a mistake in the command line, the configuration or the data, or the run is in use.
    """
    require_unset(args.overrides, launcher.overrides, f"'{launcher.command}'")
    run: Storage | None = None
    if args.resume is not None:
        run, before = open_run(args.resume)
        kept = change_config(before, args.overrides)
        config = merge_overrides(kept, launcher.overrides, "this machine") if launcher.overrides else kept
    else:
        kept = config = load_config(args.config, [*args.overrides, *launcher.overrides])
    spec: RunSpec | None = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(launcher.connected(config))
        if run is None:
            spec, run = launcher.on_main(lambda: _create(config, launcher))
        folder = run
        launcher.on_main(lambda: _announce(folder, launcher.command))
        claims: list[Claim] = []
        launcher.on_main(lambda: claims.append(stack.enter_context(claim(folder, "training run"))))
        stack.enter_context(launcher.session())
        spec = spec or launcher.on_main(lambda: preflight(config, folder))
        yield Begun(spec, folder, kept, claims[0] if claims else None)


def _create(config: TrainConfig, launcher: Launcher) -> tuple[RunSpec, Storage]:
    """Check a new run and make its folder; there is none before all is checked."""
    spec = preflight(config)
    launcher.require()
    return spec, new_run(config)


def _announce(run: Storage, command: str) -> None:
    say_when_interrupted(f"Interrupted. Resume with: {command} --resume {run.uri}")
    print(f"Run {run.uri}", flush=True)
