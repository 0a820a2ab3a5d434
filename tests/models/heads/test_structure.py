"""The head that tells nesting levels, and its loss."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import (
    CtcConfig,
    ModelConfig,
    ModelConfigError,
    ModelOutput,
    OutputSpec,
    SampledTokens,
    StructureConfig,
    build_model,
)
from tests.support.configurations import SPEC as MODEL_SPEC
from tests.support.configurations import TINY, random_images, random_targets, tiny_small
from trainers.tasks.losses import LossConfig, Targets, sequence_loss
from trainers.tasks.losses.auxiliary import nesting_levels, structure_loss

BOS, EOS, PAD, X, OPEN, CLOSE, BEGIN, END = range(8)
SPEC = OutputSpec(8, BOS, EOS, PAD, max_length=16, open_ids=(OPEN, BEGIN), close_ids=(CLOSE, END))


def nesting(structure: str = "small", **decoder: Any) -> ModelConfig:
    config = TINY[structure]()
    return replace(config, structure=StructureConfig("nesting", 2), decoder=replace(config.decoder, **decoder))


def test_levels_by_hand() -> None:
    # x { x { x } x } x <eos>, in two kinds of braces; then one that closes too much.
    text = torch.tensor([[X, OPEN, X, BEGIN, X, END, X, CLOSE, X, EOS], [CLOSE, X, OPEN, EOS, PAD, PAD, PAD, PAD, PAD, PAD]])
    levels = nesting_levels(text, SPEC)
    assert levels[0].tolist() == [0, 0, 1, 1, 2, 1, 1, 0, 0, 0]
    assert levels[1, :3].tolist() == [-1, -1, -1]


@given(st.lists(st.integers(3, 7), max_size=12))
def test_levels_are_those_of_a_walk_through_the_text(text: list[int]) -> None:
    depth, expected = 0, []
    for token in text:
        depth -= token in (CLOSE, END)
        expected.append(depth)
        depth += token in (OPEN, BEGIN)
    assert nesting_levels(torch.tensor([text], dtype=torch.long), SPEC)[0].tolist() == expected


def test_the_loss_is_the_cross_entropy_of_the_levels_over_the_tokens() -> None:
    tgt_out = torch.tensor([[OPEN, OPEN, OPEN, X, CLOSE, CLOSE, CLOSE, EOS], [X, EOS, *[PAD] * 6], [X, X, EOS, *[PAD] * 5]])
    weights = torch.tensor([[True], [True], [False]])
    wanted = {0: [0, 1, 2, 2, 2, 1, 0, 0], 1: [0, 0]}  # 3 counts as 2, the deepest
    logits = torch.randn(3, 8, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    log_probs = logits.log_softmax(-1)
    by_hand = -sum(float(log_probs[row, t, level].detach()) for row, levels in wanted.items() for t, level in enumerate(levels))
    for counted in ((tgt_out != PAD) & weights, weights.expand(-1, 8)):  # PAD has no level, counted or not
        truth = Targets(tgt_out.roll(1, 1), tgt_out, counted)
        loss = structure_loss(logits, truth, SPEC)
        assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-6)
    loss.backward()
    assert logits.grad is not None and not logits.grad[2].any() and not logits.grad[1, 2:].any()
    words = torch.randn(3, 8, 8)
    with_it = sequence_loss(ModelOutput(words, levels=logits), truth, SPEC, LossConfig(structure_weight=0.4))
    without = sequence_loss(ModelOutput(words), truth, SPEC, LossConfig())
    assert float((with_it - without).detach()) == pytest.approx(0.4 * by_hand, rel=1e-4)


@pytest.mark.parametrize("structure", ["small", "comer", "aster"])
def test_levels_come_from_the_states_that_the_logits_come_from(structure: str) -> None:
    torch.manual_seed(0)
    model = build_model(nesting(structure), MODEL_SPEC).eval()
    images, tgt_in = random_images(model, 2), random_targets(2, 6)
    calls: list[int] = []
    embedding, head = model.decoder.get_submodule("embedding"), model.decoder.get_submodule("head")
    embedding.register_forward_hook(lambda module, inputs, output: calls.append(1))
    output = model(images, tgt_in)
    assert len(calls) == 1, "the decoder runs once"
    assert output.levels.shape == (2, 6, 3)
    forced = model.decoder.decode_hidden(tgt_in, model.encode(images))
    assert forced.hidden is not None
    torch.testing.assert_close(output.logits, head(forced.hidden))
    torch.testing.assert_close(output.levels, model.structure(forced.hidden))
    sampled = SampledTokens(torch.ones_like(tgt_in, dtype=torch.bool), passes=6)
    free = model(images, tgt_in, sampled=sampled)
    assert free.levels.shape == (2, 6, 3) and not torch.equal(free.levels, output.levels)


def test_it_is_off_by_default_and_alike_in_one_direction_or_two() -> None:
    images, tgt_in = random_images(build_model(tiny_small(), MODEL_SPEC), 2), random_targets(2, 6)
    assert build_model(tiny_small(), MODEL_SPEC)(images, tgt_in).levels is None
    torch.manual_seed(0)
    both = build_model(nesting(direction="both"), MODEL_SPEC).eval()
    forward = build_model(nesting(direction="forward"), MODEL_SPEC).eval()
    forward.load_state_dict(both.state_dict())
    torch.testing.assert_close(both(images, tgt_in).levels, forward(images, tgt_in).levels)


def test_it_learns_levels() -> None:
    torch.manual_seed(0)
    model = build_model(nesting(), MODEL_SPEC).train()
    opens, closes = MODEL_SPEC.open_ids[0], MODEL_SPEC.close_ids[0]
    text = [5, opens, 6, opens, 7, closes, 8, closes, 9]
    tgt_out = torch.tensor([[*text, MODEL_SPEC.eos_id]])
    tgt_in = torch.tensor([[MODEL_SPEC.bos_id, *text]])
    truth, images = Targets(tgt_in, tgt_out, torch.ones_like(tgt_out, dtype=torch.bool)), random_images(model, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = structure_loss(model(images, tgt_in).levels, truth, MODEL_SPEC)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.eval()(images, tgt_in).levels.argmax(-1).tolist() == [[0, 0, 1, 1, 2, 1, 1, 0, 0, 0]]


def test_without_a_decoder_or_groups_it_is_refused() -> None:
    with pytest.raises(ModelConfigError, match=r"model\.structure\.head: nesting needs .* model\.decoder\.name is none"):
        build_model(replace(nesting(name="none"), ctc=CtcConfig("linear")), MODEL_SPEC)
    with pytest.raises(ModelConfigError, match=r"model\.structure\.head: nesting, but the vocabulary defines no groups"):
        build_model(nesting(), replace(MODEL_SPEC, open_ids=(), close_ids=()))
    with pytest.raises(ModelConfigError, match=r"model\.structure\.max_level: .* 1 or more, not 0"):
        build_model(replace(tiny_small(), structure=StructureConfig("nesting", 0)), MODEL_SPEC)
