"""Thin-plate spline rectifier of text lines.

Legend: B batch, C channels, H W height and width in pixels, K control points, G = n * m nodes of a grid over the unit
square, n m the size of the view from which control points are predicted. Coordinates are (x, y) from 0 to 1 over an image's
true area.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import RectifierConfig
from models.errors import ModelConfigError
from models.layers.padding import area_mask
from models.layers.precision import no_autocast

KEY = "model.rectifier"
HALVINGS = 4  # pools of the localization network
INITIAL_STD = 2e-5  # of its last weights: at exactly 0 no gradient would reach the layers before


class TpsRectifier(nn.Module):
    """Spatial transformer with a thin-plate spline (Jaderberg et al. 2015; Shi et al. 2018, ASTER).

    A small network predicts K points along the upper and the lower edge of the text; the image is resampled so that they move
    to its edges. Before training this is the identity, to within about a tenth of a pixel.

    Each image is rectified within its true area, with its border replicated beyond it; the padding stays unchanged. Everything
    is computed in single precision, also under autocast: half precision is too coarse for coordinates.
    """

    def __init__(self, config: RectifierConfig, in_channels: int) -> None:
        super().__init__()
        _check(config)
        self.size = (config.height, config.width)
        points = regular_points(config.control_points)
        nodes = grid_nodes(*self.size)
        self.localise = LocalizationNet(in_channels, config.height, config.width, config.control_points)
        self.register_buffer("nodes", nodes.float(), persistent=False)
        self.register_buffer("spline", spline_matrix(points, nodes).float(), persistent=False)

    nodes: Tensor
    spline: Tensor

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), true sizes (B, 2) in pixels or None, to rectified images of the same size."""
        batch, _, height, width = images.shape
        if sizes is None:
            sizes = torch.stack([torch.full((batch,), side, device=images.device) for side in (height, width)], 1)
        with no_autocast(images.device):
            pixels = images.float()
            shifts = self.localise(self._view(pixels, sizes))
            # The spline is linear in its points and the identity at the regular ones, so only the shifts are rounded.
            coords = (self.nodes + self.spline @ shifts).view(batch, *self.size, 2)
            rectified = sample(pixels, self._interpolate(coords, height, width, sizes), sizes)
        return torch.where(area_mask(sizes, height, width)[:, None], rectified.to(images.dtype), images)

    def _view(self, images: Tensor, sizes: Tensor) -> Tensor:
        """View (n, m) of the true area of each image; each value is the mean of four samples, to not miss thin strokes."""
        rows, columns = (2 * side for side in self.size)
        y, x = torch.meshgrid(_centers(rows, images), _centers(columns, images), indexing="ij")
        coords = torch.stack([x, y], -1).expand(len(images), -1, -1, -1)
        return F.avg_pool2d(sample(images, coords, sizes), 2)

    def _interpolate(self, coords: Tensor, height: int, width: int, sizes: Tensor) -> Tensor:
        """Interpolates coordinates (B, n, m, 2) at the nodes linearly to coordinates (B, H, W, 2) at the pixels.

        The spline is nearly linear between nodes: the error is a hundredth of a pixel on average and at most a pixel near
        scattered control points, and K logarithms for each pixel are saved.
        """
        y, x = (
            ((torch.arange(side, device=coords.device) + 0.5) / true[:, None]).clamp(max=1)
            for side, true in zip((height, width), sizes.unbind(1), strict=True)
        )
        at = torch.stack([x[:, None].expand(-1, height, -1), y[..., None].expand(-1, -1, width)], -1)
        # With align_corners the outermost nodes are at -1 and 1.
        return F.grid_sample(coords.permute(0, 3, 1, 2), 2 * at - 1, align_corners=True).permute(0, 2, 3, 1)


class LocalizationNet(nn.Sequential):
    """Localization network: views (B, C, n, m) to shifts (B, K, 2) of the control points, initially nearly 0."""

    def __init__(self, in_channels: int, height: int, width: int, points: int) -> None:
        widths = [in_channels, 16, 32, 64, 128]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        positions = (height >> HALVINGS) * (width >> HALVINGS)
        last = nn.Linear(128, 2 * points)
        nn.init.normal_(last.weight, std=INITIAL_STD)
        nn.init.zeros_(last.bias)
        layers += [nn.Flatten(), nn.Linear(widths[-1] * positions, 128), nn.ReLU(), last, nn.Unflatten(1, (points, 2))]
        super().__init__(*layers)


def regular_points(count: int) -> Tensor:
    """`count` points (K, 2) in double precision: half along the upper edge, half along the lower, from left to right."""
    x = torch.linspace(0, 1, count // 2, dtype=torch.float64)
    return torch.cat([torch.stack([x, torch.full_like(x, y)], 1) for y in (0.0, 1.0)])


def grid_nodes(height: int, width: int) -> Tensor:
    """Nodes (G, 2) of a grid whose outermost nodes lie on the edges, row by row, in double precision."""
    y, x = (torch.linspace(0, 1, side, dtype=torch.float64) for side in (height, width))
    return torch.cartesian_prod(y, x).flip(1)


def spline_matrix(points: Tensor, nodes: Tensor) -> Tensor:
    """Matrix (G, K) from control points to the images of `nodes` (G, 2) under the spline from `points` (K, 2) to them.

    The spline is f(p) = a + A p + sum_k w_k U(|p - p_k|) with U(r) = r² log r² through all control points, where the w_k
    neither shift nor tilt: sum w_k = sum w_k p_k = 0 (Bookstein 1989). This is linear in the control points.
    """
    count = len(points)
    ones = torch.ones(count, 1, dtype=points.dtype)
    plane = torch.cat([ones, points], 1)  # (K, 3)
    system = torch.zeros(count + 3, count + 3, dtype=points.dtype)
    system[:count, :count] = _radial(points, points)
    system[:count, count:] = plane
    system[count:, :count] = plane.T
    targets = torch.eye(count + 3, count, dtype=points.dtype)
    weights = torch.linalg.solve(system, targets)  # (K + 3, K)
    ones = torch.ones(len(nodes), 1, dtype=nodes.dtype)
    return torch.cat([_radial(nodes, points), ones, nodes], 1) @ weights


def sample(images: Tensor, coords: Tensor, sizes: Tensor) -> Tensor:
    """Samples images (B, C, H, W) of true `sizes` (B, 2) bilinearly at coordinates (B, h, w, 2), to (B, C, h, w).

    The border is replicated beyond the image and in the padding.
    """
    height, width = images.shape[-2:]
    # In pixels; the center of the first one is at 0.5.
    y, x = (
        torch.minimum((coords[..., axis] * true[:, None, None]).clamp(min=0.5), true[:, None, None] - 0.5)
        for axis, true in zip((1, 0), sizes.unbind(1), strict=True)
    )
    return F.grid_sample(images, torch.stack([2 * x / width - 1, 2 * y / height - 1], -1), align_corners=False)


def _radial(at: Tensor, points: Tensor) -> Tensor:
    squares = (at[:, None] - points[None]).square().sum(-1)
    return torch.xlogy(squares, squares)  # 0 at 0


def _centers(count: int, like: Tensor) -> Tensor:
    return (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / count


def _check(config: RectifierConfig) -> None:
    if config.control_points < 4 or config.control_points % 2:
        raise ModelConfigError(
            f"{KEY}.control_points", f"{config.control_points} must be an even number, 4 or more: half of them for each edge"
        )
    for side, pixels in (("height", config.height), ("width", config.width)):
        if pixels < 1 << HALVINGS:
            raise ModelConfigError(
                f"{KEY}.{side}", f"{pixels} is too small to predict control points; use at least {1 << HALVINGS}"
            )
