"""Loss guard: finds steps that would spoil a run, with a loss that is NaN or has exploded."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainers.config.loss_guard import LossGuardConfig
from trainers.distributed.ddp import is_distributed

MAX_OVERFLOWS = 50  # in a row; a scale of 2 ** 16 is below 1 after 17


class LossGuard:
    """Finds bad steps, the same ones on every rank, without reading from the device.

    The untrained network's loss is that of the run's first step, and at least that of a random guess, `untrained_loss` a
    target: a run that starts from good weights does not stumble over its first hard batch.
    """

    def __init__(self, config: LossGuardConfig, untrained_loss: float, device: torch.device) -> None:
        self.config = config
        self._guess = untrained_loss
        self._reference = torch.full((), math.nan, device=device)
        self._overflows = torch.zeros((), device=device)  # steps in a row whose gradients were NaN or infinite

    def is_bad(self, loss_sum: Tensor, target_count: Tensor, grad_norm: Tensor, scaled: bool) -> Tensor:
        """Whether a step is bad: bool scalar. `loss_sum` is this rank's, `target_count` and `grad_norm` are those of all.

        Gradients that overflow under a loss scale (`scaled`) are left to the scaler, unless it finds no scale without them.
        """
        loss = loss_sum.detach().float().clone()
        if is_distributed():
            dist.all_reduce(loss)
        loss = loss / target_count
        first = torch.where(torch.isfinite(loss), loss.clamp(min=self._guess), self._reference)
        self._reference = torch.where(torch.isnan(self._reference), first, self._reference)
        bad = ~torch.isfinite(loss)
        self._overflows = torch.where(torch.isfinite(grad_norm), 0.0, self._overflows + 1)
        bad = bad | (self._overflows > (MAX_OVERFLOWS if scaled else 0))
        if self.config.max_loss_ratio:
            bad = bad | (loss > self.config.max_loss_ratio * self._reference)
        return bad

    def state_dict(self) -> dict[str, Any]:
        """The untrained network's loss."""
        return {"reference": float(self._reference)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict`."""
        self._reference.fill_(state["reference"])
