"""The instance norm is its written-out definition, forward and backward, over the true positions of a map."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.backbones.instance_norm import InstanceNorm, standardize
from models.layers.padding import area_mask

EPSILON = 1e-5


def definition(x: Tensor) -> Tensor:
    return (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + EPSILON)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 2), (3, 2, 7, 1), (8, 32, 16, 64)])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.01, 3.0), (1e-5, 0.0), (100.0, -50.0)])
def test_is_its_definition(shape: tuple[int, ...], scale: float, shift: float) -> None:
    x = noise(*shape, dtype=torch.float64) * scale + shift
    torch.testing.assert_close(standardize(x), definition(x))
    single = x.float()
    torch.testing.assert_close(standardize(single), definition(single.double()).float(), rtol=1e-3, atol=1e-3)


def test_it_is_not_torchs() -> None:
    x = noise(1, 1, 2, 3)
    assert not torch.allclose(standardize(x), torch.nn.functional.instance_norm(x), atol=1e-2)


def corners(columns: list[int] | None, height: int, width: int) -> Tensor | None:
    """Masks of maps, each one row lower than the one before, and so many columns wide."""
    if columns is None:
        return None
    sizes = [(max(height - row, 1), count) for row, count in enumerate(columns)]
    return area_mask(torch.tensor(sizes), height, width)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 12)), min_size=1, max_size=4),
    filler=st.sampled_from([0.0, -7.0, 255.0]),
)
@settings(max_examples=60, deadline=None)
def test_true_positions_alone_count(sizes: list[tuple[int, int]], filler: float) -> None:
    x = noise(len(sizes), 3, 4, 12, dtype=torch.float64)
    mask = area_mask(torch.tensor(sizes), 4, 12)
    x = x.masked_fill(~mask[:, None], filler)
    result = standardize(x, mask)
    for row, (height, width) in enumerate(sizes):
        alone = x[row : row + 1, :, :height, :width]
        expected = definition(alone) if height * width > 1 else torch.zeros_like(alone)
        torch.testing.assert_close(result[row : row + 1, :, :height, :width], expected)
    assert result.masked_fill(mask[:, None], 0.0).count_nonzero() == 0


@pytest.mark.parametrize("widths", [None, [5, 2, 1], [5, 5, 5]])
@pytest.mark.parametrize("height", [1, 4])
def test_gradient(widths: list[int] | None, height: int) -> None:
    x = noise(3, 2, height, 5, dtype=torch.float64).requires_grad_()
    mask = corners(widths, height, 5)
    if height == 1 and widths is not None:  # a map of one position is constant 0, its neighbourhood too
        assert torch.autograd.grad(standardize(x, mask).sum(), x)[0].isfinite().all()
    assert torch.autograd.gradcheck(lambda value: standardize(value, mask), (x,))


@pytest.mark.parametrize("widths", [None, [6, 3]])
def test_gradient_in_single_precision_and_another_layout(widths: list[int] | None) -> None:
    mask = corners(widths, 4, 6)
    x, grad = noise(2, 5, 4, 6) + 2, noise(2, 5, 4, 6, seed=1)
    results = []
    for value, outer in [
        (x.double(), grad.double()),
        (x, grad),
        (x.to(memory_format=torch.channels_last), grad.to(memory_format=torch.channels_last)),
    ]:
        value = value.detach().requires_grad_()
        results.append(torch.autograd.grad(standardize(value, mask), value, outer)[0].double())
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3, 64, 48)])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -300.3])
@pytest.mark.parametrize("masked", [False, True])
def test_constant_maps_come_out_as_zero(shape: tuple[int, ...], value: float, masked: bool) -> None:
    x = torch.full(shape, value, requires_grad=True)
    mask = corners([shape[3], max(shape[3] // 2, 1)], *shape[2:]) if masked else None
    result = standardize(x, mask)
    assert result.count_nonzero() == 0
    gradient = torch.autograd.grad(result, x, noise(*shape))[0]
    assert gradient.count_nonzero() == 0


def test_no_true_position_is_no_nan() -> None:
    x = noise(2, 3, 4, 5).requires_grad_()
    result = standardize(x, corners([0, 5], 4, 5))
    assert result[0].count_nonzero() == 0
    assert torch.autograd.grad(result.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("widths", [None, [16, 9]])
def test_half_precision(dtype: torch.dtype, widths: list[int] | None) -> None:
    mask = corners(widths, 8, 16)
    x = (noise(2, 3, 8, 16) * 300).to(dtype).requires_grad_()  # squares beyond float16
    with torch.autocast("cpu", dtype):
        result = InstanceNorm(3)(x, mask)
    assert result.dtype == dtype
    torch.testing.assert_close(result.float(), standardize(x.float(), mask), rtol=1e-2, atol=1e-2)
    grad = torch.autograd.grad(result, x, noise(2, 3, 8, 16, seed=1).to(dtype))[0]
    assert grad.dtype == dtype and grad.isfinite().all() and grad.count_nonzero() > 0


def test_it_keeps_one_map_for_the_backward_pass() -> None:
    kept: list[Tensor] = []
    x = noise(2, 3, 8, 16).requires_grad_()

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = standardize(x)
    assert [tensor.data_ptr() for tensor in kept if tensor.numel() == x.numel()] == [result.data_ptr()]
