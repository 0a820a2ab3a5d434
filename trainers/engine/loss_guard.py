"""Steps that would spoil a run: a loss that is no number, or that has exploded."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainers.config.loss_guard import LossGuardConfig
from trainers.distributed.ddp import several_ranks

MAX_OVERFLOWS = 50  # in a row; a scale of 2 ** 16 is below 1 after 17


class Guard:
    """Judges steps, the same way on every rank, without a look of the host at the device.

    The untrained network's loss is that of the run's first step, and at least a uniform guess's, ln(`num_classes`) a token: a
    run that starts from good weights does not stumble over its first hard batch.
    """

    def __init__(self, config: LossGuardConfig, num_classes: int, device: torch.device) -> None:
        self.config = config
        self._guess = math.log(max(num_classes, 2))
        self._reference = torch.full((), math.nan, device=device)
        self._overflows = torch.zeros((), device=device)  # steps in a row whose gradients were no numbers

    def judge(self, loss_sum: Tensor, tokens: Tensor, grad_norm: Tensor, scaled: bool) -> Tensor:
        """Whether a step is bad: bool scalar. `loss_sum` is this rank's, `tokens` and `grad_norm` are those of all ranks.

        Gradients that overflow under a loss scale (`scaled`) are the scaler's affair, unless it never finds one that does.
        """
        loss = loss_sum.detach().float().clone()
        if several_ranks():
            dist.all_reduce(loss)
        loss = loss / tokens
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
        """Go on from a `state_dict`."""
        self._reference.fill_(state["reference"])
