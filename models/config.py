"""Configuration of a recognizer; the defaults are configs/model/satrn_small.yaml."""

from dataclasses import dataclass, field
from typing import Any, Literal

BackboneName = Literal["small_cnn", "timm", "densenet", "aster_cnn", "convnet6", "resnetv2", "swin"]
RectifierName = Literal["none", "tps"]
EncoderName = Literal["none", "bilstm", "transformer"]
DecoderName = Literal["none", "transformer", "rnn"]
CtcHeadName = Literal["none", "linear"]
CountingHeadName = Literal["none", "linear"]
StructureHeadName = Literal["none", "nesting"]

NormPlacement = Literal["pre", "post", "rezero"]
Activation = Literal["relu", "leaky_relu", "gelu"]
Initialization = Literal["default", "kaiming", "normal", "xavier"]

ConvNorm = Literal["batch", "instance", "layer"]
Convolution = Literal["standard", "separable"]
PoolingPlan = Literal["height_1", "height_4", "height_8", "height_8_of_128"]

EncoderAttention = Literal["standard", "residual"]
Projections = Literal["separate", "shared"]
AttentionScale = Literal["head", "width"]
FeedForwardKind = Literal["linear", "conv", "separable"]
PositionKind = Literal["none", "sinusoid_1d", "sinusoid_2d", "learned", "adaptive", "adaptive_whole"]
PositionProjection = Literal["none", "linear"]
SequenceNorm = Literal["none", "layer"]

CellName = Literal["lstm", "gru"]
StateNorm = Literal["none", "layer"]
DecoderPosition = Literal["sinusoid", "learned"]
DecoderFeedForward = Literal["linear", "gated"]
AttentionOutput = Literal["linear", "gated"]
CrossQuery = Literal["standard", "raw_self_attention", "target"]
Refinement = Literal["none", "coverage"]
Direction = Literal["forward", "both"]
Repulsion = Literal["none", "heads"]


@dataclass
class SmallCnnConfig:
    """Small convolutional backbone for CPUs: stages of width, 2 x width and 4 x width channels."""

    stride: int = 8  # pixels per feature: 8, or 4 for small symbols
    width: int = 24  # channels of the first stage; the next have two and four times as many
    depth: int = 1  # residual blocks in each of the last two stages


@dataclass
class TimmConfig:
    """Any timm network that gives feature maps, without its classifier."""

    name: str = "resnetrs152"  # as timm.list_models() has it
    pretrained: bool = False  # start from timm's weights, fetched from its hub
    stride: int | None = None  # pixels per feature: the network ends with the stage of that stride; None: the whole network
    neck_channels: int | None = None  # width of a 1x1 convolution before the projection to encoder.embed_dim; None: off
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of timm.create_model


@dataclass
class DenseNetConfig:
    """Densely connected blocks at strides 4, 8, ... after a 7x7 stem, as in formula recognizers."""

    stem_channels: int = 48  # channels after the 7x7 convolution
    blocks: int = 2  # the stride is 2 ** (blocks + 1)
    depth: int = 16  # bottlenecks in a block
    growth: int = 24  # channels that each bottleneck adds
    bottleneck: int = 72  # channels inside a bottleneck
    drop_rate: float = 0.2  # after each bottleneck


@dataclass
class AsterCnnConfig:
    """The convolutional stack of ASTER: seven convolutions, stride 4 in width and 16 in height."""

    activation: Activation = "relu"  # after each convolution


@dataclass
class ConvNet6Config:
    """Six convolutions for handwritten lines, stride 4 in width."""

    norm: ConvNorm = "instance"  # after each convolution
    convolution: Convolution = "standard"  # separable: depthwise, then 1x1
    multiplier: int = 1  # depthwise channels per input channel of a separable convolution
    pooling: PoolingPlan = "height_1"  # feature rows from a height of 64 pixels (of 128 for the last)
    gates: int = 0  # gated blocks after the convolutions, each 8 columns narrower than its input
    drop_rate: float = 0.15  # after the convolutions
    gate_drop_rate: float = 0.4  # inside the gated blocks


@dataclass
class ResNetV2Config:
    """Weight-standardized bottleneck stages with group norm, the stem of a hybrid ViT: stride 2 ** (stages + 1)."""

    depths: list[int] = field(default_factory=lambda: [2, 3, 7])  # bottlenecks of each stage


@dataclass
class SwinConfig:
    """A Swin transformer of timm, of any image size; stride 32."""

    name: str = "swin_large_patch4_window7_224"  # as timm.list_models('swin*') has it
    pretrained: bool = False  # start from timm's weights, fetched from its hub
    drop_path_rate: float = 0.1  # of the deepest block: how often it is left out (stochastic depth)
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of timm.create_model: embed_dim, depths, ...


@dataclass
class BackboneConfig:
    """Name of the backbone, and the settings of each."""

    name: BackboneName = "small_cnn"  # which of the sections below is used
    small_cnn: SmallCnnConfig = field(default_factory=SmallCnnConfig)
    timm: TimmConfig = field(default_factory=TimmConfig)
    densenet: DenseNetConfig = field(default_factory=DenseNetConfig)
    aster_cnn: AsterCnnConfig = field(default_factory=AsterCnnConfig)
    convnet6: ConvNet6Config = field(default_factory=ConvNet6Config)
    resnetv2: ResNetV2Config = field(default_factory=ResNetV2Config)
    swin: SwinConfig = field(default_factory=SwinConfig)


@dataclass
class RectifierConfig:
    """Rectifier of an image before the backbone: a thin-plate spline through predicted control points (ASTER)."""

    name: RectifierName = "none"  # tps: the image is straightened before the backbone
    control_points: int = 20  # half of them along the upper edge of the text, half along the lower
    height: int = 32  # in pixels, of the image from which control points are predicted
    width: int = 128  # of the same image


@dataclass
class BiLstmConfig:
    """Bidirectional LSTM over the positions, row by row."""

    hidden_dim: int = 256  # of each direction
    depth: int = 1  # layers
    norm: SequenceNorm = "none"  # of its output
    drop_rate: float = 0.0  # on its output


@dataclass
class EncoderConfig:
    """Encoder: position encoding, then a transformer, an LSTM or nothing over the positions of the feature map."""

    name: EncoderName = "transformer"  # what follows the position encoding; none: nothing
    embed_dim: int = 128  # width of the features that the backbone returns
    position: PositionKind = "sinusoid_2d"  # adaptive_whole: both gates weigh the whole table, as in a source system
    position_projection: PositionProjection = "linear"  # a learned map after each sinusoid table
    position_rows: int = 8  # of a learned table
    position_columns: int = 128  # of a learned table
    position_drop_rate: float = 0.0  # after the position encoding
    bilstm: BiLstmConfig = field(default_factory=BiLstmConfig)
    # The fields below are for the transformer.
    depth: int = 1
    num_heads: int = 4  # of the attention
    head_dim: int | None = None  # None: embed_dim / num_heads
    mlp_dim: int = 256  # width inside the feed-forward network
    class_token: bool = False  # an additional learned position before those of the map
    projections: Projections = "shared"  # queries, keys and values from one linear map or from three
    attention: EncoderAttention = "standard"  # residual: scores of a layer are added to those of the next (RealFormer)
    attention_scale: AttentionScale = "head"  # scores are divided by sqrt(head width) or by sqrt(width of all heads)
    feed_forward: FeedForwardKind = "linear"  # conv: 3x3 convolutions over the map (SATRN); separable: a depthwise one
    activation: Activation = "relu"  # of the feed-forward network
    norm: NormPlacement = "pre"  # layer norm before or after each part; rezero: none, a learned weight in its place
    drop_rate: float = 0.0  # on attention probabilities
    output_drop_rate: float = 0.0  # on attention outputs
    mlp_drop_rate: float = 0.0  # inside the feed-forward network
    init: Initialization = "xavier"  # of linear maps; default: that of PyTorch


@dataclass
class RnnConfig:
    """RNN decoder: additive attention (Bahdanau et al. 2015), then a recurrent cell."""

    cell: CellName = "lstm"  # LSTM or GRU
    hidden_dim: int = 256  # width of the states
    attention_dim: int = 256  # width inside the additive attention
    attention_bias: bool = True  # biases on all three maps of the attention; false: only on the query's
    state_norm: StateNorm = "none"  # layer: layer norm and dropout on the states after each step
    input_drop_rate: float = 0.0  # on the embedded token and the attended features
    state_drop_rate: float = 0.0  # only with state_norm: layer
    output_drop_rate: float = 0.0  # before the map to tokens


@dataclass
class DecoderConfig:
    """Autoregressive decoder: a transformer or an attention RNN. With `none`, only the CTC head decodes."""

    name: DecoderName = "transformer"  # none: the CTC head alone decodes
    direction: Direction = "forward"  # both: trained left to right and right to left, with shared weights
    embed_dim: int = 128  # width of the token embeddings, and of a transformer
    extra_embeddings: int = 0  # unused embedding rows beyond num_classes
    init: Initialization = "xavier"  # of linear maps and embeddings; default: that of PyTorch
    depth: int = 2  # layers, or stacked cells
    rnn: RnnConfig = field(default_factory=RnnConfig)
    # The fields below are for the transformer.
    num_heads: int = 4
    head_dim: int | None = None  # None: embed_dim / num_heads
    mlp_dim: int = 256  # width inside the feed-forward network
    position: DecoderPosition = "sinusoid"  # position encoding of the tokens
    max_positions: int = 512  # rows of a learned position table
    embedding_scale: bool = True  # embeddings are multiplied by sqrt(embed_dim)
    qkv_bias: bool = True  # biases on queries, keys and values
    attention_scale: AttentionScale = "head"  # scores are divided by sqrt(head width) or by sqrt(width of all heads)
    attention_output: AttentionOutput = "linear"  # gated: a gated linear unit (attention on attention, Huang et al. 2019)
    # What asks the memory. standard: the sum of the layer's input and its self-attention; the others: one of the two alone.
    cross_query: CrossQuery = "standard"
    refinement: Refinement = "none"  # coverage: past alignments refine the scores (CoMER)
    refinement_channels: int = 32  # of the convolution over past alignments
    feed_forward: DecoderFeedForward = "linear"  # gated: half of the expansion gates the other half (GEGLU)
    activation: Activation = "relu"  # of the feed-forward network
    norm: NormPlacement = "pre"  # layer norm before or after each part; rezero: none, a learned weight in its place
    drop_rate: float = 0.0  # on attention probabilities, attention outputs and the position encoding
    mlp_drop_rate: float = 0.1  # inside the feed-forward network


@dataclass
class CtcConfig:
    """CTC head: a linear map from the columns of the memory to tokens; `<bos>`, never part of a text, is its blank."""

    head: CtcHeadName = "none"  # linear: the head exists; beside a decoder its loss has the share loss.ctc_weight
    drop_rate: float = 0.0  # before the linear map


@dataclass
class CountingConfig:
    """Auxiliary counting head: predicts how often each token occurs in the image."""

    head: CountingHeadName = "none"  # linear: the head exists; its loss is added with loss.counting_weight
    drop_rate: float = 0.0  # before the linear map


@dataclass
class StructureConfig:
    """Auxiliary structure head: predicts the nesting level of each token in groups (the braces of LaTeX)."""

    head: StructureHeadName = "none"  # nesting: the head exists; its loss is added with loss.structure_weight
    max_level: int = 4  # levels are 0 to max_level; deeper ones count as max_level
    drop_rate: float = 0.0  # before the linear map


@dataclass
class ModelConfig:
    """Recognizer: (rectifier), backbone, encoder, decoder and CTC head, at least one of the last two.

    Pixels enter the network as (value / 255 - pixel_mean) / pixel_std.
    """

    in_channels: int = 1  # 1: gray; 3: color, or gray that is repeated
    pixel_mean: float = 1.0  # white paper becomes 0 ...
    pixel_std: float = -0.3  # ... and ink positive
    rectifier: RectifierConfig = field(default_factory=RectifierConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    ctc: CtcConfig = field(default_factory=CtcConfig)
    counting: CountingConfig = field(default_factory=CountingConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    repulsion: Repulsion = "none"  # heads: a term of the loss repels similar attention heads
