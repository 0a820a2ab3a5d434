"""Conversion of the features of timm networks to maps, and of pooled maps back.

Legend: B batch, C channels, h w height and width of the feature map, N positions, P class tokens and other prefix tokens.
"""

from typing import Any, NamedTuple

from torch import Tensor, nn


class Layout(NamedTuple):
    """Modules from features of a network to a map (B, C, h, w) and from there back to what its own head reads.

    `has_map`: whether the map has the height and width of the image's.
    """

    to_map: nn.Module
    restore: nn.Module
    has_map: bool


class Permute(nn.Module):
    """Reordering of dimensions."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """A view of `x`."""
        return x.permute(self.order)


class TokensToMap(nn.Module):
    """Tokens (B, P + N, C) to a map (B, C, N, 1), without the `prefix` P."""

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, tokens: Tensor) -> Tensor:
        """A view of `tokens`."""
        return tokens[:, self.prefix :].transpose(1, 2)[..., None]


class MapToTokens(nn.Module):
    """Map (B, C, N, 1) to tokens (B, N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """A view of `x`."""
        return x[..., 0].transpose(1, 2)


def find_layout(net: Any, features: Any, pools_inside: bool) -> Layout | None:
    """Layout of the `features` of a network; None if they are neither a map nor tokens.

    `pools_inside`: the network pools them, and then any features will do.
    """
    shape = tuple(features.shape) if isinstance(features, Tensor) else ()
    channels = net.num_features
    if len(shape) == 4 and shape[1] == channels and getattr(net, "output_fmt", "NCHW") == "NCHW":
        return Layout(nn.Identity(), nn.Identity(), has_map=True)
    if len(shape) == 4 and shape[3] == channels:
        return Layout(Permute(0, 3, 1, 2), Permute(0, 2, 3, 1), has_map=True)
    if pools_inside:
        return Layout(nn.Identity(), nn.Identity(), has_map=False)
    if len(shape) == 3 and shape[2] == channels:
        return Layout(TokensToMap(getattr(net, "num_prefix_tokens", 0)), MapToTokens(), has_map=False)
    return None
