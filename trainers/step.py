"""One optimizer step in plain torch: no Ray, no storage. It runs alone on one device, or under DDP on many.

The loss of a global batch is a mean over its tokens, wherever they are computed: ranks agree on the number of tokens
and each contributes its sum, so one worker and eight minimise the same function.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from data_pipeline.stream.batch import Batch
from trainers.config import OptimConfig, Precision
from trainers.forcing import ForcingConfig, own_tokens
from trainers.optim import build_optimizer, build_scheduler
from trainers.task import SequenceTask


@dataclass(frozen=True)
class DeviceBatch:
    """A batch on the device; shapes as in `Batch`."""

    images: Tensor
    widths: Tensor
    targets: Tensor
    weights: Tensor


def to_device(batch: Batch, device: torch.device) -> DeviceBatch:
    """Copy a batch to `device`, without waiting for it where the device allows."""
    arrays = (batch.images, batch.widths, batch.targets, batch.weights)
    with warnings.catch_warnings():
        # Images that came through the object store are its own, read-only memory; nobody writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        tensors = [torch.from_numpy(array) for array in arrays]
    if device.type == "cuda":
        tensors = [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
    return DeviceBatch(*tensors)


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of the forward pass: as configured, or what the device is good at (fp16 on V100, bf16 on later GPUs)."""
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


@dataclass(frozen=True)
class StepResult:
    """What a step gives; tensors stay on the device until somebody asks.

    `loss_sum` is this rank's loss summed over its tokens, `tokens` are those of all ranks, `stop` is above 0 when
    any rank wants to stop.
    """

    loss_sum: Tensor
    tokens: Tensor
    stop: Tensor
    grad_norm: Tensor


class TrainStep:
    """Model, task, optimizer, schedule and scaler as one thing that consumes batches."""

    def __init__(
        self,
        model: nn.Module,
        task: SequenceTask,
        config: OptimConfig,
        total_steps: int,
        device: torch.device,
        precision: Precision = "auto",
        seed: int = 0,
        rank: int = 0,
        forcing: ForcingConfig | None = None,
    ) -> None:
        self.model, self.task, self.device = model, task, device
        self.optimizer = build_optimizer(model, config)
        self.scheduler = build_scheduler(self.optimizer, config, total_steps)
        self.dtype = resolve_precision(precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.max_grad_norm = config.max_grad_norm
        self.steps = 0
        self.forcing, self.total_steps = forcing or ForcingConfig(), total_steps
        self._seed, self._rank = seed, rank
        self._distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

    @property
    def lr(self) -> float:
        """The rate of the next step."""
        return float(self.scheduler.get_last_lr()[0])

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of the forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def __call__(self, batch: DeviceBatch, stop: bool = False) -> StepResult:
        """Take one step on this rank's part of a global batch. `stop` asks all ranks to stop after it."""
        # Dropout is a function of (seed, step, rank), so a resumed run draws what the uninterrupted one would have drawn.
        torch.manual_seed((self._seed * 1_000_003 + self.steps) * 4099 + self._rank)
        self.model.train()
        # torch.full fills on the device: a copy from the host would wait for the step before.
        shared = torch.stack([self.task.token_count(batch), torch.full((), float(stop), device=self.device)])
        world_size = 1
        if self._distributed:
            dist.all_reduce(shared)
            world_size = dist.get_world_size()
        tokens = shared[0].clamp(min=1)
        self.optimizer.zero_grad(set_to_none=True)
        own = own_tokens(self.forcing, self.steps, self.total_steps, batch.targets, self._seed)
        with self.autocast():
            loss_sum = self.task.loss_sum(self.model, batch, own)
        self.scaler.scale(loss_sum * (world_size / tokens)).backward()  # DDP averages over ranks
        self.scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        scale = self.scaler.get_scale() if self.scaler.is_enabled() else 1.0
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if not self.scaler.is_enabled() or self.scaler.get_scale() >= scale:  # an overflow in fp16 was no step
            self.scheduler.step()
        self.steps += 1
        return StepResult(loss_sum.detach(), tokens, shared[1], grad_norm)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, besides the weights and the batch."""
        return {
            "steps": self.steps,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.steps = state["steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
