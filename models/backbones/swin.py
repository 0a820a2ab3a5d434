"""Swin transformer backbone.

Legend: B batch, C channels, H W height and width in pixels, F channels of the last stage, D width of the encoder,
h w = H W / 32 rounded up.
"""

from typing import Any

from torch import Tensor, nn

from models.backbones.base import Backbone
from models.backbones.input_padding import PadToMultiple
from models.backbones.timm_networks import check_reserved, create_network, unknown_name_error
from models.checks import check_numbers
from models.config import SwinConfig
from models.layers.padding import ceil_divide

PATCH = 4
STRIDE = 32


class SwinBackbone(Backbone):
    """Stages of a Swin transformer (Liu et al. 2021), then a linear map and a layer norm.

    Windows shift at every stage, however small the map, because the network has no fixed image size. Attention within a
    window sees padding as paper: use batches of images of one size where results must not depend on the other images of a
    batch.
    """

    key = "model.backbone.swin"
    masks_padding = False
    min_size = (STRIDE, STRIDE)

    def __init__(self, config: SwinConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        import timm  # imported here: it takes a second, and the small configuration does not need it

        check_numbers(config, self.key)
        known = timm.list_models(module="swin_transformer")
        if config.name.split(".")[0] not in known:  # the part after a dot names pretrained weights
            raise unknown_name_error(self.key, config.name, known, "Swin transformer")
        fixed = {"strict_img_size": False, "always_partition": True, "drop_path_rate": config.drop_path_rate}
        check_reserved(self.key, config.options, fixed)
        self.net: Any = create_network(self.key, config.name, in_channels, config.pretrained, {**config.options, **fixed})
        # As in a source system: no norm here; the layer norm after the linear map takes the role of the last.
        self.net.patch_embed.norm = nn.Identity()
        self.net.norm = nn.Identity()
        self.input_padding = PadToMultiple(PATCH, PATCH)
        self.project = nn.Sequential(nn.Linear(self.net.num_features, out_channels), nn.LayerNorm(out_channels))
        self.out_channels = out_channels

    def features(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """Images (B, C, H, W) to features (B, D, h, w)."""
        features = self.net.forward_features(self.input_padding(images))  # (B, h, w, F)
        return self.project(features).permute(0, 3, 1, 2)

    def _feature_sizes(self, sizes: Tensor) -> Tensor:
        """Sizes divided by the stride, rounded up."""
        return ceil_divide(sizes, self.min_size)
