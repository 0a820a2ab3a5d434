"""Attention refined by coverage, against its written-out definition."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.decoders import TransformerDecoder
from models.decoders.cache import CrossAttentionCache
from models.decoders.masked_norm import MaskedBatchNorm
from models.decoders.refinement import CoverageAttention, CoverageCache
from models.decoders.transformer import TransformerDecoderLayer
from models.layers.attention import MultiHeadAttention, probabilities
from models.types import Memory
from tests.support import decoders as check
from tests.support.decoders import MEMORIES, SIZE, SPEC, random_memory, random_tokens, tiny_decoder

HEADS = 2


def refined(depth: int = 3, **changes: Any) -> TransformerDecoder:
    decoder = tiny_decoder(depth=depth, refinement="coverage", **changes)
    assert isinstance(decoder, TransformerDecoder)
    return decoder


def coverage_of(decoder: TransformerDecoder) -> CoverageAttention:
    assert isinstance(decoder.refiner, CoverageAttention)
    return decoder.refiner


def plain_weights(attention: MultiHeadAttention, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    """Masked scores (B, N, T, S) and their softmax."""
    mask = None if memory.mask is None else memory.mask[:, None, None]
    scores = attention.scores(query, attention.project_source(memory.tokens)[0], mask)
    return scores, scores.softmax(-1)


def correction(coverage: CoverageAttention, below: Tensor, plain: Tensor, step: int, prefix: int) -> Tensor:
    """What is subtracted from the scores (B, N, S) of one step."""
    past = torch.cat([below[:, :, :step].sum(2), plain[:, :, :step].sum(2)], 1)[..., prefix:].unflatten(-1, SIZE)
    x = F.conv2d(past, coverage.expand.weight, coverage.expand.bias, padding=2).relu()
    x = F.conv2d(x, coverage.project.weight)
    norm = coverage.norm
    x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return F.pad(x.flatten(2), (prefix, 0))


@pytest.mark.parametrize(("masked", "prefix"), MEMORIES)
def test_a_pass_is_the_definition(masked: bool, prefix: int) -> None:
    decoder, memory = refined(), random_memory(3, masked, prefix)
    attend = decoder.refiner.attend_all(memory, torch.ones(3, 6, dtype=torch.bool))
    queries = [torch.randn(3, 6, 8) for _ in decoder.layers]
    below: Tensor | None = None
    for layer, query in zip(decoder.layers, queries, strict=True):
        assert isinstance(layer, TransformerDecoderLayer)
        attention = layer.cross_attention
        scores, plain = plain_weights(attention, query, memory)
        weights = plain
        if below is not None:
            corrections = [correction(coverage_of(decoder), below, plain, step, prefix) for step in range(6)]
            weights = (scores - torch.stack(corrections, 2)).softmax(-1)
            assert not torch.allclose(weights, plain, atol=1e-3)
        expected = attention.output(weights @ attention.project_source(memory.tokens)[1])
        torch.testing.assert_close(attend(attention, query), expected, rtol=1e-4, atol=1e-5)
        below = weights


def test_one_module_serves_all_layers_but_the_first() -> None:
    decoder, memory = refined(), random_memory(2)
    calls: list[torch.Size] = []
    coverage_of(decoder).register_forward_hook(lambda module, inputs, output: calls.append(output.shape))
    decoder(random_tokens(2, 6), memory)
    assert calls == [torch.Size([12, HEADS, *SIZE])] * 2
    assert sum(isinstance(module, CoverageAttention) for module in decoder.modules()) == 1
    cache = decoder.start(memory, 4)
    kinds = [type(layer.memory) for layer in cache.layers]
    assert kinds == [CrossAttentionCache, CoverageCache, CoverageCache]


def test_counts() -> None:
    heads, channels = 2, 3
    assert check.count(coverage_of(refined())) == (2 * heads * 25 + 1) * channels + channels * heads + 2 * heads


@pytest.mark.parametrize(("masked", "prefix"), MEMORIES)
def test_beams_in_deep_decoders(masked: bool, prefix: int) -> None:
    check.check_beams(refined(depth=4), random_memory(2, masked, prefix), beams=4)


def test_norm_without_a_mask_is_batch_norm() -> None:
    torch.manual_seed(0)
    ours, theirs = MaskedBatchNorm(3), nn.BatchNorm2d(3)
    for module in (ours, theirs):
        with torch.no_grad():
            module.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
            module.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    for _ in range(3):
        x = torch.randn(4, 3, 2, 5) * 2 + 1
        first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
        one, other = ours(first, torch.ones(4, 1, 2, 5, dtype=torch.bool)), theirs(second)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        one.square().sum().backward()
        other.square().sum().backward()
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    x = torch.randn(4, 3, 2, 5)
    torch.testing.assert_close(ours.eval()(x, None), theirs.eval()(x))


def test_statistics_are_those_of_valid_positions() -> None:
    torch.manual_seed(0)
    norm = MaskedBatchNorm(3)
    x, valid = torch.randn(4, 3, 2, 5), torch.rand(4, 1, 2, 5) > 0.4
    kept = x.movedim(1, -1)[valid[:, 0]]
    expected = (kept - kept.mean(0)) / (kept.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x, valid).movedim(1, -1)[valid[:, 0]], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_mean, 0.1 * kept.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * kept.var(0))
    disturbed = torch.where(valid, x, 50.0)
    torch.testing.assert_close(
        MaskedBatchNorm(3)(disturbed, valid).masked_fill(~valid, 0), norm(x, valid).masked_fill(~valid, 0)
    )


@pytest.mark.parametrize("positions", [0, 1])
def test_too_few_positions_have_no_statistics(positions: int) -> None:
    torch.manual_seed(0)
    norm = MaskedBatchNorm(3)
    norm(torch.randn(4, 3, 2, 5) * 2 + 1, torch.ones(4, 1, 2, 5, dtype=torch.bool))
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    x, valid = torch.randn(1, 3, 2, 5, requires_grad=True), torch.arange(10).view(1, 1, 2, 5) < positions
    normed = norm(x, valid)
    torch.testing.assert_close(normed, norm.eval()(x, None))
    torch.testing.assert_close((norm.running_mean, norm.running_var), (mean, variance))
    normed.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_padding_does_not_enter_the_statistics_of_training() -> None:
    """Neither PAD after the texts nor what lies right of the images."""
    tgt_in, memory = random_tokens(3, 5), random_memory(3, masked=True)
    assert memory.mask is not None
    padded_tgt = torch.cat([tgt_in, torch.full((3, 4), SPEC.pad_id)], 1)
    height, width = SIZE
    wider = F.pad(memory.tokens.unflatten(1, SIZE), (0, 0, 0, 3), value=5.0).flatten(1, 2)
    wider_mask = F.pad(memory.mask.unflatten(1, SIZE), (0, 3)).flatten(1)
    padded_memory = Memory(wider, wider_mask, (height, width + 3))
    plain, padded = refined(mlp_drop_rate=0.0).train(), refined(mlp_drop_rate=0.0).train()
    expected = plain(tgt_in, memory)
    torch.testing.assert_close(padded(padded_tgt, padded_memory)[:, :5], expected, rtol=1e-4, atol=1e-5)
    for name, buffer in coverage_of(plain).named_buffers():
        torch.testing.assert_close(coverage_of(padded).get_buffer(name), buffer, rtol=1e-4, atol=1e-6)
    assert not torch.equal(coverage_of(plain).norm.running_mean, coverage_of(refined()).norm.running_mean)


def test_steps_leave_the_statistics_alone() -> None:
    decoder, memory = refined().train(), random_memory(2)
    before = coverage_of(decoder).norm.running_mean.clone()
    with torch.no_grad():
        cache = decoder.start(memory, 3)
        for _ in range(3):
            decoder.step(torch.zeros(2, dtype=torch.long), cache)
    assert torch.equal(coverage_of(decoder).norm.running_mean, before)


def test_probabilities_of_half_precision_are_float() -> None:
    assert probabilities(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.float
    assert probabilities(torch.zeros(2, 3, dtype=torch.double)).dtype == torch.double
