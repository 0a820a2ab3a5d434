"""The self-attention of encoders against its written-out definition."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models.config import EncoderConfig
from models.encoders.attention import ENCODER_ATTENTIONS, ResidualAttention, StandardAttention
from models.errors import ModelConfigError

DIM, HEADS = 12, 3
MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])[:, None, None]
WIDTHS = [{}, {"head_dim": 5}]
PROJECTIONS = ["shared", "separate"]


def configured(**settings: Any) -> EncoderConfig:
    """A tiny configuration."""
    return EncoderConfig(embed_dim=DIM, num_heads=HEADS, **settings)


def projected(attention: StandardAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, N, S, d) of `x` (B, S, D), by the layout that the names promise."""
    batch, length, _ = x.shape
    project: Any = attention.project
    if hasattr(project, "qkv"):  # head by head: query, key and value of head 0, then of head 1, ...
        query, keys, values = project.qkv(x).view(batch, length, HEADS, 3, -1).permute(3, 0, 2, 1, 4)
    else:
        maps = (project.query, project.key, project.value)
        query, keys, values = (linear(x).view(batch, length, HEADS, -1).transpose(1, 2) for linear in maps)
    return query, keys, values


@pytest.mark.parametrize("projections", PROJECTIONS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scale", ["head", "width"])
@pytest.mark.parametrize("kind", ["standard", "residual"])
def test_definition(projections: Any, width: dict[str, int], scale: Any, kind: Any) -> None:
    torch.manual_seed(0)
    config = configured(projections=projections, attention_scale=scale, attention=kind, **width)
    attention = ENCODER_ATTENTIONS[kind](config).eval()
    assert isinstance(attention, StandardAttention)
    head_dim = width.get("head_dim", DIM // HEADS)
    divisor = math.sqrt(head_dim if scale == "head" else head_dim * HEADS)
    x, earlier = torch.randn(2, 4, DIM), torch.randn(2, HEADS, 4, 4)
    query, keys, values = projected(attention, x)
    assert query.shape == (2, HEADS, 4, head_dim)
    scores_alone = (torch.einsum("bntd,bnsd->bnts", query, keys) / divisor).masked_fill(~MASK, -math.inf)
    for before in (None, earlier):
        # The scores of the layer before hold its mask.
        given = None if before is None or kind == "standard" else before.masked_fill(~MASK, -math.inf)
        expected_scores = scores_alone if given is None else scores_alone + given
        heads = torch.einsum("bnts,bnsd->btnd", expected_scores.softmax(-1), values).flatten(2)
        output, scores = attention(x, MASK, None if given is None else given.flatten(0, 1))
        torch.testing.assert_close(output, attention.out(heads), rtol=1e-5, atol=1e-6)
        if kind == "residual":
            torch.testing.assert_close(scores, expected_scores.flatten(0, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("projections", PROJECTIONS)
def test_gradients_of_summed_scores(projections: Any) -> None:
    """Scores that are added in place give the gradients of scores that are not."""
    torch.manual_seed(0)
    layers = [ResidualAttention(configured(projections=projections)) for _ in range(3)]
    inputs = [torch.randn(2, 4, DIM, requires_grad=True) for _ in layers]
    scores: Tensor | None = None
    total = torch.zeros(())
    for layer, x in zip(layers, inputs, strict=True):
        output, scores = layer(x, MASK, scores)
        total = total + output.square().sum()
    got = torch.autograd.grad(total, inputs)
    total, summed = torch.zeros(()), torch.zeros(2, HEADS, 4, 4)
    for layer, x in zip(layers, inputs, strict=True):
        query, keys, values = projected(layer, x)
        summed = summed + query @ keys.transpose(-2, -1) * layer.scale
        heads = summed.masked_fill(~MASK, -math.inf).softmax(-1) @ values
        total = total + layer.out(heads.transpose(1, 2).flatten(2)).square().sum()
    for found, expected in zip(got, torch.autograd.grad(total, inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", [None, MASK])
def test_first_residual_layer_equals_the_standard_one(mask: Tensor | None) -> None:
    torch.manual_seed(0)
    standard, residual = StandardAttention(configured()), ResidualAttention(configured())
    residual.load_state_dict(standard.state_dict())
    x = torch.randn(2, 4, DIM)
    torch.testing.assert_close(residual(x, mask, None)[0], standard(x, mask, None)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [StandardAttention, ResidualAttention])
@pytest.mark.parametrize("projections", PROJECTIONS)
def test_masked_positions_have_no_influence(kind: type[StandardAttention], projections: Any) -> None:
    torch.manual_seed(0)
    attention = kind(configured(projections=projections))
    x = torch.randn(2, 4, DIM)
    kept = MASK[:, 0, 0]
    disturbed = torch.where(kept[..., None], x, torch.randn(2, 4, DIM) * 5)
    torch.testing.assert_close(attention(x, MASK, None)[0][kept], attention(disturbed, MASK, None)[0][kept])


@pytest.mark.parametrize("kind", [StandardAttention, ResidualAttention])
@pytest.mark.parametrize("rates", [{"drop_rate": 0.5}, {"output_drop_rate": 0.5}])
def test_dropout_acts_in_training_only(kind: type[StandardAttention], rates: dict[str, float]) -> None:
    torch.manual_seed(0)
    attention = kind(configured(**rates)).train()
    x = torch.randn(2, 4, DIM)
    assert not torch.equal(attention(x, None, None)[0], attention(x, None, None)[0])
    attention.eval()
    assert torch.equal(attention(x, None, None)[0], attention(x, None, None)[0])


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({"embed_dim": 300, "num_heads": 8, "head_dim": 37, "projections": "separate"}, 356_388),
        ({"embed_dim": 256, "num_heads": 8, "projections": "shared"}, 263_168),
        ({"embed_dim": 256, "num_heads": 8, "projections": "separate"}, 263_168),
        ({"embed_dim": 256, "num_heads": 8, "projections": "shared", "attention": "residual"}, 263_168),
    ],
)
def test_parameters(settings: dict[str, Any], parameters: int) -> None:
    config = EncoderConfig(**settings)
    attention = ENCODER_ATTENTIONS[config.attention](config)
    assert sum(parameter.numel() for parameter in attention.parameters()) == parameters


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"num_heads": 5}, "model.encoder.embed_dim"),
        ({"num_heads": 0}, "model.encoder.embed_dim"),
        ({"num_heads": 3, "head_dim": 0}, "model.encoder.head_dim"),
        ({"num_heads": 3, "projections": "one"}, "model.encoder.projections"),
        ({"num_heads": 3, "attention_scale": "none"}, "model.encoder.attention_scale"),
    ],
)
def test_errors_name_the_key(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        StandardAttention(EncoderConfig(embed_dim=DIM, **settings))
    assert caught.value.key == key
