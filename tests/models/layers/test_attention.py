"""The attention arithmetic against its written-out definition."""

import math

import pytest
import torch
from torch import Tensor

from models.config import AttentionOutput, AttentionScale
from models.errors import ModelConfigError
from models.layers.attention import (
    ATTENTION_OUTPUTS,
    MAX_EXPLICIT_SCORES,
    MultiHeadAttention,
    attend,
    attention_scale,
    head_width,
)

DIM, SOURCE_DIM, HEADS = 12, 5, 3
MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])[:, None, None]


def build(scale: AttentionScale = "head", output: AttentionOutput = "linear", bias: bool = True, head_dim: int = 4,
          drop_rate: float = 0.0, source_dim: int = SOURCE_DIM) -> MultiHeadAttention:  # fmt: skip
    torch.manual_seed(0)
    factor = attention_scale(scale, HEADS * head_dim, HEADS, "model.decoder")
    return MultiHeadAttention(DIM, source_dim, HEADS, head_dim, factor, drop_rate, bias, ATTENTION_OUTPUTS[output])


@pytest.mark.parametrize("scale", ["head", "width"])
@pytest.mark.parametrize("output", ["linear", "gated"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("head_dim", [4, 7])
@pytest.mark.parametrize("mask", [None, MASK])
def test_attention_is_the_definition(
    scale: AttentionScale, output: AttentionOutput, bias: bool, head_dim: int, mask: Tensor | None
) -> None:
    attention = build(scale, output, bias, head_dim)
    divisor = math.sqrt({"head": head_dim, "width": HEADS * head_dim}[scale])
    query, source = torch.randn(2, 3, DIM), torch.randn(2, 4, SOURCE_DIM)
    q, k, v = attention.query(query), attention.key(source), attention.value(source)
    found, all_scores = [], []
    for head in range(HEADS):
        part = slice(head * head_dim, (head + 1) * head_dim)
        scores = torch.einsum("btd,bsd->bts", q[..., part], k[..., part]) / divisor
        scores = scores if mask is None else scores.masked_fill(~mask[:, 0], -math.inf)
        all_scores.append(scores)
        found.append(torch.einsum("bts,bsd->btd", scores.softmax(-1), v[..., part]))
    out = torch.cat(found, -1)
    expected = attention.out(out)
    if output == "gated":
        linear = attention.out.get_submodule("0")
        value, gate = linear(out).chunk(2, -1)
        expected = value * gate.sigmoid()
    torch.testing.assert_close(attention(query, source, mask), expected, rtol=1e-5, atol=1e-6)
    keys, values = attention.project_source(source)
    scores = attention.scores(query, keys, mask)
    torch.testing.assert_close(scores, torch.stack(all_scores, 1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(attention.output(scores.softmax(-1) @ values), expected, rtol=1e-5, atol=1e-6)


def test_causal_attention_sees_nothing_to_come() -> None:
    attention = build(source_dim=DIM)
    x = torch.randn(2, 5, DIM)
    whole = attention.causal(x)
    for length in range(1, 6):
        alone = attention(x[:, length - 1 : length], x[:, :length])
        torch.testing.assert_close(whole[:, length - 1 : length], alone, rtol=1e-5, atol=1e-6)


def test_masked_positions_have_no_influence() -> None:
    attention = build()
    query, source = torch.randn(2, 3, DIM), torch.randn(2, 4, SOURCE_DIM)
    disturbed = torch.where(MASK[:, 0, 0, :, None], source, torch.randn(2, 4, SOURCE_DIM) * 5)
    torch.testing.assert_close(attention(query, source, MASK), attention(query, disturbed, MASK))


def test_dropout_acts_in_training_only() -> None:
    attention = build(drop_rate=0.5).train()
    query, source = torch.randn(2, 3, DIM), torch.randn(2, 4, SOURCE_DIM)
    assert not torch.equal(attention(query, source), attention(query, source))
    attention.eval()
    assert torch.equal(attention(query, source), attention(query, source))


def test_width_of_a_head() -> None:
    assert head_width(12, 3, None, "model.decoder") == 4
    assert head_width(12, 5, 7, "model.decoder") == 7
    with pytest.raises(
        ModelConfigError, match=r"model\.decoder\.embed_dim: 12 is not divisible by model\.decoder\.num_heads = 5"
    ):
        head_width(12, 5, None, "model.decoder")
    with pytest.raises(ModelConfigError, match=r"model\.decoder\.head_dim"):
        head_width(12, 5, 0, "model.decoder")


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_that_trains_in_bf16_is_that_of_float32(mask: Tensor | None, is_causal: bool, scale: float | None) -> None:
    """On CPUs it is written out, for the fused kernel is slow there; values and gradients are those of the fused kernel."""
    torch.manual_seed(0)
    length = 4 if is_causal else 3
    mask = None if is_causal else mask
    inputs = [torch.randn(2, 2, rows, 8).bfloat16() for rows in (length, 4, 4)]
    outputs, gradients = [], []
    for dtype in (torch.bfloat16, torch.float32):
        leaves = [x.clone().to(dtype).requires_grad_() for x in inputs]
        queries, keys, values = leaves
        out = attend(queries, keys, values, mask, is_causal, scale=scale)
        out.float().square().sum().backward()
        outputs.append(out.float())
        gradients.append([leaf.grad.float() for leaf in leaves if leaf.grad is not None])
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0.03, atol=0.03)
    assert len(gradients[0]) == 3
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.06, atol=0.06)


def test_attention_to_very_many_keys_keeps_no_scores() -> None:
    queries = torch.randn(1, 1, 2, 8, dtype=torch.bfloat16, requires_grad=True)
    keys = torch.randn(1, 1, MAX_EXPLICIT_SCORES // 2 + 1, 8, dtype=torch.bfloat16)
    assert "Softmax" not in _ancestors(attend(queries, keys, keys))
    assert "Softmax" in _ancestors(attend(queries, keys[:, :, :5], keys[:, :, :5]))


def _ancestors(result: Tensor) -> str:
    names, ahead = [], [result.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is not None:
            names.append(node.name())
            ahead += [parent for parent, _ in node.next_functions]
    return " ".join(names)
