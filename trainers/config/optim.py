"""The section `optim`: the optimizer, the schedule of its learning rate, and what is frozen."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from trainers.config.optimizers import USUAL, arguments, optimizer_class
from trainers.config.rules import broken, minimums

ScheduleName = Literal["one_cycle", "cosine", "constant", "step", "cyclic"]
LrScaling = Literal["none", "linear", "sqrt"]

# Tables that are looked up by position, and gains, are not maps; decay would pull all of their rows to one.
NO_DECAY = (
    "*.position.table",
    "*.positions.table",
    "encoder.class_token.*",
    "*.pos_embed*",
    "*.cls_token",
    "*.relative_position_bias_table",
    "*.gain",
)


@dataclass
class ScheduleConfig:
    """The learning rate over the steps of a run, as a share of its peak."""

    name: ScheduleName = "one_cycle"  # cyclic: up, down and out, as a source system has it, with Adam's beta1 against it
    warmup_ratio: float = 0.1  # share of all steps in which the rate rises to the peak; cyclic rises by itself
    min_lr_ratio: float = 0.0  # share of the peak at the end of cosine and one_cycle, the latter's being 1e-3 at the least
    step_epochs: int = 5  # step: after every so many epochs ...
    gamma: float = 0.75  # ... the rate is multiplied by this
    per_epoch: bool = False  # the rate changes at the ends of epochs only, which then count as its steps


@dataclass
class OptimConfig:
    """The optimizer, what it does to which parameters, and its learning rate."""

    name: str = "adamw"  # any of timm.optim.list_optimizers()
    lr: float = 1e-3  # the peak of the learning rate
    weight_decay: float = 0.01  # of the parameters that `no_decay` does not name
    betas: tuple[float, float] = (0.9, 0.98)  # where the optimizer has two
    eps: float | None = None  # null: the optimizer's own, 1e-8 for adamw; it does not mean the same in all of them
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of the optimizer
    max_grad_norm: float = 1.0  # 0: gradients are not clipped
    lr_scaling: LrScaling = "none"  # with the global batch: linear (Goyal et al. 2017) or sqrt (Krizhevsky 2014)
    base_batch_size: int = 64  # the global batch that lr is meant for, where it is scaled
    layer_decay: float = 1.0  # the rate of each layer is that of the next multiplied by this (ELECTRA, BEiT)
    backbone_lr_scale: float = 1.0  # the rate of a pretrained backbone, as a share of the others'
    no_decay: list[str] = field(default_factory=lambda: list(NO_DECAY))  # patterns of names, besides all vectors
    freeze: dict[str, int] = field(default_factory=dict)  # pattern of names: epochs, -1 for good; "backbone.*": 2
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        schedule = self.schedule
        return (
            broken(
                (self.lr > 0, f"optim.lr={self.lr}: above 0"),
                *minimums("optim", self, weight_decay=0, base_batch_size=1),
                (all(0 <= beta < 1 for beta in self.betas), f"optim.betas={list(self.betas)}: each from 0 to below 1"),
                (self.eps is None or self.eps > 0, f"optim.eps={self.eps}: above 0"),
                (self.max_grad_norm >= 0, f"optim.max_grad_norm={self.max_grad_norm}: above 0, or 0 for no clipping"),
                (0 < self.layer_decay <= 1, f"optim.layer_decay={self.layer_decay}: above 0, at most 1"),
                (
                    self.backbone_lr_scale > 0,
                    f"optim.backbone_lr_scale={self.backbone_lr_scale}: above 0; optim.freeze stops a backbone",
                ),
                (
                    0 <= schedule.warmup_ratio < 1,
                    f"optim.schedule.warmup_ratio={schedule.warmup_ratio}: a share, from 0 to below 1",
                ),
                (0 <= schedule.min_lr_ratio <= 1, f"optim.schedule.min_lr_ratio={schedule.min_lr_ratio}: a share, from 0 to 1"),
                *minimums("optim.schedule", schedule, step_epochs=1),
                (0 < schedule.gamma <= 1, f"optim.schedule.gamma={schedule.gamma}: above 0, at most 1"),
                *(
                    (epochs >= -1, f"optim.freeze.{name}={epochs}: epochs, or -1 for good")
                    for name, epochs in self.freeze.items()
                ),
            )
            + self._optimizer_problems()
        )

    def _optimizer_problems(self) -> list[str]:
        kind = optimizer_class(self.name)
        if kind is None:
            return [
                f"optim.name={self.name}: not an optimizer that Inkray takes; the usual ones are {', '.join(USUAL)}; "
                "others are listed by timm.optim.list_optimizers()"
            ]
        own = {item.name for item in fields(OptimConfig)}
        allowed = [name for name in arguments(kind) if name not in own]
        return [
            f"optim.options.{key}: {'is set by optim.' + key if key in own else self.name + ' takes ' + ', '.join(allowed)}"
            for key in self.options
            if key not in allowed
        ]
