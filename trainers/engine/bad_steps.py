"""What becomes of steps that the guard would not have: their images are named, and the run ends or goes on."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from cluster.errors import UserError
from trainers.config.loss_guard import LossGuardConfig
from trainers.distributed.collectives import gathered
from trainers.engine.reporter import Line
from trainers.engine.step import StepResult

FILE = "bad_batches.jsonl"  # of the run's folder
_REMEMBERED = 32  # steps: a GPU's flags are read now and then only


class _Taken(NamedTuple):
    step: int
    epoch: int
    ids: list[str]
    result: StepResult


class BadSteps:
    """Remembers the last steps until their flags are read. All ranks read the same flags at the same steps."""

    def __init__(self, config: LossGuardConfig, line: Line, rank: int) -> None:
        self._config, self._line, self._rank = config, line, rank
        self._taken: deque[_Taken] = deque(maxlen=_REMEMBERED)
        self._in_a_row = 0

    def taken(self, step: int, epoch: int, ids: list[str], result: StepResult) -> None:
        """Remember a step."""
        self._taken.append(_Taken(step, epoch, ids, result))

    def look(self) -> None:
        """Read the flags of the steps since the last look.

        Raises:
            UserError: a step was bad and the run is to stop, or too many in a row were.
        """
        while self._taken:
            taken = self._taken.popleft()
            if bool(taken.result.bad):
                self._in_a_row += 1
                self._tell(taken)
            else:
                self._in_a_row = 0

    def _tell(self, taken: _Taken) -> None:
        parts = gathered((taken.ids, float(taken.result.loss_sum)))
        loss = sum(part[1] for part in parts) / float(taken.result.tokens)
        stops = self._config.on_bad_step == "stop" or self._in_a_row >= self._config.max_skipped
        record: dict[str, Any] = {
            "step": taken.step,
            "epoch": taken.epoch,
            "loss": loss,
            "grad_norm": float(taken.result.grad_norm),
            "ids": [name for ids, _ in parts for name in ids if name],
        }
        if self._rank == 0:
            self._line.push("bad_batch", record=record, skipped=not stops)
        if stops:
            times = f" ({self._in_a_row} bad steps in a row)" if self._in_a_row > 1 else ""
            raise UserError(
                f"Step {taken.step} has a loss of {loss:.4g} a token and a gradient of norm {record['grad_norm']:.4g}{times}: "
                f"training has come apart. The ids of its images are in {FILE} of the run, the last checkpoint is from before. "
                "Lower optim.lr or optim.max_grad_norm, warm up longer (optim.schedule.warmup_ratio), look at these images, or "
                "leave such batches out with loss_guard.on_bad_step=skip."
            )
