"""The position-wise half of a transformer layer.

Legend: B batch, S positions, D width, h w height and width of the feature map (S = h * w).
"""

from torch import Tensor, nn

from models.config import FeedForwardKind
from models.padding import keep


class LinearFeedForward(nn.Sequential):
    """Two linear maps with ReLU between, over the last dimension."""

    def __init__(self, embed_dim: int, mlp_dim: int, drop_rate: float) -> None:
        super().__init__(
            nn.Linear(embed_dim, mlp_dim),
            nn.ReLU(),
            nn.Dropout(drop_rate),
            nn.Linear(mlp_dim, embed_dim),
            nn.Dropout(drop_rate),
        )


class LinearMapFeedForward(nn.Module):
    """`LinearFeedForward` at every position of a feature map."""

    def __init__(self, embed_dim: int, mlp_dim: int, drop_rate: float) -> None:
        super().__init__()
        self.layers = LinearFeedForward(embed_dim, mlp_dim, drop_rate)

    def forward(self, x: Tensor, size: tuple[int, int], mask: Tensor | None) -> Tensor:
        """(B, S, D) to (B, S, D); neither the map's size (h, w) nor its mask (B, h, w) matters here."""
        return self.layers(x)


class ConvMapFeedForward(nn.Module):
    """Two 3x3 convolutions over the feature map: locality inside the transformer layer (SATRN, Lee et al. 2020)."""

    def __init__(self, embed_dim: int, mlp_dim: int, drop_rate: float) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(embed_dim, mlp_dim, 3, padding=1), nn.ReLU(), nn.Dropout(drop_rate))
        self.project = nn.Sequential(nn.Conv2d(mlp_dim, embed_dim, 3, padding=1), nn.Dropout(drop_rate))

    def forward(self, x: Tensor, size: tuple[int, int], mask: Tensor | None) -> Tensor:
        """(B, S, D), map size (h, w), `mask` (B, h, w) of true positions to (B, S, D)."""
        x = x.transpose(1, 2).unflatten(2, size)
        x = self.project(keep(self.expand(keep(x, mask)), mask))
        return x.flatten(2).transpose(1, 2)


ENCODER_FEED_FORWARDS: dict[FeedForwardKind, type[LinearMapFeedForward] | type[ConvMapFeedForward]] = {
    "linear": LinearMapFeedForward,
    "conv": ConvMapFeedForward,
}
