"""Configuration of a recognizer. The defaults are the small configuration (configs/model/satrn_small.yaml)."""

from dataclasses import dataclass, field
from typing import Literal

BackboneName = Literal["small_cnn", "timm"]
EncoderName = Literal["satrn"]
DecoderName = Literal["transformer"]
NormPlacement = Literal["pre", "post"]
AttentionScale = Literal["head", "width"]
Initialization = Literal["default", "normal", "xavier"]
EncoderAttention = Literal["standard", "residual"]
FeedForwardKind = Literal["linear", "conv"]
PositionKind = Literal["sinusoid", "adaptive"]
CrossQuery = Literal["standard", "raw_self_attention", "target"]


@dataclass
class SmallCnnConfig:
    """The convolutional backbone for CPUs: stride 8, stages of width, 2 x width and 4 x width channels."""

    width: int = 24
    depth: int = 1  # residual blocks in each of the last two stages


@dataclass
class TimmConfig:
    """Any convolutional network of timm, headless, with its own stride."""

    name: str = "resnetrs152"
    pretrained: bool = False
    neck_channels: int | None = (
        None  # width of a 1x1 convolution before the projection to encoder.embed_dim; None: no such layer
    )


@dataclass
class BackboneConfig:
    """Which backbone, and the settings of each."""

    name: BackboneName = "small_cnn"
    small_cnn: SmallCnnConfig = field(default_factory=SmallCnnConfig)
    timm: TimmConfig = field(default_factory=TimmConfig)


@dataclass
class EncoderConfig:
    """Self-attention over the positions of the feature map."""

    name: EncoderName = "satrn"
    embed_dim: int = 128
    depth: int = 1
    num_heads: int = 4
    mlp_dim: int = 256
    feed_forward: FeedForwardKind = "linear"
    attention: EncoderAttention = "standard"  # residual: scores of a layer are added to those of the next (RealFormer)
    attention_scale: AttentionScale = "head"  # scores are divided by sqrt(head width) or sqrt(embed_dim)
    position: PositionKind = "sinusoid"
    norm: NormPlacement = "pre"
    drop_rate: float = 0.0  # on attention probabilities
    mlp_drop_rate: float = 0.0
    position_drop_rate: float = 0.0
    init: Initialization = "xavier"


@dataclass
class DecoderConfig:
    """Causal self-attention over the tokens, cross-attention to the memory."""

    name: DecoderName = "transformer"
    embed_dim: int = 128
    depth: int = 2
    num_heads: int = 4
    mlp_dim: int = 256
    attention_scale: AttentionScale = "head"
    cross_query: CrossQuery = "standard"
    norm: NormPlacement = "pre"
    drop_rate: float = 0.0  # on attention probabilities, attention outputs and the position encoding
    mlp_drop_rate: float = 0.1
    extra_embeddings: int = 0  # embedding rows beyond num_classes that no token uses
    init: Initialization = "xavier"


@dataclass
class ModelConfig:
    """A recognizer: backbone, encoder, decoder. Pixels enter the network as (value / 255 - pixel_mean) / pixel_std."""

    in_channels: int = 1
    pixel_mean: float = 1.0  # white paper becomes 0 ...
    pixel_std: float = -0.3  # ... and ink positive
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
