"""Losses against their definitions: sums over tokens that add up over the parts of a batch, and count nothing twice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models import ModelConfig, ModelOutput, OutputSpec, Recognizer, build_model, reverse_targets
from trainers.tasks.losses import LossConfig, Targets, counted_positions, sequence_loss
from trainers.tasks.losses.ctc import ctc_loss
from trainers.tasks.losses.tokens import token_loss

BOS, EOS, PAD, A, B, C = range(6)
SPEC = OutputSpec(num_classes=6, bos_id=BOS, eos_id=EOS, pad_id=PAD, max_length=8)


def targets(*texts: list[int], without: tuple[int, ...] = ()) -> Targets:
    """Of texts, padded to the longest; the rows `without` weight do not count."""
    whole = torch.full((len(texts), max(map(len, texts)) + 2), PAD)
    for row, text in zip(whole, texts, strict=True):
        row[: len(text) + 2] = torch.tensor([BOS, *text, EOS])
    counted = whole[:, 1:] != PAD
    counted[list(without)] = False
    return Targets(whole[:, :-1], whole[:, 1:], counted)


def value(x: Tensor) -> float:
    return float(x.detach())


def cross_entropy(x: Tensor, truth: Targets, label_smoothing: float = 0.0) -> Tensor:
    return token_loss(x, truth.tgt_out, truth.counted, SPEC, LossConfig(label_smoothing=label_smoothing))


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float().requires_grad_()


def test_cross_entropy_is_the_sum_over_tokens_that_are_not_pad() -> None:
    truth = targets([A, B], [C])
    x = logits(2, 3)
    log_probs = x.log_softmax(-1)
    by_hand = -(log_probs[0, 0, A] + log_probs[0, 1, B] + log_probs[0, 2, EOS] + log_probs[1, 0, C] + log_probs[1, 1, EOS])
    assert value(cross_entropy(x, truth)) == pytest.approx(value(by_hand), rel=1e-6)
    cross_entropy(x, truth, 0.1).backward()
    assert x.grad is not None and not x.grad[1, 2].any() and x.grad[1, 1].any(), "PAD has no gradient, smoothed or not"


def test_label_smoothing_gives_each_class_its_share() -> None:
    truth = targets([A, B], [C])
    x, smoothing = logits(2, 3), 0.12
    log_probs = x.log_softmax(-1)
    expected = 0.0
    for row, position in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        wanted = torch.full((6,), smoothing / 6)
        wanted[truth.tgt_out[row, position]] += 1 - smoothing
        expected -= value((wanted * log_probs[row, position]).sum())
    assert value(cross_entropy(x, truth, smoothing)) == pytest.approx(expected, rel=1e-6)


def test_both_directions_count_half_each_and_the_reverse_reads_from_the_end() -> None:
    truth = targets([A, B, C], [C], [B, B], without=(2,))
    _, reverse_out = reverse_targets(truth.tgt_in, SPEC)
    assert reverse_out.tolist() == [[C, B, A, BOS], [C, BOS, PAD, PAD], [B, B, BOS, PAD]]
    forward, backward = logits(3, 4), logits(3, 4, seed=1)
    loss = sequence_loss(ModelOutput(forward, backward), truth, SPEC, LossConfig())
    by_hand = 0.0
    for x, wanted in ((forward, [[A, B, C, EOS], [C, EOS]]), (backward, [[C, B, A, BOS], [C, BOS]])):
        by_hand -= sum(value(x.log_softmax(-1)[i, t, token]) for i, row in enumerate(wanted) for t, token in enumerate(row)) / 2
    assert value(loss) == pytest.approx(by_hand, rel=1e-6)
    loss.backward()
    assert forward.grad is not None and backward.grad is not None
    assert not forward.grad[2].any() and not backward.grad[2].any(), "a row of weight 0 has no part in either direction"


def test_a_perfect_reverse_reader_has_no_loss() -> None:
    truth = targets([A, B, C], [C])
    _, reverse_out = reverse_targets(truth.tgt_in, SPEC)
    output = ModelOutput(50.0 * F.one_hot(truth.tgt_out, 6), 50.0 * F.one_hot(reverse_out, 6))
    assert value(sequence_loss(output, truth, SPEC, LossConfig())) < 1e-6


def test_ctc_of_two_columns_by_hand() -> None:
    # Of "a", in two columns: a a, a blank, blank a. Of "": blank blank. Of "a b": one path.
    probs = torch.tensor([[[0.2, 0.1, 0.1, 0.3, 0.2, 0.1], [0.4, 0.05, 0.05, 0.25, 0.15, 0.1]]])
    columns = torch.tensor([2])
    for text, p in (([A], 0.3 * 0.25 + 0.3 * 0.4 + 0.2 * 0.25), ([], 0.2 * 0.4), ([A, B], 0.3 * 0.15)):
        assert value(ctc_loss(probs.log(), columns, targets(text), SPEC)) == pytest.approx(-math.log(p), rel=1e-5)


def test_ctc_of_a_padded_batch_is_torchs_of_each_sample_alone() -> None:
    texts, widths = [[A, B, B, C], [C], [], [B, A]], [9, 4, 3, 2]
    x = logits(4, 9)
    alone = 0.0
    for row, (text, width) in enumerate(zip(texts, widths, strict=True)):
        log_probs = x[row, :width].detach().log_softmax(-1)[:, None]
        label = torch.tensor([text], dtype=torch.long).view(1, len(text))
        lengths = torch.tensor([width]), torch.tensor([len(text)])
        alone += value(F.ctc_loss(log_probs, label, *lengths, blank=BOS, reduction="sum"))
    loss = ctc_loss(x, torch.tensor(widths), targets(*texts), SPEC)
    assert value(loss) == pytest.approx(alone, rel=1e-5)
    loss.backward()
    assert x.grad is not None
    assert all(not x.grad[row, width:].any() and x.grad[row, :width].any() for row, width in enumerate(widths))


@pytest.mark.parametrize("text", [[A, B, C], [A, A]], ids=["too many tokens", "no room for the blank between equal ones"])
def test_a_text_that_the_columns_cannot_hold_adds_nothing(text: list[int]) -> None:
    x = logits(2, 2)
    loss = ctc_loss(x, torch.tensor([2, 2]), targets(text, [A]), SPEC)
    assert value(loss) == pytest.approx(value(ctc_loss(x[1:], torch.tensor([2]), targets([A]), SPEC)), rel=1e-6)
    loss.backward()
    assert x.grad is not None and x.grad.isfinite().all() and not x.grad[0].any() and x.grad[1].any()


def test_rows_of_weight_zero_add_nothing_to_ctc() -> None:
    x = logits(2, 5)
    loss = ctc_loss(x, torch.tensor([5, 1]), targets([A, B], [C, C], without=(1,)), SPEC)
    assert value(loss) == pytest.approx(value(ctc_loss(x[:1], torch.tensor([5]), targets([A, B]), SPEC)), rel=1e-6)
    loss.backward()
    assert x.grad is not None and not x.grad[1].any()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_ctc_has_its_share_of_the_joint_loss_and_counts_whole_alone(weight: float) -> None:
    truth = targets([A, B], [C])
    words, columns, lengths = logits(2, 3), logits(2, 6, seed=1), torch.tensor([6, 4])
    ce, ctc = value(cross_entropy(words, truth)), value(ctc_loss(columns, lengths, truth, SPEC))
    config = LossConfig(ctc_weight=weight)
    joint = sequence_loss(ModelOutput(words, None, columns, lengths), truth, SPEC, config)
    assert value(joint) == pytest.approx((1 - weight) * ce + weight * ctc, rel=1e-6)
    alone = sequence_loss(ModelOutput(None, None, columns, lengths), truth, SPEC, config)
    assert value(alone) == pytest.approx(ctc, rel=1e-6)
    joint.backward()
    assert words.grad is not None and columns.grad is not None, "at any weight: DDP waits for each gradient"


def test_repulsion_counts_per_token() -> None:
    truth = targets([A, B], [C])
    x = logits(2, 3)
    alike = torch.tensor(0.25, requires_grad=True)
    loss = sequence_loss(ModelOutput(x, repulsion=alike), truth, SPEC, LossConfig(repulsion_weight=0.2))
    assert value(loss) == pytest.approx(value(cross_entropy(x, truth)) + 0.2 * 0.25 * 5, rel=1e-6)
    nothing = sequence_loss(ModelOutput(x, repulsion=alike), targets([A, B], [C], without=(0, 1)), SPEC, LossConfig())
    assert value(nothing) == 0, "a rank whose rows are all of weight 0 adds nothing"


def test_half_precision_logits_are_summed_in_float32() -> None:
    truth = targets([A, B], [C])
    x, y = logits(2, 3).detach(), logits(2, 6, seed=1).detach()
    config, lengths = LossConfig(label_smoothing=0.1), torch.tensor([6, 4])
    half = sequence_loss(ModelOutput(x.half(), x.half(), y.half(), lengths), truth, SPEC, config)
    whole = sequence_loss(ModelOutput(x, x, y, lengths), truth, SPEC, config)
    assert half.dtype == torch.float32 and value(half) == pytest.approx(value(whole), rel=1e-3)


def all_heads() -> Recognizer:
    config = ModelConfig()
    config.backbone.small_cnn.width = 4
    config.encoder.embed_dim = config.decoder.embed_dim = 16
    config.encoder.mlp_dim = config.decoder.mlp_dim = 32
    config.decoder.direction, config.ctc.head, config.repulsion = "both", "linear", "heads"
    config.counting.head, config.structure.head = "linear", "nesting"
    torch.manual_seed(0)
    return build_model(config, replace(SPEC, open_ids=(A,), close_ids=(B,))).eval()


@pytest.mark.parametrize(
    "config",
    [
        LossConfig(label_smoothing=0.1),
        LossConfig("focal_cosine", normalize_logits=True),
        LossConfig("cosine", ignore_padding=False),
    ],
    ids=["cross_entropy", "focal_cosine", "cosine"],
)
def test_the_loss_of_a_batch_is_the_sum_of_the_losses_of_its_parts(config: LossConfig) -> None:
    model = all_heads()
    images = torch.randint(0, 256, (5, 1, 32, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([[32, 96], [32, 40], [17, 96], [25, 64], [9, 32]])
    truth = targets([A, B, C], [C], [B, B], [C, A], [A, C])
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0])
    truth = truth._replace(counted=counted_positions(truth.tgt_out, weights, PAD, config.ignore_padding))

    def gradients(parts: list[slice]) -> tuple[float, list[Tensor]]:
        model.zero_grad()
        total = 0.0
        for part in parts:
            some = Targets(truth.tgt_in[part], truth.tgt_out[part], truth.counted[part])
            loss = sequence_loss(model(images[part], some.tgt_in, sizes[part]), some, model.output_spec, config)
            loss.backward()
            total += value(loss)
        return total, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    whole, expected = gradients([slice(0, 5)])
    parts, found = gradients([slice(0, 2), slice(2, 4), slice(4, 5)])
    assert parts == pytest.approx(whole, rel=1e-5)
    assert len(expected) == len(found) == len(list(model.parameters()))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
