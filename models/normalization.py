"""Where a residual branch normalises: before it (pre-norm) or after the addition (post-norm)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.config import NormPlacement


class PreNormResidual(nn.Module):
    """x + f(norm(x)) (Xiong et al. 2020): trains without a long warm-up."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def before(self, x: Tensor) -> Tensor:
        """What the branch sees."""
        return self.norm(x)

    def after(self, x: Tensor, branch: Tensor) -> Tensor:
        """The residual sum."""
        return x + branch


class PostNormResidual(nn.Module):
    """norm(x + f(x)) (Vaswani et al. 2017)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def before(self, x: Tensor) -> Tensor:
        """What the branch sees."""
        return x

    def after(self, x: Tensor, branch: Tensor) -> Tensor:
        """The normalised residual sum."""
        return self.norm(x + branch)


Residual = PreNormResidual | PostNormResidual
RESIDUALS: dict[NormPlacement, type[PreNormResidual] | type[PostNormResidual]] = {
    "pre": PreNormResidual,
    "post": PostNormResidual,
}


def _no_norm(dim: int) -> nn.Module:
    return nn.Identity()


# A stack of pre-norm layers leaves its sum unnormalised, so a last norm follows it.
FINAL_NORMS: dict[NormPlacement, Callable[[int], nn.Module]] = {"pre": nn.LayerNorm, "post": _no_norm}


class PixelNormalize(nn.Module):
    """uint8 pixels to (value / 255 - mean) / std in floating point."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        scale = 1.0 / (255.0 * std)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.register_buffer("shift", torch.tensor(-mean / std), persistent=False)

    scale: Tensor
    shift: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, W) to the same shape, floating point."""
        return images.to(self.scale.dtype) * self.scale + self.shift
