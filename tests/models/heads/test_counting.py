"""The head that counts tokens, and its loss."""

from dataclasses import replace

import pytest
import torch

from models import CountingConfig, Memory, ModelOutput, OutputSpec, build_model
from models.heads import build_head
from models.heads.counting import LinearCountingHead
from tests.support.configurations import SPEC as MODEL_SPEC
from tests.support.configurations import random_images, random_targets, tiny_small
from trainers.tasks.losses import LossConfig, Targets, sequence_loss
from trainers.tasks.losses.auxiliary import counting_loss

BOS, EOS, PAD, A, B, C = range(6)
SPEC = OutputSpec(num_classes=6, bos_id=BOS, eos_id=EOS, pad_id=PAD, max_length=8)
# "a a b" and "c", the second of which may have no weight.
TGT_OUT = torch.tensor([[A, A, B, EOS], [C, EOS, PAD, PAD]])


def targets(weights: tuple[int, int] = (1, 1), pad_counts: bool = False) -> Targets:
    counted = ((TGT_OUT != PAD) | pad_counts) & (torch.tensor(weights)[:, None] > 0)
    return Targets(TGT_OUT.roll(1, 1), TGT_OUT, counted)


@pytest.mark.parametrize("prefix", [0, 1])
def test_counts_are_sums_of_chances_over_the_places_that_are_image(prefix: int) -> None:
    torch.manual_seed(0)
    head = build_head("counting", CountingConfig("linear"), 3, SPEC)
    assert isinstance(head, LinearCountingHead)
    tokens, mask = torch.randn(2, prefix + 6, 3), torch.ones(2, prefix + 6, dtype=torch.bool)
    mask[1, prefix + 4 :] = False
    by_hand = torch.zeros(2, 6)
    for image, positions in ((0, 6), (1, 4)):
        for position in range(positions):
            by_hand[image] += torch.sigmoid(head.head.weight @ tokens[image, prefix + position] + head.head.bias).detach()
    torch.testing.assert_close(head(Memory(tokens, mask, (2, 3), prefix)), by_hand)
    whole = head(Memory(tokens, None, (2, 3), prefix))
    torch.testing.assert_close(whole[0], by_hand[0])
    assert (whole[1] > by_hand[1]).all() and (whole < 0.2).all(), "it begins with few"


def test_the_loss_by_hand() -> None:
    counts = torch.tensor([[9.0, 9.0, 9.0, 2.5, 3.0, 0.0], [9.0, 9.0, 9.0, 0.0, 0.2, 1.0]], requires_grad=True)
    # Of "a a b": a 2.5 for 2, b 3 for 1, c 0 for 0. Of "c": b 0.2 for 0. Below a difference of 1 the half of its square.
    first, second = 0.5 * 0.5**2 + (2.0 - 0.5), 0.5 * 0.2**2
    assert float(counting_loss(counts, targets(), SPEC).detach()) == pytest.approx(first + second, rel=1e-6)
    for pad_counts in (False, True):
        loss = counting_loss(counts, targets((1, 0), pad_counts), SPEC)
        assert float(loss.detach()) == pytest.approx(first, rel=1e-6)
    loss.backward()
    assert counts.grad is not None and not counts.grad[1].any() and not counts.grad[0, :3].any()


def test_it_is_a_term_of_the_loss_with_its_weight() -> None:
    logits, counts = torch.randn(2, 4, 6), torch.rand(2, 6)
    with_it = sequence_loss(ModelOutput(logits, counts=counts), targets(), SPEC, LossConfig(counting_weight=0.3))
    without = sequence_loss(ModelOutput(logits), targets(), SPEC, LossConfig())
    assert float(with_it - without) == pytest.approx(0.3 * float(counting_loss(counts, targets(), SPEC)), rel=1e-4)
    half = sequence_loss(ModelOutput(logits, counts=counts.half()), targets(), SPEC, LossConfig(counting_weight=0.3))
    assert half.dtype == torch.float32 and float(half) == pytest.approx(float(with_it), rel=1e-3)


def test_counts_of_padded_images_are_those_of_each_alone_and_of_float32() -> None:
    config = replace(tiny_small(), counting=CountingConfig("linear"))
    torch.manual_seed(0)
    model = build_model(config, MODEL_SPEC).eval()
    images, tgt_in, sizes = random_images(model, 2), random_targets(2, 5), torch.tensor([[64, 128], [39, 88]])
    with torch.inference_mode():
        counts = model(images, tgt_in, sizes).counts
        for row, (height, width) in enumerate(sizes.tolist()):
            alone = model(images[row : row + 1, :, :height, :width], tgt_in[row : row + 1]).counts
            torch.testing.assert_close(counts[row], alone[0], rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert model(images, tgt_in, sizes).counts.dtype == torch.float32
    assert build_model(tiny_small(), MODEL_SPEC)(images, tgt_in).counts is None


def test_it_learns_to_count() -> None:
    config = replace(tiny_small(), counting=CountingConfig("linear"))
    torch.manual_seed(0)
    model = build_model(config, MODEL_SPEC).train()
    images, tgt_in = random_images(model, 3), random_targets(3, 7)
    tgt_out = torch.cat([tgt_in[:, 1:], torch.full((3, 1), EOS)], 1)
    truth = Targets(tgt_in, tgt_out, torch.ones_like(tgt_out, dtype=torch.bool))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        loss = counting_loss(model(images, tgt_in).counts, truth, MODEL_SPEC)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    counts = model(images, tgt_in).counts.detach().round()
    for row in range(3):
        assert counts[row, 3:].tolist() == torch.bincount(tgt_out[row], minlength=13)[3:].tolist()
