"""The interface of a classifier's heads.

Legend: B batch, D width of the pooled features.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from models.classifier_config import LabelHeadConfig
from models.errors import ModelConfigError
from models.types import ClassifierOutput, LabelSpec


class LabelHead(nn.Module):
    """Base class of modules from pooled features to the logits of every label head.

    `joint_is_learned`: whether the logits of the joint classes have parameters of their own; otherwise they follow from those
    of the label heads, and a loss on them would train nothing else.
    """

    joint_is_learned: bool = False

    def __init__(self, config: LabelHeadConfig, input_dim: int, spec: LabelSpec) -> None:
        super().__init__()
        self.names = [head.name for head in spec.heads]

    def forward(self, features: Tensor) -> ClassifierOutput:
        """Pooled features (B, D) to logits."""
        raise NotImplementedError

    def named(self, logits: Sequence[Tensor]) -> dict[str, Tensor]:
        """Logits of the label heads in the order of the spec, by name."""
        return dict(zip(self.names, logits, strict=True))

    @classmethod
    def check(cls, spec: LabelSpec) -> None:
        """Raises ModelConfigError if the head learns joint classes and the `spec` has none."""
        if cls.joint_is_learned and not spec.joint:
            raise ModelConfigError(
                "classifier.head.name",
                "attention and flat learn joint classes, but the labels have none; set it to linear or independent, or use a "
                "dataset that declares a joint class",
            )


def branches(config: LabelHeadConfig, input_dim: int, spec: LabelSpec) -> nn.ModuleList:
    """A hidden layer for each label head: (B, D) to its state (B, hidden_dim)."""
    return nn.ModuleList(
        nn.Sequential(
            nn.Dropout(config.drop_rate), nn.Linear(input_dim, config.hidden_dim), nn.ReLU(), nn.Dropout(config.drop_rate)
        )
        for _ in spec.heads
    )


def linear_maps(input_dim: int, spec: LabelSpec) -> nn.ModuleList:
    """A linear map to the classes of each label head. A list: names of labels may be any text, those of modules may not."""
    return nn.ModuleList(nn.Linear(input_dim, size) for size in spec.sizes)
