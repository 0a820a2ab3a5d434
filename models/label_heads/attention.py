"""The head that attends to the states of its label heads.

Legend: B batch, D width of the pooled features, S width of a state, n label heads.
"""

import torch
from torch import Tensor, nn

from models.classifier_config import LabelHeadConfig
from models.label_heads.base import LabelHead, branches, linear_maps
from models.types import ClassifierOutput, LabelSpec


class AttentionLabelHead(LabelHead):
    """A branch for each label head, whose states also decide the joint class together.

    The weights of the states are computed from all of them; the weighted states are joined and classified. This is the plan
    of a source system for mask, gender and age. A loss on the joint class alone leaves the maps to the classes of the label
    heads without gradients.
    """

    joint_is_learned = True

    def __init__(self, config: LabelHeadConfig, input_dim: int, spec: LabelSpec) -> None:
        super().__init__(config, input_dim, spec)
        joined = len(spec.heads) * config.hidden_dim
        self.branches = branches(config, input_dim, spec)
        self.maps = linear_maps(config.hidden_dim, spec)
        self.score = nn.Linear(joined, len(spec.heads))
        self.joint = nn.Linear(joined, spec.num_joint)

    def forward(self, features: Tensor) -> ClassifierOutput:
        """Pooled features (B, D) to logits and the weights (B, n) of the label heads' states."""
        states = [branch(features) for branch in self.branches]
        logits = [linear(state) for linear, state in zip(self.maps, states, strict=True)]
        together = torch.stack(states, 1)  # (B, n, S)
        weights = self.score(together.flatten(1)).softmax(-1)
        joint = self.joint((together * weights[..., None]).flatten(1))
        return ClassifierOutput(self.named(logits), joint, weights)
