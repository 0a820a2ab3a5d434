"""Heads of a classifier, from pooled features (B, D) to a ClassifierOutput.

Each is built from (LabelHeadConfig, D, LabelSpec).
"""

from models.checks import check_label_spec, check_numbers, lookup
from models.classifier_config import LabelHeadConfig, LabelHeadName
from models.label_heads.attention import AttentionLabelHead
from models.label_heads.base import LabelHead
from models.label_heads.flat import FlatLabelHead
from models.label_heads.linear import IndependentLabelHead, LinearLabelHead
from models.types import LabelSpec

LABEL_HEADS: dict[LabelHeadName, type[LabelHead]] = {
    "linear": LinearLabelHead,
    "independent": IndependentLabelHead,
    "attention": AttentionLabelHead,
    "flat": FlatLabelHead,
}


def check_label_head(config: LabelHeadConfig, spec: LabelSpec) -> None:
    """Raises ModelConfigError for an unknown head, bad settings, or label heads for which it cannot be built."""
    check_label_spec(spec)
    check_numbers(config, "classifier.head")
    lookup(LABEL_HEADS, config.name, "classifier.head.name").check(spec)


def build_label_head(config: LabelHeadConfig, input_dim: int, spec: LabelSpec) -> LabelHead:
    """Builds the configured head over pooled features of width `input_dim`."""
    return lookup(LABEL_HEADS, config.name, "classifier.head.name")(config, input_dim, spec)


__all__ = ["LABEL_HEADS", "LabelHead", "build_label_head", "check_label_head"]
