"""The thin-plate spline rectifier: what it leaves alone, what it learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import RectifierConfig
from models.errors import ModelConfigError
from models.rectifiers import build_rectifier
from models.rectifiers.tps import TpsRectifier, grid_nodes, regular_points, sample, spline_matrix

SMALL = RectifierConfig("tps", control_points=10, height=16, width=48)


def rectifier(config: RectifierConfig = SMALL, in_channels: int = 1) -> TpsRectifier:
    torch.manual_seed(0)
    built = build_rectifier(config, in_channels)
    assert isinstance(built, TpsRectifier)
    return built


def lines(batch: int, height: int = 32, width: int = 96) -> Tensor:
    """Ink of soft strokes between a quarter and three quarters of the height: 0 is paper."""
    generator = torch.Generator().manual_seed(batch)
    strokes = (torch.rand(batch, 1, 4, width // 3, generator=generator) < 0.5).float()
    strokes = F.interpolate(strokes, (height // 2, width - width // 6), mode="bilinear")
    return F.pad(strokes, (width // 12, width // 12, height // 4, height // 4))


def moved(module: TpsRectifier) -> TpsRectifier:
    """The same with control points that depend on the image."""
    last = module.localise[-2]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.normal_(last.weight, std=0.02)
    return module


@pytest.mark.parametrize("points", [4, 6, 20])
def test_spline_through_its_points_and_planes(points: int) -> None:
    regular = regular_points(points)
    assert regular.tolist()[:: points - 1] == [[0, 0], [1, 1]]
    target = regular + 0.1 * torch.rand(points, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(spline_matrix(regular, regular) @ target, target)
    nodes = grid_nodes(5, 9)
    matrix = spline_matrix(regular, nodes)
    tilt, shift = torch.tensor([[0.9, 0.2], [-0.1, 1.1]], dtype=torch.float64), torch.tensor([0.1, -0.3], dtype=torch.float64)
    torch.testing.assert_close(matrix @ (regular @ tilt + shift), nodes @ tilt + shift)


def test_spline_is_the_written_out_sum() -> None:
    regular, nodes = regular_points(6), grid_nodes(3, 4)
    target = regular + torch.tensor([[0.0, 0.1 * (-1) ** k] for k in range(6)], dtype=torch.float64)
    found = spline_matrix(regular, nodes) @ target

    def radial(p: Tensor, q: Tensor) -> float:
        r = float((p - q).norm())
        return r * r * math.log(r) if r else 0.0

    rows = [[radial(p, q) for q in regular] + [1.0, *p.tolist()] for p in regular]
    rows += [[1.0] * 6 + [0.0] * 3, *([*regular[:, axis].tolist(), 0.0, 0.0, 0.0] for axis in (0, 1))]
    weights = torch.linalg.solve(torch.tensor(rows, dtype=torch.float64), torch.cat([target, torch.zeros(3, 2).double()]))
    for node, point in zip(nodes, found, strict=True):
        basis = torch.tensor([radial(node, q) for q in regular] + [1.0, *node.tolist()], dtype=torch.float64)
        torch.testing.assert_close(basis @ weights, point)


def test_sample_at_the_pixels_gives_the_image() -> None:
    images = torch.rand(2, 3, 4, 6)
    y, x = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(6) + 0.5) / 6, indexing="ij")
    coords = torch.stack([x, y], -1).expand(2, -1, -1, -1)
    torch.testing.assert_close(sample(images, coords, torch.tensor([[4, 6], [4, 6]])), images)
    corner = sample(images, coords[:, :2, :3] * 2, torch.tensor([[2, 3], [2, 3]]))  # the upper left quarter
    torch.testing.assert_close(corner, images[:, :, :2, :3])
    beyond = sample(images, coords + 5, torch.tensor([[2, 4], [4, 6]]))
    torch.testing.assert_close(
        beyond, torch.stack([images[0, :, 1, 3], images[1, :, -1, 5]])[:, :, None, None].expand_as(images)
    )


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("mode", [True, False])
def test_starts_as_the_identity(in_channels: int, mode: bool) -> None:
    module = rectifier(RectifierConfig("tps"), in_channels).train(mode)
    images = lines(4, 64, 256).expand(-1, in_channels, -1, -1)
    rectified = module(images, torch.tensor([[64, 256], [50, 200], [64, 31], [2, 3]]))
    assert rectified.shape == images.shape
    assert (rectified - images).abs().max() < 0.05  # of strokes whose edges rise by up to 0.5 in a pixel
    assert (rectified - images).abs().mean() < 1e-3
    torch.nn.init.zeros_(module.localise[-2].weight)  # type: ignore[arg-type]
    torch.testing.assert_close(module(images), images, rtol=0, atol=1e-4)


def test_every_parameter_gets_a_gradient() -> None:
    module = rectifier()
    F.mse_loss(module(lines(4)), lines(5)[:4]).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_padded_batch_equals_members_alone() -> None:
    module = moved(rectifier()).eval()
    sizes = [(32, 96), (21, 60), (32, 17), (1, 1)]
    images = torch.rand(4, 1, 32, 96)
    with torch.inference_mode():
        together = module(images, torch.tensor(sizes))
        assert (together - images)[..., :1].abs().max() > 1e-3
        for row, (height, width) in enumerate(sizes):
            alone = module(images[row : row + 1, :, :height, :width])
            torch.testing.assert_close(together[row, :, :height, :width], alone[0], rtol=1e-4, atol=1e-4)
            assert torch.equal(together[row, ..., width:], images[row, ..., width:])
            assert torch.equal(together[row, :, height:], images[row, :, height:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_single_precision_under_autocast(dtype: torch.dtype) -> None:
    module, images = moved(rectifier()).eval(), lines(2)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(module(images), module(images.float()))
        found = module(images)
    assert torch.equal(found, module(images))
    assert module(images.to(dtype)).dtype == dtype


def test_learns_to_undo_a_warp() -> None:
    torch.manual_seed(0)
    rectified = lines(16)
    y, x = torch.meshgrid((torch.arange(32) + 0.5) / 32, (torch.arange(96) + 0.5) / 96, indexing="ij")
    # Waves of either sign: what undoes one makes the other worse, so the coords must come from the image.
    signs = torch.tensor([1.0, -1.0] * 8)[:, None, None]
    coords = torch.stack([x.expand(16, -1, -1), y + signs * 0.15 * torch.sin(2 * math.pi * x)], -1)
    warped = sample(rectified, coords, torch.tensor([[32, 96]]).expand(16, -1))
    module = rectifier()
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        loss = F.mse_loss(module(warped), rectified)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(F.mse_loss(warped, rectified).item(), rel=0.05)
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("control_points", 5, r"model\.rectifier\.control_points: 5 must be an even number"),
        ("control_points", 2, r"model\.rectifier\.control_points: 2 must be .* 4 or more"),
        ("height", 15, r"model\.rectifier\.height: 15 is too small"),
        ("width", 8, r"model\.rectifier\.width: 8 is too small"),
        ("name", "affine", r"model\.rectifier\.name: 'affine' is not one of none, tps"),
    ],
)
def test_bad_settings(field: str, value: int | str, message: str) -> None:
    with pytest.raises(ModelConfigError, match=message):
        build_rectifier(RectifierConfig(**{"name": "tps", field: value}), 1)  # type: ignore[arg-type]
