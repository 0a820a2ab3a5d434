"""Repulsion of attention heads: their similarity, and its gradient."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.config import EncoderConfig
from models.encoders import build_encoder
from models.errors import ModelConfigError
from models.layers.attention import MultiHeadAttention
from models.layers.projections import SeparateProjections, SharedProjection
from models.layers.repulsion import REPULSIONS, check_repulsion, head_repulsion, kernel_similarity


def test_definition() -> None:
    torch.manual_seed(0)
    heads = torch.randn(4, 6)
    pairs = [(i, j) for i in range(4) for j in range(4) if i < j]
    squares = torch.stack([(heads[i] - heads[j]).square().sum() for i, j in pairs])
    orthogonal = torch.stack([heads[i].square().sum() + heads[j].square().sum() for i, j in pairs])
    expected = torch.exp(-squares * math.log(4) / orthogonal.median()).mean()
    torch.testing.assert_close(kernel_similarity(heads), expected)


@pytest.mark.parametrize("heads", [2, 3, 8])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_extremes(heads: int, scale: float) -> None:
    assert kernel_similarity(scale * torch.ones(heads, 9)).item() == 1
    assert kernel_similarity(scale * (torch.ones(heads, 9) + 1e-3 * torch.randn(heads, 9))).item() == pytest.approx(1, abs=1e-3)
    assert kernel_similarity(scale * torch.eye(9)[:heads]).item() == pytest.approx(1 / heads)
    opposed = torch.eye(9)[:1].repeat(2, 1) * torch.tensor([[1.0], [-1.0]])
    assert 0 <= kernel_similarity(scale * opposed).item() < 0.5


def test_heads_at_random_are_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    assert kernel_similarity(torch.randn(8, 4000)).item() == pytest.approx(1 / 8, abs=0.005)


@pytest.mark.parametrize("count", [2, 4])
def test_descending_it_drives_near_heads_apart(count: int) -> None:
    torch.manual_seed(0)
    heads = torch.randn(count, 20)
    heads[1] = heads[0] + 0.1 * torch.randn(20)
    heads.requires_grad_()
    optimizer = torch.optim.SGD([heads], 5.0)
    values, distances = [], []
    for _ in range(40):
        value = kernel_similarity(heads)
        values.append(value.item())
        distances.append((heads[0] - heads[1]).norm().item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert values[-1] < values[0] - 0.1 and values == sorted(values, reverse=True)
    assert distances[-1] > 5 * distances[0] and distances == sorted(distances)


def test_equal_heads_give_a_finite_gradient() -> None:
    heads = torch.ones(3, 4, requires_grad=True)
    kernel_similarity(heads).backward()
    assert heads.grad is not None and heads.grad.isfinite().all()


@pytest.mark.parametrize("kind", [SharedProjection, SeparateProjections])
def test_rows_of_a_head_make_its_queries_keys_and_values(kind: Any) -> None:
    """Disturbing one row of the head parameters changes that head alone."""
    torch.manual_seed(0)
    project, x = kind(6, 3, 2), torch.randn(1, 4, 6)
    before = project(x)
    rows = project.head_parameters()
    assert rows.shape == (3, 3 * 2 * 6)
    (rows[1] * 0.5).sum().backward()
    with torch.no_grad():
        for parameter in project.parameters():
            if parameter.grad is not None:
                parameter += parameter.grad
    for old, new in zip(before, project(x), strict=True):
        changed = (old != new).any(-1).any(-1)[0]
        assert changed.tolist() == [False, True, False]


def equal_heads(linear: nn.Linear, heads: int) -> None:
    """Makes all heads of a map equal to its first."""
    with torch.no_grad():
        rows = linear.weight.unflatten(0, (heads, -1))
        rows.copy_(rows[:1].clone().expand_as(rows))


@pytest.mark.parametrize("projections", ["shared", "separate"])
def test_mean_over_the_attentions_of_a_model(projections: Any) -> None:
    torch.manual_seed(0)
    encoder: Any = build_encoder(EncoderConfig(embed_dim=16, num_heads=4, mlp_dim=8, depth=3, projections=projections))
    decoder = MultiHeadAttention(16, 12, 4, 4, 0.5, 0.0)
    model = nn.ModuleList([encoder, decoder])
    parts = [kernel_similarity(layer.attention.project.head_parameters()) for layer in encoder.layers]
    maps = (decoder.query, decoder.key, decoder.value)
    heads = [torch.cat([m.weight[4 * h : 4 * h + 4].flatten() for m in maps]) for h in range(4)]
    parts.append(kernel_similarity(torch.stack(heads)))
    value = head_repulsion(model)
    torch.testing.assert_close(value, torch.stack(parts).mean())
    assert 0 < value.item() < 1
    value.backward()
    for linear in maps:
        assert linear.weight.grad is not None and linear.weight.grad.abs().sum() > 0
        equal_heads(linear, 4)
    assert head_repulsion(decoder).item() == 1


def test_nothing_to_repel() -> None:
    one_head = build_encoder(EncoderConfig(embed_dim=16, num_heads=1, mlp_dim=8))
    for model in (nn.Linear(2, 2), one_head):
        with pytest.raises(ModelConfigError, match=r"model\.repulsion: "):
            check_repulsion("heads", model)
        check_repulsion("none", model)
    with pytest.raises(ModelConfigError, match=r"model\.repulsion: 'all' is not one of heads, none"):
        check_repulsion("all", one_head)  # type: ignore[arg-type]


def test_off_is_nothing_and_half_precision_is_finite() -> None:
    encoder = build_encoder(EncoderConfig(embed_dim=16, num_heads=4, mlp_dim=8))
    assert REPULSIONS["none"](encoder) is None
    exact = head_repulsion(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        value: Tensor = head_repulsion(encoder)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact)
