"""A Swin transformer as a backbone.

Legend: B batch, C channels, H W height and width in pixels, F channels of the last stage, D width of the encoder,
h w = H W / 32 rounded up.
"""

from typing import Any

from torch import Tensor, nn

from models.backbones.base import Backbone
from models.backbones.canvas import Multiple
from models.backbones.timm_networks import create_network, refuse_taken, unknown_name
from models.checks import check_numbers
from models.config import SwinConfig
from models.layers.padding import divided_up

PATCH = 4
STRIDE = 32


class SwinBackbone(Backbone):
    """The stages of a Swin transformer (Liu et al. 2021), then a linear map and a layer norm.

    Windows shift at every stage, however small the map: it has no size of its own, so no stage is one window for all
    images. Attention within a window sees padding as paper: batch images of one size where results must not depend on the
    company that an image keeps.
    """

    key = "model.backbone.swin"
    masks_padding = False
    min_size = (STRIDE, STRIDE)

    def __init__(self, config: SwinConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        import timm  # here, not above: it takes a second, and the small configuration does without

        check_numbers(config, self.key)
        known = timm.list_models(module="swin_transformer")
        if config.name.split(".")[0] not in known:  # what follows a dot names pretrained weights
            raise unknown_name(self.key, config.name, known, "Swin transformer")
        ours = {"strict_img_size": False, "always_partition": True, "drop_path_rate": config.drop_path_rate}
        refuse_taken(self.key, config.options, ours)
        self.net: Any = create_network(self.key, config.name, in_channels, config.pretrained, {**config.options, **ours})
        # A source system has no norm in these places; the layer norm behind the linear map does the work of the last.
        self.net.patch_embed.norm = nn.Identity()
        self.net.norm = nn.Identity()
        self.canvas = Multiple(PATCH, PATCH)
        self.project = nn.Sequential(nn.Linear(self.net.num_features, out_channels), nn.LayerNorm(out_channels))
        self.out_channels = out_channels

    def features(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """Images (B, C, H, W) to features (B, D, h, w)."""
        features = self.net.forward_features(self.canvas(images))  # (B, h, w, F)
        return self.project(features).permute(0, 3, 1, 2)

    def cells_of(self, sizes: Tensor) -> Tensor:
        """A cell for every 32x32 pixels, the last ones may be fewer."""
        return divided_up(sizes, self.min_size)
