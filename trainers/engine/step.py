"""One optimizer step in plain torch: no Ray, no storage. It runs alone on one device, or under DDP on many.

The loss of a global batch is a mean over its targets (tokens, say), wherever they are computed: ranks agree on the number of
targets and each contributes its sum, so one worker and eight minimize the same function, in one piece or in micro-batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainers.config.compute import Precision
from trainers.config.loss_guard import LossGuardConfig
from trainers.config.weight_averaging import WeightAveragingConfig
from trainers.distributed.ddp import is_distributed, unwrap_model
from trainers.distributed.norms import norms_for
from trainers.distributed.precision import resolve_precision
from trainers.engine.loss_guard import LossGuard
from trainers.engine.reporter import ControlRequests
from trainers.optim import Freezing, OptimConfig, Schedule, build_optimizer, load_optimizer
from trainers.optim.weight_averaging import build_averaging
from trainers.tasks import Task
from trainers.tasks.base import Progress
from trainers.tasks.device_batch import DeviceBatch


@dataclass(frozen=True)
class StepResult:
    """The outcome of a step; tensors stay on the device until they are read.

    `loss_sum` is this rank's loss summed over its targets, `target_count` counts those of all ranks, `stop` and `checkpoint`
    are above 0 when any rank requests it, `bad` says that the loss guard rejects the step, `grad_norm` is that before clipping.
    """

    loss_sum: Tensor
    target_count: Tensor
    stop: Tensor
    checkpoint: Tensor
    grad_norm: Tensor
    bad: Tensor


@dataclass(frozen=True)
class StepConfig:
    """How steps are taken, besides the optimizer."""

    precision: Precision = "auto"
    micro_batch_size: int = 0  # images at once; 0: all
    weight_averaging: WeightAveragingConfig = field(default_factory=WeightAveragingConfig)
    loss_guard: LossGuardConfig = field(default_factory=LossGuardConfig)


def _unreported(phase: str) -> None:
    """Report no phase."""


class TrainStep:
    """Model, task, optimizer, schedule, scaler and averages: all that consumes a batch.

    `wrap` puts the network under DDP, again when the parameters that are trained change; without it `model` is taken as it is.
    `lr` is the peak learning rate where it is not that of `optim` (one that is meant for another batch size).
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optim: OptimConfig,
        total_steps: int,
        device: torch.device,
        config: StepConfig | None = None,
        *,
        seed: int = 0,
        rank: int = 0,
        epochs: int = 1,
        lr: float | None = None,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        enter_phase: Callable[[str], None] = _unreported,
    ) -> None:
        config = config or StepConfig()
        self.network = unwrap_model(model)
        self.task, self.device, self.total_steps, self._enter_phase = task, device, total_steps, enter_phase
        self.optimizer = build_optimizer(self.network, optim, optim.lr if lr is None else lr)
        self.schedule = Schedule(self.optimizer, optim.schedule, total_steps, epochs)
        self.freezing = Freezing(self.network, optim.freeze)
        self.averaging = build_averaging(self.network, config.weight_averaging, total_steps)
        self.dtype = resolve_precision(config.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.guard = LossGuard(config.loss_guard, task.untrained_loss, device)
        self.max_grad_norm = optim.max_grad_norm or float("inf")
        self.micro_batch_size = config.micro_batch_size
        self.steps = 0
        self.overflows = 0  # steps that the scaler left out, as far as they have been read from the device
        self._overflows = torch.zeros((), device=device)
        self._seed, self._rank, self._wrap = seed, rank, wrap
        self.freezing.begin_epoch(0)
        self.model = wrap(self.network) if wrap else model
        self.enter_training()
        # What a forward pass changes even if no step follows: the running statistics of norms.
        names = ("running_mean", "running_var")
        self._statistics = [buffer for name, buffer in self.network.named_buffers() if name.endswith(names)]
        # A bad step is seen before it is taken where looking costs nothing, or where the configuration wants it to.
        self._looks = device.type == "cpu" or config.loss_guard.on_bad_step == "skip"

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.schedule.lr

    def read_overflows(self) -> None:
        """Read from the device how many steps the scaler left out; waits for the last one."""
        if self.scaler.is_enabled():
            self.overflows = int(self._overflows)

    def begin_epoch(self, epoch: int) -> None:
        """Train the parameters that are trained in `epoch`."""
        if self.freezing.begin_epoch(epoch) and self._wrap:
            self.model = self._wrap(self.network)  # DDP exchanges the gradients of those that it was built with
        self.enter_training()

    def enter_training(self) -> None:
        """Have all modules train but those that are frozen. Not in every step: that asks each of hundreds of modules."""
        self.network.train()
        self.freezing.keep_still()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of the forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def __call__(self, batch: DeviceBatch, requests: ControlRequests = ControlRequests()) -> StepResult:  # noqa: B008  (immutable)
        """Take one step on this rank's part of a global batch. All ranks learn of the `requests` of one."""
        # Dropout is a function of (seed, step, rank), so a resumed run draws what the uninterrupted one would have drawn.
        torch.manual_seed((self._seed * 1_000_003 + self.steps) * 4099 + self._rank)
        if not self.network.training:
            self.enter_training()
        self._enter_phase("agreeing on the batch")
        # torch.full fills on the device: a copy from the host would wait for the step before.
        requested = [torch.full((), float(request), device=self.device) for request in requests]
        shared = torch.stack([self.task.target_count(batch), *requested])
        world_size = 1
        if is_distributed():
            dist.all_reduce(shared)
            world_size = dist.get_world_size()
        target_count = shared[0].clamp(min=1)
        before = [buffer.clone() for buffer in self._statistics] if self._looks else []
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum = self._backward(batch, world_size / target_count)  # DDP averages over ranks
        self._enter_phase("updating the weights")
        self.scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.max_grad_norm)
        bad = self.guard.is_bad(loss_sum, target_count, grad_norm, scaled=self.scaler.is_enabled())
        if self.scaler.is_enabled():
            self._overflows += ~torch.isfinite(grad_norm)
        self.schedule.set(self.steps, self.averaging.lr_override(self.steps), self.overflows)
        if self._looks and bool(bad):
            for buffer, kept in zip(self._statistics, before, strict=True):
                buffer.copy_(kept)
        else:
            self.scaler.step(self.optimizer)
            self.averaging.update(self.steps + 1)
        self.scaler.update()
        self.steps += 1
        return StepResult(loss_sum, target_count, shared[1], shared[2], grad_norm, bad)

    def _backward(self, batch: DeviceBatch, scale: Tensor) -> Tensor:
        """Add up the gradients of all micro-batches; ranks exchange them with the last one. Returns the loss summed."""
        rows = len(batch.images)
        parts = list(batch.split(self.micro_batch_size or rows))
        progress = Progress(self.steps, self.total_steps, self._seed)
        total = torch.zeros((), device=self.device)
        for number, part in enumerate(parts, start=1):
            alone = number < len(parts) and self.model is not self.network
            # Every rank has as many parts as the others, but maybe fewer samples: no norm counts what is no sample.
            part, samples = part.samples()
            with (
                self.model.no_sync() if alone else contextlib.nullcontext(),  # type: ignore[operator]
                norms_for(self.network, samples),
            ):
                self._enter_phase("forward pass")
                with self.autocast():
                    loss_sum = self.task.loss_sum(self.model, part, progress)
                self._enter_phase("backward pass")
                self.scaler.scale(loss_sum * scale).backward()
            total += loss_sum.detach()
        return total

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, besides the weights that a checkpoint exports, and the batch."""
        state = {
            "steps": self.steps,
            "overflows": [self.overflows, int(self._overflows)],
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averaging": self.averaging.state_dict(),
            "guard": self.guard.state_dict(),
        }
        if self.averaging.network is not self.network:
            state["weights"] = self.network.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict`; the network has the exported weights."""
        self.steps = state["steps"]
        self.overflows, overflows = state.get("overflows", (0, 0))  # checkpoints of older runs have none
        self._overflows.fill_(overflows)
        if not self.scaler.is_enabled():  # nothing will be read any more
            self.overflows = overflows
        if "weights" in state:
            self.network.load_state_dict(state["weights"])
        load_optimizer(self.optimizer, state["optimizer"])
        if state["scaler"]:  # none, if it was saved on a device of another precision
            self.scaler.load_state_dict(state["scaler"])
        self.averaging.load_state_dict(state["averaging"])
        self.guard.load_state_dict(state["guard"])
