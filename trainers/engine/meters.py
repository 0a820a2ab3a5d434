"""Meters of training: totals of the steps between two lines of the log, and of an epoch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from cluster.sums import Sums
from data_pipeline.stream import Batch, StreamStats
from trainers.distributed.ddp import is_distributed
from trainers.engine.step import StepResult


@dataclass
class TrainTotals(Sums):
    """Steps of all ranks added up: the loss over `target_count`, gradient norms over `steps`, times in seconds, images and what
    the stream did for them. `wait_s` is a mean over ranks. Intervals add up to an epoch.
    """

    seconds: float = 0.0
    wait_s: float = 0.0
    steps: int = 0
    images: int = 0
    rejected: int = 0
    loss: float = 0.0
    target_count: float = 0.0
    grad_norm: float = 0.0
    stats: StreamStats = field(default_factory=StreamStats)

    def data_metrics(self) -> dict[str, float]:
        """Metrics of the data. `wait_share` is the share of time in which ranks waited for it."""
        return {
            "data/images_per_s": self.images / max(self.seconds, 1e-9),
            "data/wait_share": self.wait_s / max(self.seconds, 1e-9),
            "data/rejected": float(self.rejected),
            **self.stats.metrics(self.seconds),
        }

    def metrics(self) -> dict[str, float]:
        """Metrics of a line of the log. `train/loss` is that of a target: nats per token, say."""
        return {
            "train/loss": self.loss / max(self.target_count, 1.0),
            "train/grad_norm": self.grad_norm / max(self.steps, 1),
            **self.data_metrics(),
        }

    def epoch_metrics(self) -> dict[str, float]:
        """Metrics of the data over a whole epoch, under names of their own."""
        return {name.replace("data/", "epoch/"): value for name, value in self.data_metrics().items()}


class IntervalMeter:
    """Collects steps of a rank; `close` returns the totals over all ranks."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.restart()

    def restart(self) -> None:
        """Forget what was collected and start the clock."""
        self._started = time.monotonic()
        self._wait_s = 0.0
        self._images = self._rejected = self._steps = 0
        self._stats = StreamStats()
        self._loss = torch.zeros((), device=self._device)
        self._target_count = torch.zeros((), device=self._device)
        self._grad_norm = torch.zeros((), device=self._device)

    def waited(self, seconds: float) -> None:
        """Count time spent waiting for a batch."""
        self._wait_s += seconds

    def stepped(self, result: StepResult, batch: Batch) -> None:
        """Count a step on a rank's `batch`."""
        self._images += batch.global_size
        self._rejected += len(batch.errors)
        self._stats += batch.stats
        # A step that is left out does not count, either.
        self._loss += torch.where(result.bad, 0.0, result.loss_sum)
        self._target_count += torch.where(result.bad, 0.0, result.target_count)
        self._grad_norm += torch.nan_to_num(result.grad_norm, nan=0.0, posinf=0.0)  # fp16 overflows are no gradients
        self._steps += 1

    def close(self) -> TrainTotals:
        """The totals of the interval, the same on every rank; a new one begins."""
        local = [self._wait_s, float(self._rejected), *self._stats.to_list()]
        sums = torch.cat([self._loss.double()[None], torch.tensor(local, dtype=torch.float64, device=self._device)])
        ranks = 1
        if is_distributed():
            dist.all_reduce(sums)
            ranks = dist.get_world_size()
        loss, wait_s, rejected, *stats = sums.tolist()
        closed = TrainTotals(
            seconds=time.monotonic() - self._started,
            wait_s=wait_s / ranks,
            steps=self._steps,
            images=self._images,
            rejected=int(rejected),
            loss=loss,
            target_count=float(self._target_count),
            grad_norm=float(self._grad_norm),
            stats=StreamStats.from_list(stats),
        )
        self.restart()
        return closed
