"""Every value of every switch: builds, trains all its parameters, and decodes the function that was trained."""

import pytest
import torch
from torch import Tensor

from models import Decoding, Generation, Memory, Recognizer, build_model, reverse_targets
from models.backbones import BACKBONES
from models.decoding import decode
from models.summary.measure import total_loss
from tests.support.claims import claim
from tests.support.configurations import SPEC, enliven, random_images, random_targets
from tests.support.switches import UNIQUE, VARIANTS, literals

Sizes = list[tuple[int, int]]
STEPS = 8


def test_all_switches_are_tried() -> None:
    for path, values in literals():
        assert {f"{path}={value}" for value in values} <= set(VARIANTS)
    assert {f"backbone.name={name}" for name in BACKBONES} <= set(VARIANTS)
    assert {name for names in UNIQUE.values() for name in names} == set(VARIANTS)


@pytest.mark.parametrize("variant", UNIQUE)
def test_variant(variant: str) -> None:
    torch.manual_seed(0)
    model = build_model(VARIANTS[variant](), SPEC).train()
    with claim("every parameter gets a finite gradient, with and without padding"):
        check_gradients(model)
    model = enliven(model)
    with claim("cached decoding is the teacher-forced function"):
        check_cached_decoding(model)
    images, sizes = padded_images(model)
    alone = [images[row : row + 1, :, :height, :width] for row, (height, width) in enumerate(sizes)]
    with claim("the logits of a batch are those of its members"):
        check_batch(model, images, sizes, alone)
    with torch.inference_mode():
        memory, memories = model.encode(images, torch.tensor(sizes)), [model.encode(image) for image in alone]
    with claim("greedy decoding of a batch is that of its members"):
        greedy = check_decoding(model, memory, memories, Decoding(max_length=STEPS))
    with claim("a beam search of a batch is that of its members"):
        check_decoding(model, memory, memories, Decoding("beam", max_length=STEPS, beam_size=3, num_best=3))
    with claim("one beam is greedy decoding"):
        check_one_beam(model, memory, greedy)


def check_gradients(model: Recognizer) -> None:
    """In both passes, since a parameter could take part in one of them only."""
    images, tgt_in = random_images(model, 2), random_targets(2, 6)
    for sizes in (None, torch.tensor([[64, 90], [41, 104]])):
        model.zero_grad()
        total_loss(model(images, tgt_in, sizes), tgt_in).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} takes no part in the forward pass"
            assert parameter.grad.isfinite().all(), name


def check_cached_decoding(model: Recognizer) -> None:
    """In both directions, where the decoder has both."""
    images, tgt_in = random_images(model, 2), random_targets(2, STEPS)
    with torch.inference_mode():
        output, memory = model(images, tgt_in), model.encode(images)
        if output.logits is None:
            assert output.ctc_logits is not None
            return
        assert_steps_equal(model, memory, tgt_in, output.logits)
        if output.reverse_logits is not None:
            reverse_in, _ = reverse_targets(tgt_in, SPEC)
            both = torch.cat([tgt_in, reverse_in])
            assert_steps_equal(model, memory.for_rows(len(both)), both, torch.cat([output.logits, output.reverse_logits]))


def assert_steps_equal(model: Recognizer, memory: Memory, tgt_in: Tensor, logits: Tensor) -> None:
    """Step by step, the decoder gives the logits (B, T, V) of the one pass."""
    cache = model.decoder.start(memory, tgt_in.shape[1])
    steps = torch.stack([model.decoder.step(tokens, cache) for tokens in tgt_in.t()], 1)
    torch.testing.assert_close(steps, logits, rtol=1e-4, atol=1e-4)


def padded_images(model: Recognizer) -> tuple[Tensor, Sizes]:
    """A batch and the sizes of its images. Where padding counts as paper, members of one size must not see each other."""
    sizes = [(64, 101), (39, 128)] if model.backbone.masks_padding else [(64, 128)] * 2
    images = random_images(model, 2)
    for row, (height, width) in enumerate(sizes):
        images[row, :, height:] = images[row, :, :, width:] = 255 * row // 2
    return images, sizes


def check_batch(model: Recognizer, images: Tensor, sizes: Sizes, alone: list[Tensor]) -> None:
    tgt_in = random_targets(2, 6)
    with torch.inference_mode():
        together = model(images, tgt_in, torch.tensor(sizes))
        for row, image in enumerate(alone):
            output = model(image, tgt_in[row : row + 1])
            for ours, theirs in ((together.logits, output.logits), (together.reverse_logits, output.reverse_logits)):
                assert (ours is None) == (theirs is None)
                if ours is not None:
                    torch.testing.assert_close(ours[row], theirs[0], rtol=2e-4, atol=2e-4)
            if together.ctc_logits is not None:
                count = int(together.ctc_lengths[row])
                assert count == output.ctc_logits.shape[1]
                torch.testing.assert_close(together.ctc_logits[row, :count], output.ctc_logits[0], rtol=2e-4, atol=2e-4)


@torch.inference_mode()
def check_decoding(model: Recognizer, memory: Memory, memories: list[Memory], decoding: Decoding) -> Generation:
    together = decode(model, memory, decoding)
    for row, one in enumerate(memories):
        alone = decode(model, one, decoding)
        assert_same_text(together, row, alone)
        if decoding.method == "beam":
            assert together.candidates is not None and alone.candidates is not None
            torch.testing.assert_close(together.candidates.scores[row], alone.candidates.scores[0], rtol=1e-3, atol=1e-3)
    return together


def assert_same_text(together: Generation, row: int, alone: Generation) -> None:
    """A row of a batch reads as the image alone."""
    length = int(alone.lengths[0])
    assert together.lengths[row] == length
    assert together.token_ids[row, :length].tolist() == alone.token_ids[0, :length].tolist()


@torch.inference_mode()
def check_one_beam(model: Recognizer, memory: Memory, greedy: Generation) -> None:
    """With a decoder: a CTC prefix beam of 1 sums over paths, greedy decoding does not."""
    if model.decoder.out_dim == 0:
        return
    one = decode(model, memory, Decoding("beam", max_length=STEPS, beam_size=1))
    assert torch.equal(one.token_ids, greedy.token_ids)
    torch.testing.assert_close(one.log_probs, greedy.log_probs, rtol=1e-4, atol=1e-4)
