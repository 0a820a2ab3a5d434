"""What happened between two lines of the log."""

from __future__ import annotations

import time

import torch
import torch.distributed as dist

from trainers.step import StepResult


class Interval:
    """Collects steps; `close` gives their averages over all ranks."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.errors: dict[str, str] = {}  # id -> why its image could not be used
        self.restart()

    def restart(self) -> None:
        """Forget what was collected and start the clock."""
        self._started = time.monotonic()
        self._wait_s = 0.0
        self._images = 0
        self._loss = torch.zeros((), device=self._device)
        self._tokens = torch.zeros((), device=self._device)
        self._grad_norm = torch.zeros((), device=self._device)
        self._steps = 0

    def waited(self, seconds: float) -> None:
        """Count time spent waiting for a batch."""
        self._wait_s += seconds

    def stepped(self, result: StepResult, images: int, errors: dict[str, str]) -> None:
        """Count a step over `images` images of all ranks."""
        self._images += images
        self._loss += result.loss_sum
        self._tokens += result.tokens
        self._grad_norm += torch.nan_to_num(result.grad_norm, nan=0.0, posinf=0.0)  # fp16 overflows are no gradients
        self._steps += 1
        self.errors |= errors

    def close(self) -> dict[str, float]:
        """The figures of the interval, the same on every rank; a new one begins.

        `train/loss` is nats per token over all ranks, `data/wait_share` the share of time in which ranks waited for data.
        """
        sums = torch.stack([self._loss, torch.full((), self._wait_s, device=self._device)])
        ranks = 1
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(sums)
            ranks = dist.get_world_size()
        seconds = max(time.monotonic() - self._started, 1e-9)
        loss, wait_s = sums.tolist()
        figures = {
            "train/loss": loss / max(float(self._tokens), 1.0),
            "train/grad_norm": float(self._grad_norm) / max(self._steps, 1),
            "data/images_per_s": self._images / seconds,
            "data/wait_share": wait_s / ranks / seconds,
        }
        self.restart()
        return figures
