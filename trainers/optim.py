"""The optimizer and its schedule."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from trainers.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW over all parameters of `model`, each in exactly one group: no decay on vectors (norms, biases)."""
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, foreach=True)


def lr_factor(config: OptimConfig, total_steps: int) -> Callable[[int], float]:
    """The share of `config.lr` at a step in [0, total_steps): linear warm-up, then constant, cosine to 0, or
    one-cycle (Smith 2018: cosine from the peak down to 1e-3 of it).
    """
    warmup = max(1, round(config.warmup * total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if config.schedule == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        floor = 1e-3 if config.schedule == "one_cycle" else 0.0
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def build_scheduler(optimizer: torch.optim.Optimizer, config: OptimConfig, total_steps: int) -> LambdaLR:
    """The schedule, stepped once after each optimizer step."""
    return LambdaLR(optimizer, lr_factor(config, total_steps))
