"""Bad steps: those that the loss guard rejects. Their images are named, and the run ends or continues without them."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import torch

from cluster.errors import UserError
from trainers.config.loss_guard import LossGuardConfig
from trainers.distributed.collectives import all_gather_objects
from trainers.engine.events import BadStep
from trainers.engine.reporter import Reporter
from trainers.engine.step import StepResult

FILE = "bad_batches.jsonl"  # of the run's folder
_REMEMBERED = 32  # steps: a GPU's flags are read now and then only


class _Step(NamedTuple):
    step: int
    epoch: int
    ids: list[str]
    result: StepResult


class BadSteps:
    """Remembers the last steps until their flags are read. All ranks read the same flags at the same steps."""

    def __init__(self, config: LossGuardConfig, reporter: Reporter, rank: int) -> None:
        self._config, self._reporter, self._rank = config, reporter, rank
        self._pending: deque[_Step] = deque(maxlen=_REMEMBERED)
        self._in_a_row = 0

    def add(self, step: int, epoch: int, ids: list[str], result: StepResult) -> None:
        """Remember a step."""
        self._pending.append(_Step(step, epoch, ids, result))

    def check(self) -> None:
        """Read the flags of the steps since the last check.

        Raises:
            UserError: a step was bad and the run is to stop, or too many in a row were.
        """
        if not self._pending:
            return
        flags = torch.stack([step.result.bad for step in self._pending]).tolist()  # one wait for the device, not one a step
        for bad in flags:
            step = self._pending.popleft()
            if bad:
                self._in_a_row += 1
                self._report(step)
            else:
                self._in_a_row = 0

    def _report(self, step: _Step) -> None:
        parts = all_gather_objects((step.ids, float(step.result.loss_sum)))
        loss = sum(part[1] for part in parts) / float(step.result.target_count)
        stops = self._config.on_bad_step == "stop" or self._in_a_row >= self._config.max_skipped
        record: dict[str, Any] = {
            "step": step.step,
            "epoch": step.epoch,
            "loss": loss,
            "grad_norm": float(step.result.grad_norm),
            "ids": [name for ids, _ in parts for name in ids if name],
        }
        if self._rank == 0:
            self._reporter.emit(BadStep(record, skipped=not stops))
        if stops:
            times = f" ({self._in_a_row} bad steps in a row)" if self._in_a_row > 1 else ""
            raise UserError(
                f"Step {step.step} has a loss of {loss:.4g} a target and a gradient of norm {record['grad_norm']:.4g}{times}: "
                f"training has diverged. The ids of its images are in {FILE} of the run, the last checkpoint is from before. "
                "Lower optim.lr or optim.max_grad_norm, warm up longer (optim.schedule.warmup_ratio), look at these images, or "
                "leave such batches out with loss_guard.on_bad_step=skip."
            )
