"""Every value of every switch: builds, learns with all its parameters, and decodes the function that was trained."""

import functools

import pytest
import torch
from torch import Tensor

from models import Decoding, Generation, Recognizer, build_model, reverse_targets
from models.backbones import BACKBONES
from models.summary.measure import total_loss
from models.types import Memory
from tests.support.configurations import SPEC, lively_model, random_images, random_targets
from tests.support.switches import VARIANTS, literals


@functools.cache
def model_of(variant: str) -> Recognizer:
    """A lively model of a variant, in evaluation mode; shared by the tests, which leave it as it is."""
    return lively_model(VARIANTS[variant]())


def test_all_switches_are_tried() -> None:
    for path, values in literals():
        assert {f"{path}={value}" for value in values} <= set(VARIANTS)
    assert {f"backbone.name={name}" for name in BACKBONES} <= set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient(variant: str) -> None:
    torch.manual_seed(0)
    model = build_model(VARIANTS[variant](), SPEC).train()
    images, tgt_in = random_images(model, 3), random_targets(3, 8)
    for sizes in (None, torch.tensor([[64, 128], [64, 90], [41, 104]])):
        model.zero_grad()
        total_loss(model(images, tgt_in, sizes), tgt_in).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} takes no part in the forward pass"
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_decoding_is_the_teacher_forced_function(variant: str) -> None:
    model = model_of(variant)
    images, tgt_in = random_images(model, 3), random_targets(3, SPEC.max_length)
    output = model(images, tgt_in)
    if output.logits is None:
        assert output.ctc_logits is not None
        return
    memory = model.encode(images)
    assert_steps_equal(model, memory, tgt_in, output.logits)
    if output.reverse_logits is not None:
        reverse_in, _ = reverse_targets(tgt_in, SPEC)
        both = torch.cat([tgt_in, reverse_in])
        assert_steps_equal(model, memory.for_rows(len(both)), both, torch.cat([output.logits, output.reverse_logits]))


def assert_steps_equal(model: Recognizer, memory: Memory, tgt_in: Tensor, logits: Tensor) -> None:
    """Step by step, the decoder gives the logits (B, T, V) of the one pass."""
    with torch.inference_mode():
        cache = model.decoder.start(memory, tgt_in.shape[1])
        steps = torch.stack([model.decoder.step(tokens, cache) for tokens in tgt_in.t()], 1)
    torch.testing.assert_close(steps, logits, rtol=1e-4, atol=1e-4)


def sizes_for(model: Recognizer) -> list[tuple[int, int]]:
    """Sizes of three images. Where padding counts as paper, members of one size still must not see each other."""
    return [(64, 128), (64, 101), (39, 112)] if model.backbone.masks_padding else [(64, 128)] * 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_equals_its_members(variant: str) -> None:
    model = model_of(variant)
    images, tgt_in, sizes = random_images(model, 3), random_targets(3, 6), sizes_for(model)
    for row, (height, width) in enumerate(sizes):
        images[row, :, height:] = images[row, :, :, width:] = 255 * row // 2
    with torch.inference_mode():
        together = model(images, tgt_in, torch.tensor(sizes))
        for row, (height, width) in enumerate(sizes):
            alone = model(images[row : row + 1, :, :height, :width], tgt_in[row : row + 1])
            for ours, theirs in ((together.logits, alone.logits), (together.reverse_logits, alone.reverse_logits)):
                assert (ours is None) == (theirs is None)
                if ours is not None:
                    torch.testing.assert_close(ours[row], theirs[0], rtol=2e-4, atol=2e-4)
            if together.ctc_logits is not None:
                count = int(together.ctc_lengths[row])
                assert count == alone.ctc_logits.shape[1]
                torch.testing.assert_close(together.ctc_logits[row, :count], alone.ctc_logits[0], rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_beams(variant: str) -> None:
    model = model_of(variant)
    images, sizes = random_images(model, 3), sizes_for(model)
    greedy = model.generate(images, Decoding(), torch.tensor(sizes))
    if model(images, random_targets(3, 4)).logits is not None:  # a CTC prefix beam of 1 sums over paths, greedy does not
        one = model.generate(images, Decoding(method="beam", beam_size=1), torch.tensor(sizes))
        assert torch.equal(one.token_ids, greedy.token_ids)
        torch.testing.assert_close(one.log_probs, greedy.log_probs, rtol=1e-4, atol=1e-4)
    beam = Decoding(method="beam", beam_size=3, num_best=3)
    together = model.generate(images, beam, torch.tensor(sizes))
    for row, (height, width) in enumerate(sizes):
        alone = model.generate(images[row : row + 1, :, :height, :width], beam)
        assert_same_text(together, row, alone)
        assert together.candidates is not None and alone.candidates is not None
        torch.testing.assert_close(together.candidates.scores[row], alone.candidates.scores[0], rtol=1e-3, atol=1e-3)
        assert_same_text(greedy, row, model.generate(images[row : row + 1, :, :height, :width]))


def assert_same_text(together: Generation, row: int, alone: Generation) -> None:
    """A row of a batch reads as the image alone."""
    length = int(alone.lengths[0])
    assert together.lengths[row] == length
    assert together.token_ids[row, :length].tolist() == alone.token_ids[0, :length].tolist()
