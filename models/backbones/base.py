"""The interface of backbones.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, h w height and width of the features.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.padding import area_mask, clamp_sizes, zero_padding


class Backbone(nn.Module):
    """Base class of modules from images of any size, 1x1 pixels or larger, to features.

    A subclass implements `features` and `_feature_sizes`.

    `out_channels`: D; `min_size`: the smallest (H, W) that gives a feature; `key`: the config key that an error names.
    `masks_padding`: whether an image has the same features in a padded batch as alone (in evaluation; statistics of a
    training batch include the padding). Where it is False, padding is part of the image, like paper beside the ink.
    """

    out_channels: int
    min_size: tuple[int, int]
    key: str
    masks_padding: bool = True

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Normalized images (B, C, H, W), true sizes (B, 2) in pixels or None, to features (B, D, h, w).

        An image smaller than `min_size` is padded to it at the bottom and the right: with 0, which is what a convolution sees
        beyond any border, or by replicating its last row and column where padding counts as paper.
        """
        height, width = images.shape[-2:]
        down, right = max(self.min_size[0] - height, 0), max(self.min_size[1] - width, 0)
        if down or right:
            images = F.pad(images, (0, right, 0, down), "constant" if self.masks_padding else "replicate")
        if sizes is None or not self.masks_padding:
            return self.features(images, None)
        images = zero_padding(images, area_mask(sizes, images.shape[-2], images.shape[-1]))
        return self.features(images, clamp_sizes(sizes, self.min_size))

    def feature_sizes(self, sizes: Tensor) -> Tensor:
        """The (rows, columns) of the features of single images of `sizes` (B, 2) in pixels: int64 (B, 2), at least 1."""
        return self._feature_sizes(clamp_sizes(sizes, self.min_size)).clamp(min=1)

    def features(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """`forward` for images no smaller than `min_size`, 0 beyond their `sizes` where these are given."""
        raise NotImplementedError

    def _feature_sizes(self, sizes: Tensor) -> Tensor:
        """`feature_sizes` of images no smaller than `min_size`."""
        raise NotImplementedError
