"""The section `scheduled_sampling`: what a decoder is fed in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.rules import broken, minimums

SamplingMode = Literal["always", "per_batch", "per_step", "per_token"]
RatioSchedule = Literal["constant", "linear", "inverse_sigmoid"]

MAX_STEEPNESS = 1e6


@dataclass
class ScheduledSamplingConfig:
    """How often a decoder is fed the truth in training, and not its own tokens (Bengio et al. 2015). `<bos>` always is."""

    # always: teacher forcing, nothing but the truth. Else by one coin for all of a global batch (per_batch), one for each
    # target position of it (per_step), or one for each token (per_token).
    mode: SamplingMode = "always"
    ratio: float = 1.0  # the chance of the truth, at the beginning of the run
    schedule: RatioSchedule = "constant"  # how the chance moves from `ratio` to `end_ratio` over the run
    end_ratio: float = 0.0  # the chance of the truth at the end of the run, of a schedule that is not constant
    steepness: float = 50.0  # of the inverse sigmoid: near 1 it is a line, above that a step in the middle of the run
    passes: int = 1  # in which a transformer looks for its own tokens; an RNN has them as it goes

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        key = "ratio" if self.ratio != 1 else "schedule"
        return broken(
            *(
                (
                    0 <= getattr(self, share) <= 1,
                    f"scheduled_sampling.{share}={getattr(self, share)}: a share, from 0 to 1",
                )
                for share in ("ratio", "end_ratio")
            ),
            (
                1 < self.steepness <= MAX_STEEPNESS,
                f"scheduled_sampling.steepness={self.steepness}: above 1, at most {MAX_STEEPNESS:g}",
            ),
            *minimums("scheduled_sampling", self, passes=1),
            (
                self.mode != "always" or (self.ratio == 1 and self.schedule == "constant"),
                f"scheduled_sampling.{key}={getattr(self, key)}: scheduled_sampling.mode=always feeds nothing but the truth; "
                "set scheduled_sampling.mode to per_batch, per_step or per_token",
            ),
        )
