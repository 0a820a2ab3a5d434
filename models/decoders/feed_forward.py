"""Feed-forward networks of a decoder layer.

Legend: B batch, T target positions, D width, F hidden width.
"""

from collections.abc import Callable

from torch import Tensor, nn

from models.config import DecoderFeedForward
from models.layers.feed_forward import LinearFeedForward


class GatedFeedForward(nn.Module):
    """Gated feed-forward network: half of the expansion gates the other half through the activation (GEGLU, Shazeer 2020)."""

    def __init__(self, embed_dim: int, mlp_dim: int, drop_rate: float, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.expand = nn.Linear(embed_dim, 2 * mlp_dim)
        self.activation = activation()
        self.drop = nn.Dropout(drop_rate)
        self.project = nn.Linear(mlp_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D), through (B, T, F)."""
        value, gate = self.expand(x).chunk(2, dim=-1)
        return self.project(self.drop(value * self.activation(gate)))


FEED_FORWARDS: dict[DecoderFeedForward, type[LinearFeedForward] | type[GatedFeedForward]] = {
    "linear": LinearFeedForward,
    "gated": GatedFeedForward,
}
