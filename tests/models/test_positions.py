"""Position encodings against their formulas."""

import math

import pytest
import torch

from models.positions import AdaptivePosition2d, SinusoidPosition2d, sinusoid


@pytest.mark.parametrize("dim", [8, 64])
def test_sinusoid_formula(dim: int) -> None:
    table = sinusoid(9, dim)
    for position in (0, 1, 8):
        for column in range(dim):
            angle = position / 10000 ** (2 * (column // 2) / dim)
            expected = math.sin(angle) if column % 2 == 0 else math.cos(angle)
            assert table[position, column].item() == pytest.approx(expected, abs=1e-5)


def test_rows_and_columns_have_a_half_each() -> None:
    table = SinusoidPosition2d(16, 0.0).table(3, 5)
    assert table.shape == (16, 3, 5)
    rows, columns = table[:8], table[8:]
    assert torch.equal(rows, rows[:, :, :1].expand_as(rows))
    assert torch.equal(columns, columns[:, :1].expand_as(columns))
    assert rows[:, 0, 0].ne(rows[:, 1, 0]).any() and columns[:, 0, 0].ne(columns[:, 0, 1]).any()


def test_adaptive_gates_weigh_the_whole_table_by_the_image() -> None:
    torch.manual_seed(0)
    position = AdaptivePosition2d(16, 0.0)
    features = torch.randn(2, 16, 3, 5)
    mean = features.mean((2, 3))
    gates = position.gate_a(mean) + position.gate_b(mean)
    expected = features + gates[:, :, None, None] * position.table(3, 5)
    torch.testing.assert_close(position(features), expected)
    assert ((gates > 0) & (gates < 2)).all() and not torch.allclose(gates[0], gates[1])


def test_adaptive_gates_do_not_see_padding() -> None:
    torch.manual_seed(0)
    position = AdaptivePosition2d(16, 0.0)
    features = torch.randn(1, 16, 3, 5)
    mask = torch.tensor([True, True, False, False, False]).expand(1, 3, 5)
    alone = position(features[..., :2])
    torch.testing.assert_close(position(features, mask)[..., :2], alone)
