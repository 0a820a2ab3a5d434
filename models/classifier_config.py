"""Configuration of a classifier: a timm network, a pooling and a head."""

from dataclasses import dataclass, field
from typing import Any, Literal

PoolingName = Literal["average", "max", "gem", "attention"]
LabelHeadName = Literal["linear", "independent", "attention", "flat"]


@dataclass
class ClassifierBackboneConfig:
    """Any timm network, without its classifier or with it."""

    name: str = "efficientnet_b0"  # as timm.list_models() has it; name.tag for certain pretrained weights
    pretrained: bool = False  # start from timm's weights, fetched from its hub
    keep_classifier: bool = (
        False  # the head reads the network's own outputs (1000 classes of ImageNet); only pooling.name=average
    )
    drop_rate: float | None = None  # on the pooled features, inside the network; null: the network's default
    drop_path_rate: float | None = (
        None  # how often the deepest block is left out (stochastic depth); null: the network's default
    )
    grad_checkpointing: bool = False  # recompute activations in the backward pass: less memory, equal gradients
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of timm.create_model: {img_size: 128}


@dataclass
class PoolingConfig:
    """Pooling of the feature map, or of tokens without class tokens, to one vector for an image."""

    # average: the network's own pooling (the mean of most networks, the class token of most vision transformers);
    # max; gem: the generalized mean with a trained exponent (Radenović et al. 2019), for features that are not negative;
    # attention: a weighted mean with trained weights (Ilse et al. 2018).
    name: PoolingName = "average"
    exponent: float = 3.0  # of gem before training: 1 is the mean, infinity the maximum
    hidden_dim: int = 128  # of attention: width from which the weight of a position is computed


@dataclass
class LabelHeadConfig:
    """Head: maps the pooled features to the logits of every label head."""

    # linear: a linear map for each label head; independent: a hidden layer and a linear map for each;
    # attention: the hidden layers of all, weighted by attention over them and joined, classify the joint class;
    # flat: one linear map to the joint classes, whose sums over the others are the classes of a label head.
    name: LabelHeadName = "linear"
    hidden_dim: int = 256  # of each branch of independent and attention
    drop_rate: float = 0.0  # on the pooled features and on hidden layers


@dataclass
class ClassifierConfig:
    """Classifier: backbone, pooling and head.

    Pixels enter the network as (value / 255 - pixel_mean) / pixel_std. The values of ImageNet, for most pretrained networks:
    [0.485, 0.456, 0.406] and [0.229, 0.224, 0.225].
    """

    in_channels: int = 3  # 1: gray; 3: color, or gray that is repeated
    pixel_mean: list[float] = field(default_factory=lambda: [0.5])  # of all channels, or one for each
    pixel_std: list[float] = field(default_factory=lambda: [0.5])  # of all channels, or one for each
    backbone: ClassifierBackboneConfig = field(default_factory=ClassifierBackboneConfig)
    pooling: PoolingConfig = field(default_factory=PoolingConfig)
    head: LabelHeadConfig = field(default_factory=LabelHeadConfig)
