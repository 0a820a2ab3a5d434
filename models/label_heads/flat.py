"""The flat head, which knows joint classes only.

Legend: B batch, D width of the pooled features.
"""

from torch import Tensor, nn

from models.classifier_config import LabelHeadConfig
from models.label_heads.base import LabelHead
from models.label_heads.joints import Marginals
from models.types import ClassifierOutput, LabelSpec


class FlatLabelHead(LabelHead):
    """One linear map to the joint classes; the label heads are its marginals."""

    joint_is_learned = True

    def __init__(self, config: LabelHeadConfig, input_dim: int, spec: LabelSpec) -> None:
        super().__init__(config, input_dim, spec)
        self.drop = nn.Dropout(config.drop_rate)
        self.map = nn.Linear(input_dim, spec.num_joint)
        self.marginals = Marginals(spec.sizes)

    def forward(self, features: Tensor) -> ClassifierOutput:
        """Pooled features (B, D) to logits."""
        joint = self.map(self.drop(features))
        return ClassifierOutput(self.named(self.marginals(joint)), joint)
