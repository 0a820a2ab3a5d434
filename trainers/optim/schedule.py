"""Learning rate and momentum as functions of the number of a step: nothing to store, nothing to lose."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from trainers.config.optim import ScheduleConfig, ScheduleName

LEAST = 1e-3  # of the peak: where one_cycle ends
DIVIDER = 10.0  # cyclic begins at the peak / 10 ...
RISE = 0.45  # ... rises for this share of the steps, falls for as many, and dies out in the last 10 %
BETA1 = (0.95, 0.85)  # of cyclic: at its ends and at the peak


def lr_ratio(config: ScheduleConfig, step: int, total_steps: int, epochs: int, left_out: int = 0) -> float:
    """The learning rate of step number `step`, from 0, as a share of the peak; beyond `total_steps` that of the end.

    Epochs count as equally long. A warm-up is linear and reaches the peak with its last step. `left_out` of the steps before
    this one changed no weight: they do not count, but for the epoch.
    """
    step, total, epoch = _within(config, step, total_steps, epochs, left_out)
    warmup = 0 if config.name == "cyclic" or config.warmup_ratio == 0 else max(1, round(config.warmup_ratio * total))
    if step < warmup:
        return (step + 1) / warmup
    left = max(1, total - warmup)
    return _SHAPES[config.name](config, min(step - warmup, left), left, epoch)


def momentum(config: ScheduleConfig, step: int, total_steps: int, epochs: int, left_out: int = 0) -> float | None:
    """Adam's beta1, or the momentum of others, at step number `step`; None where the schedule leaves it alone."""
    step, total, _ = _within(config, step, total_steps, epochs, left_out)
    return _cyclic_beta1(step, total) if config.name == "cyclic" else None


def _within(config: ScheduleConfig, step: int, total_steps: int, epochs: int, left_out: int) -> tuple[int, int, int]:
    """Where a run is: the step, of how many, and the epoch; with `per_epoch` the epoch is the step."""
    epoch = min(step * epochs // max(1, total_steps), epochs - 1)
    return (epoch, epochs, epoch) if config.per_epoch else (step - left_out, total_steps, epoch)


def _constant(config: ScheduleConfig, step: int, total: int, epoch: int) -> float:
    return 1.0


def _cosine(config: ScheduleConfig, step: int, total: int, epoch: int) -> float:
    """Half a wave down to `min_lr_ratio` (Loshchilov and Hutter 2017, without restarts)."""
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * (step / total)))


def _one_cycle(config: ScheduleConfig, step: int, total: int, epoch: int) -> float:
    """The same behind a warm-up, down to 1e-3 at the least (after Smith 2018)."""
    min_ratio = max(config.min_lr_ratio, LEAST)
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * (step / total)))


def _step(config: ScheduleConfig, step: int, total: int, epoch: int) -> float:
    return config.gamma ** (epoch // config.step_epochs)


def _cyclic(config: ScheduleConfig, step: int, total: int, epoch: int) -> float:
    """Up and down again between a tenth and all of the peak, then down to a thousandth; straight lines."""
    rise = int(RISE * total)
    if step <= 2 * rise:
        return (1 + (DIVIDER - 1) * _height(step, rise)) / DIVIDER
    return (1 - 0.99 * (step - 2 * rise) / (total - 2 * rise)) / DIVIDER


def _cyclic_beta1(step: int, total: int) -> float:
    outside, peak = BETA1
    return outside + (peak - outside) * _height(step, int(RISE * total))


def _height(step: int, rise: int) -> float:
    """How high a step is on the triangle over [0, 2 * rise]: from 0 to 1; behind it 0."""
    return max(0.0, 1 - abs(step - rise) / rise) if rise else 0.0


_SHAPES: dict[ScheduleName, Callable[[ScheduleConfig, int, int, int], float]] = {
    "one_cycle": _one_cycle,
    "cosine": _cosine,
    "constant": _constant,
    "step": _step,
    "cyclic": _cyclic,
}


class Schedule:
    """Writes the learning rate of a step into an optimizer, each group's share of it; the peak is the optimizer's own.

    `lr`: the rate last written, before the groups' shares.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, config: ScheduleConfig, total_steps: int, epochs: int) -> None:
        self.peak: float = optimizer.defaults["lr"]
        self.lr = 0.0
        self._optimizer, self._config, self._total_steps, self._epochs = optimizer, config, total_steps, epochs
        self.set(0)

    def set(self, step: int, lr_override: float | None = None, left_out: int = 0) -> None:
        """Prepare for step number `step`, from 0, `left_out` before which changed no weight.

        `lr_override`: a share of the peak in place of the schedule's.
        """
        where = self._config, step, self._total_steps, self._epochs, left_out
        self.lr = self.peak * (lr_ratio(*where) if lr_override is None else lr_override)
        beta1 = momentum(*where)
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr * group.get("lr_scale", 1.0)
            if beta1 is not None:
                _set_momentum(group, beta1)


def _set_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    elif "momentum" in group:
        group["momentum"] = value
