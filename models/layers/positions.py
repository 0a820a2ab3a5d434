"""Position encodings of a feature map: sinusoids in one or two dimensions, adaptively weighted, or learned.

Legend: B batch, D width, h w height and width of the feature map.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.checks import lookup
from models.config import EncoderConfig, PositionKind, PositionProjection
from models.errors import ModelConfigError

KEY = "model.encoder"


def sinusoid(length: int, dim: int, like: Tensor | None = None) -> Tensor:
    """Sinusoid table (length, dim) of "Attention Is All You Need" (Vaswani et al. 2017): even columns sine, odd columns cosine.

    Device and type are those of the tensor `like`.
    """
    device, dtype = (None, torch.get_default_dtype()) if like is None else (like.device, like.dtype)
    column = torch.arange(dim, device=device)
    frequency = 10000.0 ** (-2.0 * (column // 2) / dim)
    angle = torch.arange(length, device=device)[:, None] * frequency
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).to(dtype)


def _identity(dim: int) -> nn.Module:
    return nn.Identity()


def _linear(dim: int) -> nn.Module:
    return nn.Linear(dim, dim)


POSITION_PROJECTIONS: dict[PositionProjection, Callable[[int], nn.Module]] = {"none": _identity, "linear": _linear}


def _projection(config: EncoderConfig, dim: int) -> nn.Module:
    """Projection of a sinusoid table of width `dim`."""
    return lookup(POSITION_PROJECTIONS, config.position_projection, f"{KEY}.position_projection")(dim)


class NoPosition(nn.Module):
    """No position encoding, only dropout."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.drop = nn.Dropout(config.position_drop_rate)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, D, h, w) to the same shape; `mask` is not needed."""
        return self.drop(features)


class SinusoidPosition1d(nn.Module):
    """Adds sinusoids of the columns, the same in all rows."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dim = config.embed_dim
        self.columns = _projection(config, self.dim)
        self.drop = nn.Dropout(config.position_drop_rate)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, D, h, w) to the same with positions; `mask` is not needed."""
        columns = self.columns(sinusoid(features.shape[-1], self.dim, features))
        return self.drop(features + columns.t()[:, None])


class SinusoidPosition2d(nn.Module):
    """Adds row and column sinusoids, each half of the width and with its own projection (SATRN, Lee et al. 2020)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.embed_dim % 2:
            raise ModelConfigError(f"{KEY}.embed_dim", f"{config.embed_dim} is odd; rows and columns take half each")
        self.half_dim = config.embed_dim // 2
        self.rows = _projection(config, self.half_dim)
        self.columns = _projection(config, self.half_dim)
        self.drop = nn.Dropout(config.position_drop_rate)

    def table(self, height: int, width: int, like: Tensor | None = None) -> Tensor:
        """Encoding of every position, (D, h, w): the row's half first, then the column's."""
        # Computed in each pass, so that a map may have any size: a fraction of a millisecond.
        rows = self.rows(sinusoid(height, self.half_dim, like)).t()[:, :, None].expand(-1, -1, width)
        columns = self.columns(sinusoid(width, self.half_dim, like)).t()[:, None].expand(-1, height, -1)
        return torch.cat([rows, columns])

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, D, h, w) to the same with positions; `mask` is not needed."""
        height, width = features.shape[-2:]
        return self.drop(features + self.table(height, width, features))


class WeightedPosition2d(SinusoidPosition2d):
    """Base class of 2D sinusoids weighted per image and channel by gates of the mean feature."""

    def weights(self, mean: Tensor) -> Tensor:
        """Mean features (B, D) to weights (B, D)."""
        raise NotImplementedError

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, D, h, w) to the same with positions; `mask` (B, h, w) excludes padding from the mean."""
        weights = self.weights(_masked_mean(features, mask))[:, :, None, None]
        height, width = features.shape[-2:]
        return self.drop(features + weights * self.table(height, width, features))


class AdaptivePosition2d(WeightedPosition2d):
    """Adaptive 2D encoding (A2DPE of SATRN): one gate weighs the half of the rows, another that of the columns."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.gate_rows = _gate(config.embed_dim, self.half_dim)
        self.gate_columns = _gate(config.embed_dim, self.half_dim)

    def weights(self, mean: Tensor) -> Tensor:
        """Mean features (B, D) to weights (B, D)."""
        return torch.cat([self.gate_rows(mean), self.gate_columns(mean)], 1)


class AdaptiveWholePosition2d(WeightedPosition2d):
    """Adaptive 2D encoding of a source system: both gates weigh the whole table."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.gate_a = _gate(config.embed_dim, config.embed_dim)
        self.gate_b = _gate(config.embed_dim, config.embed_dim)

    def weights(self, mean: Tensor) -> Tensor:
        """Mean features (B, D) to weights (B, D)."""
        return self.gate_a(mean) + self.gate_b(mean)


class LearnedPosition(nn.Module):
    """Adds a learned table (h, w, D), cut to the map's size (ViT, Dosovitskiy et al. 2021, in two dimensions)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(config.position_rows, config.position_columns, config.embed_dim))
        nn.init.normal_(self.table, std=0.02)
        self.drop = nn.Dropout(config.position_drop_rate)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, D, h, w) to the same with positions; `mask` is not needed."""
        height, width = features.shape[-2:]
        for size, capacity, name in zip((height, width), self.table.shape[:2], ("rows", "columns"), strict=True):
            if size > capacity:
                raise ModelConfigError(
                    f"{KEY}.position_{name}",
                    f"a learned table of {capacity} {name} is too small for a feature map of {height}x{width} (h x w); make it "
                    f"{size} or more and train again, use smaller images, or a sinusoid, which has no limit",
                )
        return self.drop(features + self.table[:height, :width].permute(2, 0, 1))


def _gate(dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out_dim), nn.Sigmoid())


def _masked_mean(features: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of (B, D, h, w) over the true positions of (B, h, w)."""
    if mask is None:
        return features.mean((2, 3))
    weight = mask[:, None].to(features.dtype)
    return (features * weight).sum((2, 3)) / weight.sum((2, 3))


POSITIONS: dict[PositionKind, Callable[[EncoderConfig], nn.Module]] = {
    "none": NoPosition,
    "sinusoid_1d": SinusoidPosition1d,
    "sinusoid_2d": SinusoidPosition2d,
    "learned": LearnedPosition,
    "adaptive": AdaptivePosition2d,
    "adaptive_whole": AdaptiveWholePosition2d,
}


def build_position(config: EncoderConfig) -> nn.Module:
    """Builds the configured encoding, from features (B, D, h, w) and a mask (B, h, w) or None to features with positions."""
    return lookup(POSITIONS, config.position, f"{KEY}.position")(config)
