"""Rectifiers, from normalized images (B, C, H, W) and true sizes (B, 2) to images of the same size.

Each is built from (RectifierConfig, in_channels).
"""

from collections.abc import Callable

from torch import Tensor, nn

from models.checks import check_numbers, lookup
from models.config import RectifierConfig, RectifierName
from models.rectifiers.tps import TpsRectifier


class NoRectifier(nn.Module):
    """Placeholder of a rectifier that is off."""

    def __init__(self, config: RectifierConfig, in_channels: int) -> None:
        super().__init__()

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The images unchanged."""
        return images


RECTIFIERS: dict[RectifierName, Callable[[RectifierConfig, int], nn.Module]] = {"none": NoRectifier, "tps": TpsRectifier}


def build_rectifier(config: RectifierConfig, in_channels: int) -> nn.Module:
    """Builds the configured rectifier."""
    check_numbers(config, "model.rectifier")
    return lookup(RECTIFIERS, config.name, "model.rectifier.name")(config, in_channels)
