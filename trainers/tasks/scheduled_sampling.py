"""What a decoder is fed in training: the truth (teacher forcing), or its own tokens now and then (scheduled sampling, Bengio
et al. 2015).

Legend: B batch, T target positions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models import SampledTokens
from trainers.config.scheduled_sampling import RatioSchedule, SamplingMode, ScheduledSamplingConfig

COINS = 4098  # in the place of a rank, beside the seeds of dropout


def _stays(done: float, steepness: float) -> float:
    return 1.0


def _line(done: float, steepness: float) -> float:
    return 1.0 - done


def _inverse_sigmoid(done: float, steepness: float) -> float:
    """k / (k + exp(i / k)) of Bengio et al., over the i from 0 to twice its middle, k log k: k / (k + k^(2 done))."""
    start, end = steepness / (steepness + 1), 1 / (steepness + 1)
    return (steepness / (steepness + steepness ** (2 * done)) - end) / (start - end)


# What is left, from 1 to 0, of the way from the first ratio to the last when a share of the run is done.
SCHEDULES: dict[RatioSchedule, Callable[[float, float], float]] = {
    "constant": _stays,
    "linear": _line,
    "inverse_sigmoid": _inverse_sigmoid,
}


def truth_ratio(config: ScheduledSamplingConfig, step: int, total_steps: int) -> float:
    """The chance of the truth at a step in [0, total_steps): `ratio` at the first, the schedule's end at the last."""
    done = min(1.0, step / max(1, total_steps - 1))
    return config.end_ratio + (config.ratio - config.end_ratio) * SCHEDULES[config.schedule](done, config.steepness)


# The chance of the truth, tgt_in (B, T) and the coins of all ranks to where own tokens are fed, bool (B, T), if anywhere.
Draw = Callable[[float, Tensor, torch.Generator], Tensor | None]


def _always(ratio: float, tgt_in: Tensor, shared: torch.Generator) -> None:
    return None


def _per_batch(ratio: float, tgt_in: Tensor, shared: torch.Generator) -> Tensor | None:
    return None if float(torch.rand((), generator=shared)) < ratio else torch.ones_like(tgt_in, dtype=torch.bool)


def _per_step(ratio: float, tgt_in: Tensor, shared: torch.Generator) -> Tensor | None:
    # One after the other: ranks whose texts are shorter have the first of the same coins.
    own = torch.stack([torch.rand((), generator=shared) for _ in range(tgt_in.shape[1])]) >= ratio
    if not own[1:].any():
        return None
    own = own.pin_memory() if tgt_in.is_cuda else own  # what is not pinned would wait for the step before
    return own.to(tgt_in.device, non_blocking=True).expand_as(tgt_in).clone()


def _per_token(ratio: float, tgt_in: Tensor, shared: torch.Generator) -> Tensor | None:
    return None if ratio >= 1 else torch.rand(tgt_in.shape, device=tgt_in.device) >= ratio


MODES: dict[SamplingMode, Draw] = {
    "always": _always,
    "per_batch": _per_batch,
    "per_step": _per_step,
    "per_token": _per_token,
}


def sampled_tokens(
    config: ScheduledSamplingConfig, step: int, total_steps: int, targets: Tensor, seed: int
) -> SampledTokens | None:
    """Where the tokens that are fed, all but the last of `targets` (B, T + 1), give way to the model's own, or None.

    The coins of a batch or of its positions follow from (seed, step) alone: all ranks toss the same. Those of tokens are
    drawn from torch's global state, which the caller seeds. None where all is the truth, which is known without waiting for
    the device. The mask is False at BOS; at PAD the model does not look at it.
    """
    tgt_in = targets[:, :-1]
    shared = torch.Generator().manual_seed((seed * 1_000_003 + step) * 4099 + COINS)
    mask = MODES[config.mode](truth_ratio(config, step, total_steps), tgt_in, shared)
    if mask is None:
        return None
    mask[:, 0] = False
    return SampledTokens(mask, config.passes)
