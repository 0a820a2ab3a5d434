"""Checkpoints of a run: when one is due, and what goes into it. The writer thread of rank 0 stores them."""

from __future__ import annotations

import time

from cluster.errors import UserError
from data_pipeline.storage.base import Storage
from trainers.checkpoint.card import short_card
from trainers.checkpoint.format import DataInfo, Snapshot
from trainers.checkpoint.writer import CheckpointWriter
from trainers.engine.events import CheckpointWritten, Warned
from trainers.engine.reporter import Reporter
from trainers.engine.run_spec import RunSpec
from trainers.engine.setup import TrainState
from trainers.tasks.criterion import criterion_of


class Checkpointer:
    """Takes snapshots and has them written; ranks other than 0 only take part in the phases."""

    def __init__(self, spec: RunSpec, run: Storage, reporter: Reporter, rank: int) -> None:
        self._spec, self._run, self._reporter = spec, run, reporter
        self._config = spec.config.checkpoint
        self._writer: CheckpointWriter | None = None
        self._data = DataInfo.of(spec.dataset.manifest, spec.task)
        if rank == 0:
            self._writer = CheckpointWriter(
                run,
                self._config,
                criterion_of(self._config, spec.task),
                before=reporter.flush,  # a run that resumes there has no other source of the rows before it
                on_written=lambda name: reporter.emit(CheckpointWritten(name)),
                warn=lambda text: reporter.emit(Warned(text)),
            )

    def due(self, step: int) -> bool:
        """Whether one is to be written after a step inside an epoch."""
        return self._config.every_steps > 0 and step % self._config.every_steps == 0

    def take(self, state: TrainState, metrics: dict[str, float], usable: bool) -> Snapshot | None:
        """Copy what training will change, for `submit`; None on a rank that writes no checkpoints.

        `metrics` are those of a validation of these very weights; `usable`: averaged weights have their statistics.
        """
        self._reporter.enter_phase("checkpoint")
        if self._writer is None:
            return None
        metrics = {"step": float(state.step.steps), "epoch": float(state.position.epoch)} | metrics
        card = short_card(self._spec.config.name, self._spec.dataset.manifest, metrics)
        # Averages that have no statistics of their own yet are not to be used: they are in the state alone.
        averaging = state.step.averaging
        exported = averaging.network if usable or not averaging.needs_statistics else state.network
        return Snapshot.take(
            exported,
            self._spec.config,
            self._spec.task,
            self._data,
            state.state_dict(self._spec.config.epochs),
            state.position,
            metrics,
            card,
        )

    def submit(self, snapshot: Snapshot | None) -> None:
        """Have what `take` gave written, behind all metrics that were emitted; training does not wait for it."""
        if self._writer is not None and snapshot is not None:
            self._writer.submit(snapshot)

    def finish(self) -> None:
        """Wait until the last checkpoint has arrived.

        Raises:
            UserError: it does not arrive in time; with the reason.
        """
        if self._writer is None:
            return
        timeout_s = self._config.timeout_s
        deadline = time.monotonic() + timeout_s
        while not self._writer.wait(min(1.0, max(0.0, deadline - time.monotonic()))):
            self._reporter.heartbeat()
            if time.monotonic() >= deadline:
                raise UserError(
                    f"The last checkpoint could not be written within checkpoint.timeout_s={timeout_s:g}: {self._writer.reason}"
                    f" What was written before stays: resume from there with --resume {self._run.uri}."
                )

    def close(self) -> None:
        """End the writer; what is not written by now is lost."""
        if self._writer is not None:
            self._writer.close()
