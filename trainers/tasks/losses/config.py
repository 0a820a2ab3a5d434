"""Settings of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

TokenLossName = Literal["cross_entropy", "focal", "cosine", "focal_cosine"]
PadPositions = Literal["ignored", "counted"]
SpecialTokens = Literal["excluded", "included"]


@dataclass
class LossConfig:
    """What is minimised."""

    name: TokenLossName = "cross_entropy"  # of the decoder, at each position
    # counted: positions after <eos> are labels, too. The model learns to emit <pad> there, and the mean is diluted by what is
    # easily learned; how much, the padding of each batch decides. A source system's form.
    pad: PadPositions = "ignored"
    label_smoothing: float = 0.0  # of the cross-entropy
    focal_alpha: float = 1.0
    focal_gamma: float = 2.0  # how much less a position counts that is learned already; 0: not at all
    normalize_logits: bool = False  # focal over logits of length 1, as a source system has it
    cosine_weight: float = 0.1  # of the cosine term in focal_cosine
    special_tokens: SpecialTokens = "excluded"  # of the cosine term; included as a source system has it
    ctc_weight: float = 0.3  # share of CTC where a model has a decoder and a CTC head (Watanabe et al. 2017)
    repulsion_weight: float = 0.1  # of model.repulsion, per token
    counting_weight: float = 0.1  # of model.counting
    structure_weight: float = 0.1  # of model.structure


def problems(config: LossConfig) -> list[str]:
    """What is wrong with the values of `config`, by key; nothing, if all is well."""
    wrong = []
    if not 0 <= config.label_smoothing < 1:
        wrong.append(f"loss.label_smoothing={config.label_smoothing}: from 0 to below 1")
    elif config.label_smoothing > 0 and config.name != "cross_entropy":
        wrong.append(f"loss.label_smoothing={config.label_smoothing}: of loss.name=cross_entropy alone; 0 for {config.name}")
    if not 0 <= config.ctc_weight <= 1:
        wrong.append(f"loss.ctc_weight={config.ctc_weight}: a share, from 0 to 1")
    if not 0 < config.focal_alpha < math.inf:
        wrong.append(f"loss.focal_alpha={config.focal_alpha}: above 0")
    for key in ("focal_gamma", "cosine_weight", "repulsion_weight", "counting_weight", "structure_weight"):
        if not 0 <= getattr(config, key) < math.inf:
            wrong.append(f"loss.{key}={getattr(config, key)}: not negative")
    if config.name == "cosine" and config.special_tokens == "excluded":
        wrong.append(
            "loss.special_tokens=excluded: loss.name=cosine alone would never teach <eos>, where a text ends; "
            "set it to included, or loss.name to focal_cosine"
        )
    return wrong


def without_training_terms(config: LossConfig) -> LossConfig:
    """The loss that validation reports, comparable between arms: plain cross-entropy of what is read, <pad> ignored.

    No smoothing, no auxiliary terms; CTC has its configured share.
    """
    return replace(LossConfig(), ctc_weight=config.ctc_weight, repulsion_weight=0.0, counting_weight=0.0, structure_weight=0.0)
