"""The section `loss`: what training minimizes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from trainers.config.rules import broken

TokenLossName = Literal["cross_entropy", "focal", "cosine", "focal_cosine"]
SpecialTokens = Literal["excluded", "included"]


@dataclass
class LossConfig:
    """What training minimizes."""

    name: TokenLossName = "cross_entropy"  # of the decoder, at each position
    # false: positions after <eos> are labels, too. The model learns to emit <pad> there, and the mean is diluted by what is
    # easily learned; how much, the padding of each batch decides. A source system's form.
    ignore_padding: bool = True
    label_smoothing: float = 0.0  # of the cross-entropy
    focal_alpha: float = 1.0  # factor of the focal loss
    focal_gamma: float = 2.0  # how much less a position counts that is learned already; 0: not at all
    normalize_logits: bool = False  # focal over logits of length 1, as a source system has it
    cosine_weight: float = 0.1  # of the cosine term in focal_cosine
    special_tokens: SpecialTokens = "excluded"  # of the cosine term; included as a source system has it
    ctc_weight: float = 0.3  # share of CTC where a model has a decoder and a CTC head (Watanabe et al. 2017)
    repulsion_weight: float = 0.1  # of model.repulsion, per token
    counting_weight: float = 0.1  # of model.counting
    structure_weight: float = 0.1  # of model.structure

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        smoothing = self.label_smoothing
        not_negative = ("focal_gamma", "cosine_weight", "repulsion_weight", "counting_weight", "structure_weight")
        return broken(
            (0 <= smoothing < 1, f"loss.label_smoothing={smoothing}: from 0 to below 1"),
            (
                not 0 < smoothing < 1 or self.name == "cross_entropy",
                f"loss.label_smoothing={smoothing}: of loss.name=cross_entropy alone; 0 for {self.name}",
            ),
            (0 <= self.ctc_weight <= 1, f"loss.ctc_weight={self.ctc_weight}: a share, from 0 to 1"),
            (0 < self.focal_alpha < math.inf, f"loss.focal_alpha={self.focal_alpha}: above 0"),
            *(
                (0 <= getattr(self, key) < math.inf, f"loss.{key}={getattr(self, key)}: not negative")  # NaN, too
                for key in not_negative
            ),
            (
                self.name != "cosine" or self.special_tokens == "included",
                "loss.special_tokens=excluded: loss.name=cosine alone would never teach <eos>, where a text ends; "
                "set it to included, or loss.name to focal_cosine",
            ),
        )


def without_training_terms(config: LossConfig) -> LossConfig:
    """The loss that validation reports, comparable between arms: plain cross-entropy of what is read, <pad> ignored.

    No smoothing, no auxiliary terms; CTC has its configured share.
    """
    return replace(LossConfig(), ctc_weight=config.ctc_weight, repulsion_weight=0.0, counting_weight=0.0, structure_weight=0.0)
