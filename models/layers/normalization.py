"""Residual connections of a transformer layer with their norms, and the normalization of pixels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.config import NormPlacement


class PreNormResidual(nn.Module):
    """Pre-norm residual, x + f(norm(x)) (Xiong et al. 2020), which trains without a long warm-up."""

    def __init__(self, dim: int, sublayers: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(sublayers))

    def before(self, index: int, x: Tensor) -> Tensor:
        """Input of branch `index`."""
        return self.norms[index](x)

    def after(self, index: int, x: Tensor, branch: Tensor) -> Tensor:
        """Residual sum."""
        return x + branch


class PostNormResidual(nn.Module):
    """Post-norm residual, norm(x + f(x)) (Vaswani et al. 2017)."""

    def __init__(self, dim: int, sublayers: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(sublayers))

    def before(self, index: int, x: Tensor) -> Tensor:
        """Input of branch `index`."""
        return x

    def after(self, index: int, x: Tensor, branch: Tensor) -> Tensor:
        """Normalized residual sum."""
        return self.norms[index](x + branch)


class ReZeroResidual(nn.Module):
    """ReZero residual, x + alpha * f(x), with one alpha per layer, initially 0, and no norm (Bachlechner et al. 2021)."""

    def __init__(self, dim: int, sublayers: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(()))

    def before(self, index: int, x: Tensor) -> Tensor:
        """Input of branch `index`."""
        return x

    def after(self, index: int, x: Tensor, branch: Tensor) -> Tensor:
        """Weighted residual sum."""
        return x + self.alpha * branch


# One module per layer, built from the width and the number of branches, called with the index of a branch.
Residual = PreNormResidual | PostNormResidual | ReZeroResidual
RESIDUALS: dict[NormPlacement, Callable[[int, int], Residual]] = {
    "pre": PreNormResidual,
    "post": PostNormResidual,
    "rezero": ReZeroResidual,
}


def _no_norm(dim: int) -> nn.Module:
    return nn.Identity()


# The sum of pre-norm layers is not normalized, so a final norm follows them.
FINAL_NORMS: dict[NormPlacement, Callable[[int], nn.Module]] = {"pre": nn.LayerNorm, "post": _no_norm, "rezero": _no_norm}


class PixelNormalize(nn.Module):
    """Normalization of uint8 pixels to (value / 255 - mean) / std in floating point; one mean and std, or one a channel."""

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        means, stds = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        self.register_buffer("scale", _by_channel(1.0 / (255.0 * stds)), persistent=False)
        self.register_buffer("shift", _by_channel(-means / stds), persistent=False)

    scale: Tensor
    shift: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, W) to the same shape, floating point."""
        return images.to(self.scale.dtype) * self.scale + self.shift


def _by_channel(values: Tensor) -> Tensor:
    """A number, or numbers (C,) as (C, 1, 1), in the default type."""
    return (values if values.dim() == 0 else values[:, None, None]).to(torch.get_default_dtype())
