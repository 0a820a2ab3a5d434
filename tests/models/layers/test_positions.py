"""Position encodings against their formulas."""

import math
from typing import Any

import pytest
import torch

from models.config import EncoderConfig
from models.errors import ModelConfigError
from models.layers.positions import AdaptivePosition2d, AdaptiveWholePosition2d, SinusoidPosition2d, build_position, sinusoid


def configured(**settings: Any) -> EncoderConfig:
    """A tiny configuration."""
    return EncoderConfig(**{"embed_dim": 16, "position_rows": 4, "position_columns": 6, **settings})


@pytest.mark.parametrize("dim", [8, 64])
def test_sinusoid_formula(dim: int) -> None:
    table = sinusoid(9, dim)
    for position in (0, 1, 8):
        for column in range(dim):
            angle = position / 10000 ** (2 * (column // 2) / dim)
            expected = math.sin(angle) if column % 2 == 0 else math.cos(angle)
            assert table[position, column].item() == pytest.approx(expected, abs=1e-5)


def test_none_changes_nothing() -> None:
    features = torch.randn(2, 16, 3, 5)
    position = build_position(configured(position="none"))
    assert torch.equal(position(features), features)
    assert not list(position.parameters())


@pytest.mark.parametrize("dim", [16, 15])
def test_one_dimension_is_the_column_for_all_rows(dim: int) -> None:
    features = torch.randn(2, dim, 3, 700)
    config = configured(embed_dim=dim, position="sinusoid_1d", position_projection="none")
    added = build_position(config)(features) - features
    expected = sinusoid(700, dim).t()[None, :, None].expand_as(features)
    torch.testing.assert_close(added, expected, rtol=1e-4, atol=1e-5)


def test_projection_of_the_whole_table_in_one_dimension() -> None:
    position: Any = build_position(configured(position="sinusoid_1d"))
    features = torch.zeros(1, 16, 3, 5)
    expected = position.columns(sinusoid(5, 16)).t()[None, :, None].expand_as(features)
    torch.testing.assert_close(position(features), expected)


@pytest.mark.parametrize("projection", ["none", "linear"])
def test_rows_and_columns_have_a_half_each(projection: Any) -> None:
    position = SinusoidPosition2d(configured(position_projection=projection))
    table = position.table(3, 5)
    assert table.shape == (16, 3, 5)
    for row in range(3):
        for column in range(5):
            expected = torch.cat([position.rows(sinusoid(3, 8)[row]), position.columns(sinusoid(5, 8)[column])])
            torch.testing.assert_close(table[:, row, column], expected)


def test_adaptive_gates_weigh_a_half_each_by_the_image() -> None:
    torch.manual_seed(0)
    position = AdaptivePosition2d(configured())
    features = torch.randn(2, 16, 3, 5)
    table, mean = position.table(3, 5), features.mean((2, 3))
    rows, columns = position.gate_rows(mean), position.gate_columns(mean)
    expected = features.clone()
    for image in range(2):
        for channel in range(8):
            expected[image, channel] += rows[image, channel] * table[channel]
            expected[image, 8 + channel] += columns[image, channel] * table[8 + channel]
    torch.testing.assert_close(position(features), expected)
    assert ((rows > 0) & (rows < 1)).all() and not torch.allclose(rows[0], rows[1])


def test_adaptive_whole_gates_weigh_the_whole_table_by_the_image() -> None:
    torch.manual_seed(0)
    position = AdaptiveWholePosition2d(configured())
    features = torch.randn(2, 16, 3, 5)
    mean = features.mean((2, 3))
    gates = position.gate_a(mean) + position.gate_b(mean)
    expected = features + gates[:, :, None, None] * position.table(3, 5)
    torch.testing.assert_close(position(features), expected)
    assert ((gates > 0) & (gates < 2)).all() and not torch.allclose(gates[0], gates[1])


@pytest.mark.parametrize("kind", [AdaptivePosition2d, AdaptiveWholePosition2d])
def test_adaptive_gates_do_not_see_padding(kind: type[SinusoidPosition2d]) -> None:
    torch.manual_seed(0)
    position = kind(configured())
    features = torch.randn(1, 16, 3, 5)
    mask = torch.tensor([True, True, False, False, False]).expand(1, 3, 5)
    alone = position(features[..., :2])
    torch.testing.assert_close(position(features, mask)[..., :2], alone)


def test_learned_table_is_cut_to_the_map() -> None:
    torch.manual_seed(0)
    position: Any = build_position(configured(position="learned"))
    assert position.table.std().item() == pytest.approx(0.02, rel=0.2)
    features = torch.randn(2, 16, 3, 5)
    expected = features.clone()
    for row in range(3):
        for column in range(5):
            expected[:, :, row, column] += position.table[row, column]
    torch.testing.assert_close(position(features), expected)
    assert position(torch.randn(1, 16, 4, 6)).shape == (1, 16, 4, 6)


@pytest.mark.parametrize(("size", "name"), [((5, 6), "rows"), ((4, 7), "columns")])
def test_map_larger_than_the_learned_table(size: tuple[int, int], name: str) -> None:
    position = build_position(configured(position="learned"))
    with pytest.raises(ModelConfigError, match=rf"model\.encoder\.position_{name}: .*too small .*{size[0]}x{size[1]}"):
        position(torch.randn(1, 16, *size))


def test_halves_need_an_even_width() -> None:
    with pytest.raises(ModelConfigError, match=r"model\.encoder\.embed_dim: 15 is odd"):
        build_position(configured(embed_dim=15))


@pytest.mark.parametrize("kind", ["none", "sinusoid_1d", "sinusoid_2d", "learned", "adaptive", "adaptive_whole"])
def test_dropout(kind: Any) -> None:
    position = build_position(configured(position=kind, position_drop_rate=0.5)).train()
    features = torch.ones(1, 16, 3, 5)
    assert position(features).eq(0).any() and not position.eval()(features).eq(0).any()


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({"position": "none"}, 0),
        ({"position": "learned", "position_rows": 8, "position_columns": 32}, 65_536),
        ({"position": "sinusoid_1d"}, 256 * 257),
        ({"position": "sinusoid_1d", "position_projection": "none"}, 0),
        ({"position": "sinusoid_2d"}, 2 * 16_512),
        ({"position": "sinusoid_2d", "embed_dim": 300}, 45_300),
        ({"position": "sinusoid_2d", "position_projection": "none"}, 0),
        ({"position": "adaptive_whole"}, 296_192),
        ({"position": "adaptive_whole", "position_projection": "none", "embed_dim": 300}, 361_200),
        ({"position": "adaptive", "position_projection": "none"}, 2 * (256 * 257 + 128 * 257)),
    ],
)
def test_parameters(settings: dict[str, Any], parameters: int) -> None:
    position = build_position(configured(**{"embed_dim": 256, **settings}))
    assert sum(parameter.numel() for parameter in position.parameters()) == parameters
