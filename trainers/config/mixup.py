"""The section `mixup`: images and labels of a batch mixed with each other in training."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.config.label_loss import HARD, LabelLossConfig
from trainers.config.rules import broken

MAX_ALPHA = 1000.0  # beyond, all shares are a half


@dataclass
class MixupConfig:
    """Images and labels of a batch mixed with each other in training, as in timm; off while both alphas are 0.

    One share is drawn for each step, as timm's mode `batch` does; images are paired within a micro-batch.
    """

    # Of mixup (Zhang et al. 2018): the share of an image is drawn from Beta(alpha, alpha), .2 mostly near 0 and 1, 1 evenly.
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0  # of cutmix (Yun et al. 2019), which pastes a box of the other image: the share outside of it
    prob: float = 1.0  # the chance that a step is mixed
    switch_prob: float = 0.5  # the chance of cutmix where both alphas are above 0

    @property
    def enabled(self) -> bool:
        """Whether anything is ever mixed."""
        return (self.mixup_alpha > 0 or self.cutmix_alpha > 0) and self.prob > 0

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        return broken(
            *(
                (0 <= getattr(self, key) <= MAX_ALPHA, f"mixup.{key}={getattr(self, key)}: from 0 (off) to {MAX_ALPHA:g}")
                for key in ("mixup_alpha", "cutmix_alpha")
            ),
            *(
                (0 <= getattr(self, key) <= 1, f"mixup.{key}={getattr(self, key)}: a share, from 0 to 1")
                for key in ("prob", "switch_prob")
            ),
        )

    def problems_with(self, loss: LabelLossConfig) -> list[str]:
        """What of `loss` is impossible with mixed labels, by key."""
        key = "mixup_alpha" if self.mixup_alpha else "cutmix_alpha"
        return broken(
            (
                not self.enabled or loss.multilabel not in HARD,
                f"mixup.{key}={getattr(self, key)}: label_loss.multilabel={loss.multilabel} knows labels that are present or "
                f"absent, not mixed; set mixup.{key} to 0",
            ),
        )
