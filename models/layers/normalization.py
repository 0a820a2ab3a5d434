"""The residual connections of a transformer layer: a norm before each branch, one after each sum, or a learned weight."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.config import NormPlacement


class PreNormResidual(nn.Module):
    """x + f(norm(x)) (Xiong et al. 2020): trains without a long warm-up."""

    def __init__(self, dim: int, sublayers: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(sublayers))

    def before(self, index: int, x: Tensor) -> Tensor:
        """What branch `index` sees."""
        return self.norms[index](x)

    def after(self, index: int, x: Tensor, branch: Tensor) -> Tensor:
        """The residual sum."""
        return x + branch


class PostNormResidual(nn.Module):
    """norm(x + f(x)) (Vaswani et al. 2017)."""

    def __init__(self, dim: int, sublayers: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(sublayers))

    def before(self, index: int, x: Tensor) -> Tensor:
        """What branch `index` sees."""
        return x

    def after(self, index: int, x: Tensor, branch: Tensor) -> Tensor:
        """The normalised residual sum."""
        return self.norms[index](x + branch)


class ReZeroResidual(nn.Module):
    """x + alpha * f(x) with one alpha, 0 at first, for all branches of the layer and no norm (Bachlechner et al. 2021)."""

    def __init__(self, dim: int, sublayers: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(()))

    def before(self, index: int, x: Tensor) -> Tensor:
        """What branch `index` sees."""
        return x

    def after(self, index: int, x: Tensor, branch: Tensor) -> Tensor:
        """The weighted residual sum."""
        return x + self.alpha * branch


# One module a layer, called with the index of the branch: built from the width and the number of branches.
Residual = PreNormResidual | PostNormResidual | ReZeroResidual
RESIDUALS: dict[NormPlacement, Callable[[int, int], Residual]] = {
    "pre": PreNormResidual,
    "post": PostNormResidual,
    "rezero": ReZeroResidual,
}


def _no_norm(dim: int) -> nn.Module:
    return nn.Identity()


# A stack of pre-norm layers leaves its sum unnormalised, so a last norm follows it.
FINAL_NORMS: dict[NormPlacement, Callable[[int], nn.Module]] = {"pre": nn.LayerNorm, "post": _no_norm, "rezero": _no_norm}


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
