"""What every backbone is.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, h w height and width of the features.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.padding import area_mask, clamped, keep


class Backbone(nn.Module):
    """Images of any size, from 1x1 pixels, to features. A subclass has `features` and `cells_of`.

    `out_channels`: D; `min_size`: the smallest (H, W) that gives a feature; `key`: the config key that an error names.
    `masks_padding`: whether an image in a padded batch has the features that it has alone (in evaluation, as statistics of
    a training batch count the padding). Where it is False the padding is part of the picture, as paper beside the ink.
    """

    out_channels: int
    min_size: tuple[int, int]
    key: str
    masks_padding: bool = True

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Normalised images (B, C, H, W), true sizes (B, 2) in pixels or None, to features (B, D, h, w).

        An image lower or narrower than `min_size` is enlarged to it below and on the right: with 0, which is what a
        convolution sees beyond any border, or with its last row and column where padding counts as paper.
        """
        height, width = images.shape[-2:]
        down, right = max(self.min_size[0] - height, 0), max(self.min_size[1] - width, 0)
        if down or right:
            images = F.pad(images, (0, right, 0, down), "constant" if self.masks_padding else "replicate")
        if sizes is None or not self.masks_padding:
            return self.features(images, None)
        images = keep(images, area_mask(sizes, images.shape[-2], images.shape[-1]))
        return self.features(images, clamped(sizes, self.min_size))

    def cells(self, sizes: Tensor) -> Tensor:
        """The (rows, columns) of features that images of `sizes` (B, 2) in pixels have alone: int64 (B, 2), at least 1."""
        return self.cells_of(clamped(sizes, self.min_size)).clamp(min=1)

    def features(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """`forward` of images no smaller than `min_size`, 0 beyond their `sizes` where these are given."""
        raise NotImplementedError

    def cells_of(self, sizes: Tensor) -> Tensor:
        """`cells` of images no smaller than `min_size`."""
        raise NotImplementedError
