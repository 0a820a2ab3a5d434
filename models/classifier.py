"""The classifier: a network from images to labels.

Legend: B batch, C channels, H W height and width in pixels, D width of the pooled features, K classes of a label head.
"""

import copy

from torch import Tensor, nn

from models.backbones.timm_classifier import TimmClassifierBackbone
from models.checks import check_at_least, check_pixels
from models.classifier_config import ClassifierConfig
from models.inputs import check_images
from models.label_heads import build_label_head, check_label_head
from models.layers.normalization import PixelNormalize
from models.poolings import build_pooling, check_pooling
from models.types import ClassifierOutput, LabelSpec

KEY = "classifier"


class Classifier(nn.Module):
    """Network backbone → pooling → head, with logits for every label head and, where the spec has one, for the joint class."""

    def __init__(self, config: ClassifierConfig, spec: LabelSpec) -> None:
        super().__init__()
        check_at_least(1, config.in_channels, f"{KEY}.in_channels")
        check_pixels(config.pixel_mean, config.pixel_std, config.in_channels, KEY)
        check_pooling(config.pooling)
        check_label_head(config.head, spec)
        self.spec = spec
        self.in_channels = config.in_channels
        self.normalize = PixelNormalize(config.pixel_mean, config.pixel_std)
        self.backbone = TimmClassifierBackbone(config.backbone, config.in_channels, config.pooling.name == "average")
        self.pooling = build_pooling(config.pooling, self.backbone.net.num_features)
        self.head = build_label_head(config.head, self.backbone.out_dim, spec)

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> ClassifierOutput:
        """Logits of images uint8 (B, C, H, W).

        `sizes` int64 (B, 2), the true (height, width) of images in a padded batch, are checked and not used: padding is part
        of an image. Use batches of images of one size where results must not depend on the other images of a batch.

        Raises:
            ModelConfigError: images that this model cannot take.
        """
        output: ClassifierOutput = self.head(self.embed(images, sizes))
        return output

    def embed(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Pooled features (B, D) of images uint8 (B, C, H, W), which the head reads.

        Raises:
            ModelConfigError: images that this model cannot take.
        """
        check_images(images, sizes, self.in_channels, KEY)
        pixels = self.normalize(images.expand(-1, self.in_channels, -1, -1))  # a gray image serves all channels
        try:
            return self.backbone.finish(self.pooling(self.backbone(pixels)))
        except Exception as error:  # timm's networks raise errors of many classes for a size that they do not take
            explained = self.backbone.size_error(pixels, error)
            if explained is None:
                raise
            raise explained from error

    @property
    def joint_is_learned(self) -> bool:
        """Whether joint logits have parameters of their own, so that a loss on them makes sense, or follow from the heads."""
        return self.head.joint_is_learned

    @property
    def feature_layer(self) -> nn.Module | None:
        """Module whose output is the last feature map (B, F, h, w), for Grad-CAM (Selvaraju et al. 2017).

        None for networks that compute tokens, which have no such map.
        """
        return self.backbone.to_map if self.backbone.has_map else None

    def checkpoint_gradients(self) -> int:
        """Recompute the activations of the backbone's blocks in the backward pass, as timm does it; returns how many parts.

        Raises:
            ModelConfigError: the network cannot.
        """
        self.backbone.checkpoint_gradients()
        return 1

    def fuse(self) -> "Classifier":
        """Copy for prediction whose parallel convolutions and norms are one convolution (RepVGG, Ding et al. 2021).

        In evaluation mode, with the same outputs up to rounding and other names of parameters: load weights before. A network
        without such parts is only copied.
        """
        from timm.utils.model import reparameterize_model

        fused = copy.deepcopy(self).eval().requires_grad_(False)
        fused.backbone.net = reparameterize_model(fused.backbone.net, inplace=True)
        return fused


def build_classifier(config: ClassifierConfig, spec: LabelSpec) -> Classifier:
    """Builds the classifier of a configuration. Raises ModelConfigError naming the config key that is invalid."""
    return Classifier(config, spec)
