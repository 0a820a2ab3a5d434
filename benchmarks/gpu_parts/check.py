"""Everything in a step that is different on a GPU, each compared with what it should equal.

Those that fill the memory come first, alone. Those that take long run in processes of their own beside the rest.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.gpu_parts.commands import killed, whole_run
from benchmarks.gpu_parts.decoding import tokens
from benchmarks.gpu_parts.memory import halving, micro_batch, recompute
from benchmarks.gpu_parts.precision import choices, compiling, fp32, overflow, precisions
from benchmarks.gpu_parts.prefetch import prefetch
from benchmarks.gpu_parts.ranks import ddp, two_ranks
from benchmarks.gpu_parts.resume import other_device, resume
from benchmarks.gpu_parts.scene import Scene
from benchmarks.gpu_parts.steps import fused, waits

CHECKS: dict[str, Callable[[Scene], str]] = {
    check.__name__: check
    for check in (
        micro_batch,
        halving,
        choices,
        overflow,
        fp32,
        precisions,
        waits,
        prefetch,
        fused,
        ddp,
        recompute,
        resume,
        other_device,
        two_ranks,
        tokens,
        whole_run,
        killed,
        compiling,
    )
}
ALONE = ("micro_batch", "halving")
BESIDE = ("compiling", "killed", "whole_run", "two_ranks", "tokens")
