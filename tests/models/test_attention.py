"""The attention arithmetic against its written-out definition."""

import math

import pytest
import torch
from torch import nn

from models.attention import MultiHeadAttention, ResidualAttention, SharedProjectionAttention, attention_scale
from models.config import AttentionScale

DIM, HEADS = 12, 3
MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])[:, None, None]


def divisor(scale: AttentionScale) -> float:
    """What scores are divided by."""
    return math.sqrt({"head": DIM // HEADS, "width": DIM}[scale])


@pytest.mark.parametrize("scale", ["head", "width"])
def test_cross_attention_is_the_definition(scale: AttentionScale) -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(DIM, 5, HEADS, attention_scale(scale, DIM, HEADS, "decoder"), 0.0).eval()
    query, source = torch.randn(2, 3, DIM), torch.randn(2, 4, 5)
    q, k, v = attention.query(query), attention.key(source), attention.value(source)
    outputs, weights = [], []
    for head in range(HEADS):
        part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
        scores = torch.einsum("btd,bsd->bts", q[..., part], k[..., part]) / divisor(scale)
        probabilities = scores.masked_fill(~MASK[:, 0], -math.inf).softmax(-1)
        weights.append(probabilities)
        outputs.append(torch.einsum("bts,bsd->btd", probabilities, v[..., part]))
    keys, values = attention.project_source(source)
    expected = attention.out(torch.cat(outputs, -1))
    torch.testing.assert_close(attention.attend(query, keys, values, MASK), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(attention.weights(query, keys, MASK), torch.stack(weights).mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", ["head", "width"])
def test_residual_attention_adds_the_scores_of_the_layer_before(scale: AttentionScale) -> None:
    torch.manual_seed(0)
    attention = ResidualAttention(DIM, HEADS, attention_scale(scale, DIM, HEADS, "decoder"), 0.0).eval()
    x, earlier = torch.randn(2, 4, DIM), torch.randn(2, HEADS, 4, 4)
    # One linear map, laid out head by head: query, key and value of head 0, then of head 1, ...
    q, k, v = attention.qkv(x).view(2, 4, HEADS, 3, DIM // HEADS).permute(3, 0, 2, 1, 4)
    own = (torch.einsum("bntd,bnsd->bnts", q, k) / divisor(scale)).masked_fill(~MASK, -math.inf)
    for before, expected_scores in ((None, own), (earlier, own + earlier)):
        heads = torch.einsum("bnts,bnsd->btnd", expected_scores.softmax(-1), v).flatten(2)
        output, scores = attention(x, MASK, before)
        assert scores is not None
        torch.testing.assert_close(scores, expected_scores, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(output, attention.out(heads), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask", [None, MASK])
def test_first_residual_layer_equals_the_standard_one(mask: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    standard = SharedProjectionAttention(DIM, HEADS, 0.5, 0.0)
    residual = ResidualAttention(DIM, HEADS, 0.5, 0.0)
    residual.load_state_dict(standard.state_dict())
    x = torch.randn(2, 4, DIM)
    torch.testing.assert_close(residual(x, mask, None)[0], standard(x, mask, None)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [SharedProjectionAttention, ResidualAttention])
def test_masked_positions_have_no_influence(kind: type[SharedProjectionAttention]) -> None:
    torch.manual_seed(0)
    attention = kind(DIM, HEADS, 0.5, 0.0)
    x = torch.randn(2, 4, DIM)
    disturbed = torch.where(MASK[:, 0, 0, :, None], x, torch.randn(2, 4, DIM) * 5)
    kept = MASK[:, 0, 0]
    torch.testing.assert_close(attention(x, MASK, None)[0][kept], attention(disturbed, MASK, None)[0][kept])


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    for attention in (SharedProjectionAttention(DIM, HEADS, 0.5, 0.5), ResidualAttention(DIM, HEADS, 0.5, 0.5)):
        x = torch.randn(2, 4, DIM)
        module: nn.Module = attention.train()
        assert not torch.equal(module(x, None, None)[0], module(x, None, None)[0])
        module.eval()
        assert torch.equal(module(x, None, None)[0], module(x, None, None)[0])
