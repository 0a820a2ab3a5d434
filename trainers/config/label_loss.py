"""The section `label_loss`: what training of a classifier minimizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from cluster.yaml_text import shown
from trainers.config.rules import Rule, broken

MultilabelLossName = Literal["bce", "asymmetric", "focal", "poly", "distribution_balanced", "zlpr", "two_way"]
MulticlassLossName = Literal["cross_entropy", "focal"]
ClassWeights = Literal["none", "balanced"]

HARD: tuple[MultilabelLossName, ...] = ("zlpr", "two_way")  # they know labels that are present or absent, nothing between
WEIGHTED: tuple[MultilabelLossName, ...] = ("bce", "asymmetric")  # of timm's, those that weigh presences by class


@dataclass
class LabelLossConfig:
    """What training of a classifier minimizes.

    The losses of several labels are timm's and torchvision's, each a mean over all pairs of image and label. The two-way loss
    is none: it compares the images of a batch with each other, those that a worker computes at once (a micro-batch).
    """

    # Of a multi-label task: binary cross-entropy; asymmetric (Ridnik et al. 2021); focal (Lin et al. 2017); Poly-1 (Leng et
    # al. 2022); distribution-balanced (Wu et al. 2020), from the numbers of training rows; ZLPR (Su et al. 2022);
    # two-way (Kobayashi 2023), which compares the images of a micro-batch, too.
    multilabel: MultilabelLossName = "bce"
    multiclass: MulticlassLossName = "cross_entropy"  # of a multi-class task, and of each head of a multi-task one
    label_smoothing: float = 0.0  # towards the mean of all classes; of multi-label, towards .5
    focal_gamma: float = 2.0  # of both focal losses: how much less a target counts that is learned already; 0: not at all
    focal_alpha: float | None = 0.25  # of multi-label focal: the weight of presences, 1 minus it that of absences; null: none
    asymmetric_gamma_positive: float = 1.0  # as focal_gamma, of presences
    asymmetric_gamma_negative: float = 4.0  # as focal_gamma, of absences
    asymmetric_clip: float = 0.05  # an absence below this probability has no loss; 0: each has one
    poly_epsilon: float = 2.0  # weight of the first polynomial term of multilabel=poly; 0: binary cross-entropy
    two_way_positive: float = 4.0  # of multilabel=two_way: temperature of the soft minimum over presences
    two_way_negative: float = 1.0  # of multilabel=two_way: temperature of the soft maximum over absences
    # balanced: each class counts as much as any other, by the rows of the training split. Of multi-label (bce, asymmetric):
    # presences of a class count as much as its absences.
    class_weights: ClassWeights = "none"
    weights: dict[str, float] = field(default_factory=dict)  # factors by class (multi-task: HEAD.CLASS) on top; else 1
    heads: dict[str, float] = field(default_factory=dict)  # of multi-task: weights in the mean of the heads' losses; else 1
    joint_weight: float = 1.0  # of multi-task: factor of the loss of a learned joint class, beside the mean of the heads'

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        smoothing, alpha, clip, epsilon = self.label_smoothing, self.focal_alpha, self.asymmetric_clip, self.poly_epsilon
        not_negative = ("focal_gamma", "asymmetric_gamma_positive", "asymmetric_gamma_negative", "joint_weight")
        return broken(
            (0 <= smoothing < 1, f"label_loss.label_smoothing={smoothing}: from 0 to below 1"),
            (
                not 0 < smoothing < 1 or self.multilabel not in HARD,
                f"label_loss.label_smoothing={smoothing}: not of label_loss.multilabel={self.multilabel}, which ranks labels; "
                "set it to 0",
            ),
            (alpha is None or 0 <= alpha <= 1, f"label_loss.focal_alpha={alpha}: a share, from 0 to 1, or null"),
            (0 <= clip < 1, f"label_loss.asymmetric_clip={clip}: a probability, from 0 to below 1"),
            *(
                (0 < getattr(self, key) < math.inf, f"label_loss.{key}={getattr(self, key)}: a temperature, above 0")
                for key in ("two_way_positive", "two_way_negative")
            ),
            (-1 <= epsilon < math.inf, f"label_loss.poly_epsilon={epsilon}: at least -1, where the loss still falls"),
            *(
                (0 <= getattr(self, key) < math.inf, f"label_loss.{key}={getattr(self, key)}: not negative")  # NaN, too
                for key in not_negative
            ),
            *(
                (
                    not used or not 0 < getattr(self, key) < 1,
                    f"label_loss.{key}={getattr(self, key)}: 0 or at least 1; between them the gradient of what is learned is "
                    "infinite",
                )
                for key, used in (
                    ("focal_gamma", self.multilabel == "focal"),
                    ("asymmetric_gamma_positive", self.multilabel == "asymmetric"),
                    ("asymmetric_gamma_negative", self.multilabel == "asymmetric"),
                )
            ),
            (
                self.multilabel in WEIGHTED or (self.class_weights == "none" and not self.weights),
                f"label_loss.{'weights' if self.weights else 'class_weights'}: weights are of label_loss.multilabel="
                f"{' and '.join(WEIGHTED)}, not of {self.multilabel}; leave them out",
            ),
            *_weight_rules("label_loss.weights", self.weights),
            *_weight_rules("label_loss.heads", self.heads),
        )


def without_label_training_terms(config: LabelLossConfig) -> LabelLossConfig:
    """The loss that validation reports, comparable between arms: plain cross-entropy, nothing smoothed, no class weights.

    Heads and the joint class have their configured shares.
    """
    return replace(LabelLossConfig(), heads=config.heads, joint_weight=config.joint_weight)


def _weight_rules(section: str, weights: Mapping[str, float]) -> list[Rule]:
    """Rules of weights by name: each a number that is not negative."""
    return [
        *((bool(name), f"{section} has an empty name") for name in weights),
        *(
            (0 <= weight < math.inf, f"{section}.{shown(name)}={weight}: a number that is not negative")
            for name, weight in weights.items()
        ),
    ]
