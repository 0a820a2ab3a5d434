"""Table of convolutions, all built from (in_channels, out_channels, kernel, padding, multiplier)."""

from collections.abc import Callable

from torch import nn

from models.config import Convolution

Size = tuple[int, int]


class SeparableConv(nn.Sequential):
    """Depthwise convolution, `multiplier` times per channel, then a 1x1 convolution across channels (Chollet 2017)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Size, padding: Size = (0, 0), multiplier: int = 1) -> None:
        inner = in_channels * multiplier
        super().__init__(
            nn.Conv2d(in_channels, inner, kernel, padding=padding, groups=in_channels), nn.Conv2d(inner, out_channels, 1)
        )


def standard_conv(in_channels: int, out_channels: int, kernel: Size, padding: Size = (0, 0), multiplier: int = 1) -> nn.Module:
    """Creates a convolution across all channels; `multiplier` is ignored."""
    return nn.Conv2d(in_channels, out_channels, kernel, padding=padding)


CONVOLUTIONS: dict[Convolution, Callable[..., nn.Module]] = {"standard": standard_conv, "separable": SeparableConv}
