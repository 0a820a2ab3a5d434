"""Norms with running statistics (BatchNorm, say) in batches that have no statistics: of no sample, or of one small one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def norms_for(network: nn.Module, samples: int) -> Iterator[None]:
    """Inside, a training pass of `network` over a batch of `samples` samples is possible and leaves no false statistics.

    Without a sample, what is computed is a row that was made up (a rank must take part in every step): it is normalized with
    the running statistics, which it does not change. Norms over all ranks count none for it, and still exchange with the
    others. Of one sample, a BatchNorm that would see one value of each channel, which has no variance, uses them, too. Larger
    batches are left alone.
    """
    if samples > 1:
        yield
        return
    norms = [module for module in network.modules() if module.training and getattr(module, "running_mean", None) is not None]
    with contextlib.ExitStack() as stack:
        for norm in norms:
            stack.callback(norm.train)
            if samples == 0 and isinstance(norm, nn.SyncBatchNorm):
                norm.forward = _Absent(norm, norm.forward)  # type: ignore[method-assign,assignment]
                stack.callback(delattr, norm, "forward")
            elif samples == 0:
                norm.eval()
            elif isinstance(norm, _BatchNorm) and not isinstance(norm, nn.SyncBatchNorm):
                stack.callback(norm.register_forward_pre_hook(_still_for_one_value).remove)
        yield


def _still_for_one_value(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Before a norm over (B, C, ...): its running statistics serve where there is one value of each channel."""
    norm.training = args[0].numel() > args[0].shape[1]


class _Absent:
    """A norm over all ranks on one that has no sample: the others get no value from it, but it takes part in their exchange."""

    def __init__(self, norm: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        self.norm, self.forward = norm, forward

    def __call__(self, x: Tensor) -> Any:
        self.norm.eval()
        normed = self.forward(x)
        self.norm.train()
        return normed + self.forward(x[:0]).sum()
