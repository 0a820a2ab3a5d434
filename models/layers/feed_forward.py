"""Feed-forward networks of a transformer encoder layer.

Legend: B batch, S positions, D width, F width inside, h w height and width of the feature map (S = h * w).
"""

from collections.abc import Callable

from torch import Tensor, nn

from models.config import FeedForwardKind
from models.layers.padding import zero_padding


class LinearFeedForward(nn.Sequential):
    """Two linear maps with an activation between, over the last dimension."""

    def __init__(self, embed_dim: int, mlp_dim: int, drop_rate: float, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__(
            nn.Linear(embed_dim, mlp_dim),
            activation(),
            nn.Dropout(drop_rate),
            nn.Linear(mlp_dim, embed_dim),
            nn.Dropout(drop_rate),
        )


class LinearMapFeedForward(nn.Module):
    """`LinearFeedForward` applied at every position of a feature map."""

    def __init__(self, embed_dim: int, mlp_dim: int, drop_rate: float, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = LinearFeedForward(embed_dim, mlp_dim, drop_rate, activation)

    def forward(self, x: Tensor, size: tuple[int, int], mask: Tensor | None) -> Tensor:
        """(B, S, D) to (B, S, D); the map's size (h, w) and its mask (B, h, w) are not needed."""
        return self.layers(x)


class ConvMapFeedForward(nn.Module):
    """Two 3x3 convolutions over the feature map: locality inside the transformer layer (SATRN, Lee et al. 2020)."""

    def __init__(self, embed_dim: int, mlp_dim: int, drop_rate: float, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(embed_dim, mlp_dim, 3, padding=1), activation(), nn.Dropout(drop_rate))
        self.project = nn.Sequential(nn.Conv2d(mlp_dim, embed_dim, 3, padding=1), nn.Dropout(drop_rate))

    def forward(self, x: Tensor, size: tuple[int, int], mask: Tensor | None) -> Tensor:
        """(B, S, D), map size (h, w), `mask` (B, h, w) of true positions to (B, S, D)."""
        x = as_map(x, size)
        return as_positions(self.project(zero_padding(self.expand(zero_padding(x, mask)), mask)))


class SeparableMapFeedForward(nn.Module):
    """Depthwise 3x3 convolution between two linear maps (SATRN's separable variant).

    The linear maps are the 1x1 convolutions of the paper.
    """

    def __init__(self, embed_dim: int, mlp_dim: int, drop_rate: float, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Linear(embed_dim, mlp_dim), activation(), nn.Dropout(drop_rate))
        self.depthwise = nn.Conv2d(mlp_dim, mlp_dim, 3, padding=1, groups=mlp_dim)
        self.project = nn.Sequential(activation(), nn.Dropout(drop_rate), nn.Linear(mlp_dim, embed_dim), nn.Dropout(drop_rate))

    def forward(self, x: Tensor, size: tuple[int, int], mask: Tensor | None) -> Tensor:
        """(B, S, D), map size (h, w), `mask` (B, h, w) of true positions to (B, S, D)."""
        x = as_map(self.expand(x), size)
        return self.project(as_positions(self.depthwise(zero_padding(x, mask))))


def as_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, S, D) to (B, D, h, w) without a copy, in the channels-last layout, which convolutions accept."""
    return x.transpose(1, 2).unflatten(2, size)


def as_positions(x: Tensor) -> Tensor:
    """(B, D, h, w) to (B, S, D), row by row."""
    return x.flatten(2).transpose(1, 2)


ENCODER_FEED_FORWARDS: dict[FeedForwardKind, Callable[[int, int, float, Callable[[], nn.Module]], nn.Module]] = {
    "linear": LinearMapFeedForward,
    "conv": ConvMapFeedForward,
    "separable": SeparableMapFeedForward,
}

# Feed-forward networks that see the neighbors of a position, so every position must be on the feature map.
SPATIAL_FEED_FORWARDS: frozenset[FeedForwardKind] = frozenset({"conv", "separable"})
