"""Heads whose label heads do not know of each other.

Legend: B batch, D width of the pooled features.
"""

from torch import Tensor, nn

from models.classifier_config import LabelHeadConfig
from models.label_heads.base import LabelHead, branches, linear_maps
from models.label_heads.joints import JOINTS
from models.types import ClassifierOutput, LabelSpec


class LinearLabelHead(LabelHead):
    """A linear map for each label head; with one, timm's own classifier."""

    def __init__(self, config: LabelHeadConfig, input_dim: int, spec: LabelSpec) -> None:
        super().__init__(config, input_dim, spec)
        self.drop = nn.Dropout(config.drop_rate)
        self.maps = linear_maps(input_dim, spec)
        self.joint = JOINTS[spec.joint]()

    def forward(self, features: Tensor) -> ClassifierOutput:
        """Pooled features (B, D) to logits."""
        features = self.drop(features)
        logits = [linear(features) for linear in self.maps]
        return ClassifierOutput(self.named(logits), self.joint(logits))


class IndependentLabelHead(LabelHead):
    """A branch for each label head: a hidden layer and a linear map."""

    def __init__(self, config: LabelHeadConfig, input_dim: int, spec: LabelSpec) -> None:
        super().__init__(config, input_dim, spec)
        self.branches = branches(config, input_dim, spec)
        self.maps = linear_maps(config.hidden_dim, spec)
        self.joint = JOINTS[spec.joint]()

    def forward(self, features: Tensor) -> ClassifierOutput:
        """Pooled features (B, D) to logits."""
        logits = [linear(branch(features)) for branch, linear in zip(self.branches, self.maps, strict=True)]
        return ClassifierOutput(self.named(logits), self.joint(logits))
