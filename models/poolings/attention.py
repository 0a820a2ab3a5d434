"""Pooling by attention over positions (Ilse et al. 2018, "Attention-based Deep Multiple Instance Learning").

Legend: B batch, C channels, h w height and width of the map, N = h * w positions.
"""

from torch import Tensor, nn

from models.classifier_config import PoolingConfig


class AttentionPooling(nn.Module):
    """Mean of all positions, weighted by the softmax of a score that a small network gives each of them."""

    def __init__(self, config: PoolingConfig, channels: int) -> None:
        super().__init__()
        # The last map has no bias: the same number added to every score would change nothing.
        self.score = nn.Sequential(
            nn.Linear(channels, config.hidden_dim), nn.Tanh(), nn.Linear(config.hidden_dim, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 1, 1)."""
        positions = features.flatten(2).transpose(1, 2)  # (B, N, C)
        weights = self.score(positions).softmax(1)
        return (positions * weights).sum(1)[..., None, None]
