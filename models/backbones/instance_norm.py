"""Instance normalization of a handwriting recognizer: (x - mean) / (std + 1e-5) over each map.

Legend: B batch, C channels, H W height and width of a map, n true positions of a map.

It differs from `nn.InstanceNorm2d` (Ulyanov et al. 2016): the deviation is unbiased, and epsilon is added to it rather than
to the variance under the root.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.layers.precision import no_autocast

EPSILON = 1e-5
# A map whose deviation is below this many rounding errors of its mean counts as constant: the rest is noise.
ROUNDINGS = 16
# Epsilon under the root of a variance that may be 0, negligible beside EPSILON.
TINY = 1e-20


class InstanceNorm(nn.Module):
    """Normalization of each map of each image over its true positions, without weights or running statistics.

    A constant map, or a map of one position, becomes 0 and has no gradient.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) and the mask (B, H, W) of true positions, or None, to (B, C, H, W), with padding set to 0."""
        return standardize(x, mask)

    def extra_repr(self) -> str:
        """The number of channels, for the printed model."""
        return str(self.channels)


def standardize(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Computes (x - mean) / (std + 1e-5) of (B, C, H, W) over the positions where the mask (B, H, W) is True."""
    return _Standardize.apply(x, mask)


class _Standardize(torch.autograd.Function):
    """Autograd function that saves only its output.

    With s = std + eps, y = (x - mean) / s and G = sum(g * y), the gradient of x is (g - mean(g)) / s - y * G / ((n - 1) * std).
    PyTorch's backward of batch normalization computes w * i * (g - mean(g) - z * i^2 * sum(g * z) / N) of an input z of mean
    0, a weight w and an inverse deviation i in one pass: z = y, i^2 = N * s / ((n - 1) * std) and w = 1 / (s * i) give the
    gradient above. It treats the maps of a batch as the channels of one image.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor | None) -> Tensor:
        batch, channels, height, width = x.shape
        size = height * width  # N
        with no_autocast(x.device):
            wide = x.contiguous().to(torch.promote_types(x.dtype, torch.float32))
            true = None if mask is None else mask[:, None].to(wide.dtype)  # (B, 1, H, W)
            count, shift = size, 0.0  # n, and the mean already subtracted
            if true is not None:  # padding becomes the mean, which is then 0
                count = _at_least_one(_total(true))
                wide = wide * true
                shift = _total(wide) / count
                wide.addcmul_(shift, true, value=-1)
            # With a group per channel: mean, deviation and (x - mean) / deviation from one call, in a third of the time of
            # `var_mean`. It divides by the deviation over all N, without epsilon; `factor` corrects that.
            y, mean, inverse = torch.native_group_norm(wide, None, None, batch, channels, size, channels, TINY)
            mean, inverse = mean.view(batch, channels, 1, 1), inverse.view(batch, channels, 1, 1)
            freedom = _at_least_one(count - 1)
            std = (freedom / size) ** -0.5 / inverse
            varies = std > ROUNDINGS * torch.finfo(wide.dtype).eps * (mean + shift).abs() + TINY**0.5 * size
            scale = torch.where(varies, 1 / (std + EPSILON), 0)
            factor = scale / inverse
            y = y.mul_(factor)
            y = (y if true is None else y.mul_(true)).to(x.dtype)
            # 1 / i^2 above; not `sqrt` of tensors, which starts a thread pool for a handful of numbers.
            ratio = torch.where(varies, std * scale * freedom / size, 1)
            root = ratio.rsqrt()
        ctx.save_for_backward(y, mask, scale * ratio * root, root)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        y, mask, weight, inverse = ctx.saved_tensors
        batch, channels, height, width = y.shape
        maps = (1, batch * channels, height, width)
        with no_autocast(y.device):
            grad = grad.contiguous()
            if mask is not None:  # mean 0 over the true positions and 0 beyond, so that the kernel subtracts no mean
                true = mask[:, None].to(weight.dtype)
                wide = grad.to(weight.dtype) * true
                grad = wide.addcmul_(_total(wide) / _at_least_one(_total(true)), true, value=-1).to(y.dtype)
            result = torch.ops.aten.native_batch_norm_backward(
                grad.view(maps),
                y.view(maps),
                weight.view(-1),
                None,
                None,
                torch.zeros_like(inverse).view(-1),
                inverse.view(-1),
                True,  # the statistics depend on the input
                0.0,  # epsilon, which is in `inverse`
                [True, False, False],
            )
        return result[0].view(y.shape), None


def _total(x: Tensor) -> Tensor:
    """Sums (B, C, 1, 1) over the positions of (B, C, H, W)."""
    return x.sum((2, 3), keepdim=True)


def _at_least_one(count: Any) -> Any:
    """A number or a tensor, clamped to at least 1."""
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)
