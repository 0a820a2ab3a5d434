"""Position encodings: fixed sinusoids in one and two dimensions.

Legend: B batch, D width, h w height and width of the feature map, T target positions.
"""

import torch
from torch import Tensor, nn

from models.config import PositionKind


def sinusoid(length: int, dim: int, device: torch.device | None = None) -> Tensor:
    """The table (length, dim) of "Attention Is All You Need" (Vaswani et al. 2017): even columns sine, odd columns cosine."""
    column = torch.arange(dim, device=device)
    frequency = 10000.0 ** (-2.0 * (column // 2) / dim)
    angle = torch.arange(length, device=device)[:, None] * frequency
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


class SinusoidPosition2d(nn.Module):
    """Adds row and column sinusoids, each half of the width and through a learned linear map (SATRN, Lee et al. 2020)."""

    def __init__(self, embed_dim: int, drop_rate: float) -> None:
        super().__init__()
        self.half_dim = embed_dim // 2
        self.rows = nn.Linear(self.half_dim, self.half_dim)
        self.columns = nn.Linear(self.half_dim, self.half_dim)
        self.drop = nn.Dropout(drop_rate)

    def table(self, height: int, width: int) -> Tensor:
        """The encoding of every position, (D, h, w): the row's half first, then the column's."""
        device = self.rows.weight.device
        rows = self.rows(sinusoid(height, self.half_dim, device))
        columns = self.columns(sinusoid(width, self.half_dim, device))
        rows = rows.t()[:, :, None].expand(-1, -1, width)
        columns = columns.t()[:, None, :].expand(-1, height, -1)
        return torch.cat([rows, columns])

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, D, h, w) to the same with positions. `mask` is not needed here."""
        return self.drop(features + self.table(*features.shape[-2:]))


class AdaptivePosition2d(SinusoidPosition2d):
    """The encoding weighted per image and channel by two gates computed from the mean feature (A2DPE of SATRN).

    Both gates weigh the whole table, as in the formula recognizer that this follows; the paper lets one gate weigh the
    rows' half and the other the columns'.
    """

    def __init__(self, embed_dim: int, drop_rate: float) -> None:
        super().__init__(embed_dim, drop_rate)
        self.gate_a = _gate(embed_dim)
        self.gate_b = _gate(embed_dim)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, D, h, w) to the same with positions; `mask` (B, h, w) leaves padding out of the mean."""
        pooled = _masked_mean(features, mask)
        gate = (self.gate_a(pooled) + self.gate_b(pooled))[:, :, None, None]
        return self.drop(features + gate * self.table(*features.shape[-2:]))


def _gate(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.Sigmoid())


def _masked_mean(features: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of (B, D, h, w) over the true positions of (B, h, w)."""
    if mask is None:
        return features.mean((2, 3))
    weight = mask[:, None].to(features.dtype)
    return (features * weight).sum((2, 3)) / weight.sum((2, 3))


POSITIONS: dict[PositionKind, type[SinusoidPosition2d]] = {
    "sinusoid_2d": SinusoidPosition2d,
    "adaptive_whole": AdaptivePosition2d,
}
