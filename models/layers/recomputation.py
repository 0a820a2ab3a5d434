"""Batch norms under gradient checkpointing: running statistics count a batch once, however often it is computed."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def count_batches_once(network: nn.Module) -> None:
    """Makes the batch norms of a network leave their running statistics unchanged during a backward pass.

    There, gradient checkpointing (Chen et al. 2016) computes activations again, which would count each batch twice. Norms that
    were added or replaced since the last call are included; a second call changes nothing else.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not any(isinstance(hook, _Before) for hook in module._forward_pre_hooks.values()):
            before = _Before()
            module.register_forward_pre_hook(before)
            # Checkpointing stops a recomputation by an exception as soon as it has what it needs, maybe inside this norm.
            module.register_forward_hook(_After(before), always_call=True)


class _Before:
    """Pre-hook that keeps a batch norm from updating its statistics in a backward pass."""

    def __init__(self) -> None:
        self.kept: tuple[float | None, Tensor | None] | None = None

    def __call__(self, norm: Any, args: Any) -> None:
        # While compiling, the compiler runs the recomputation, without effects on buffers.
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
            return
        # The statistics stay arguments, so that as many tensors are saved for the backward pass as the first time.
        self.kept = norm.momentum, norm.num_batches_tracked
        norm.momentum, norm.num_batches_tracked = 0.0, None


class _After:
    """Hook that restores what `_Before` changed."""

    def __init__(self, before: _Before) -> None:
        self.before = before

    def __call__(self, norm: Any, args: Any, output: Any) -> None:
        if self.before.kept is not None:
            norm.momentum, norm.num_batches_tracked = self.before.kept
            self.before.kept = None
