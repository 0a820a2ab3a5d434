"""The losses of a decoder at each position: against values written out by hand, and the mean forms of their sources."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from models import OutputSpec
from tests.support.batches import BRACES, text_batch
from tests.support.configurations import tiny_small
from tests.support.sequence_tasks import CPU, network_of
from trainers.config.loss import TokenLossName
from trainers.engine.evaluation import evaluate_batch
from trainers.tasks.device_batch import DeviceBatch, to_device
from trainers.tasks.losses import LossConfig, without_training_terms
from trainers.tasks.losses.tokens import TOKEN_LOSSES, token_loss
from trainers.tasks.metrics.base import GroupedMetrics
from trainers.tasks.sequence import SequenceTask

BOS, EOS, PAD, A, B = range(5)
SPEC = OutputSpec(num_classes=5, bos_id=BOS, eos_id=EOS, pad_id=PAD, max_length=8)
# "a", its <eos>, and one <pad>.
LABELS = torch.tensor([[A, EOS, PAD]])
LOGITS = torch.tensor([[[0.0, 0.0, 0.0, 3.0, 4.0], [1.0, 2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]]])
EVERYWHERE = torch.ones(1, 3, dtype=torch.bool)
TOKENS = torch.tensor([[True, True, False]])


def loss(counted: Tensor = EVERYWHERE, logits: Tensor = LOGITS, **settings: Any) -> float:
    return float(token_loss(logits, LABELS, counted, SPEC, LossConfig(**settings)))


def test_focal_by_hand() -> None:
    # p of the labels: e^3 / (3 + e^3 + e^4), e^2 / (2 + e + 2 e^2), e / (4 + e).
    p = [0.258556, 0.378996, 0.404610]
    by_hand = [0.5 * (1 - x) ** 2 * -math.log(x) for x in p]
    assert by_hand == pytest.approx([0.371800, 0.187083, 0.160377], rel=1e-5)
    assert loss(name="focal", focal_alpha=0.5) == pytest.approx(sum(by_hand), rel=1e-4)
    assert loss(TOKENS, name="focal", focal_alpha=0.5) == pytest.approx(by_hand[0] + by_hand[1], rel=1e-4)
    assert loss(name="focal", focal_gamma=0.0) == pytest.approx(loss(), rel=1e-6), "gamma 0 is the cross-entropy"


def test_focal_over_logits_of_length_one_by_hand() -> None:
    # Lengths 5, 3, 1: e^.6 / (3 + e^.6 + e^.8) and so on.
    p = [1.82212 / (3 + 1.82212 + 2.22554), 1.94773 / (2 + 1.39561 + 2 * 1.94773), 2.71828 / (4 + 2.71828)]
    by_hand = sum((1 - x) ** 2 * -math.log(x) for x in p)
    assert loss(name="focal", normalize_logits=True) == pytest.approx(by_hand, rel=1e-5)


def test_cosine_by_hand() -> None:
    included = [1 - 3 / 5, 1 - 2 / 3, 1 - 1 / 1]
    assert loss(name="cosine", special_tokens="included") == pytest.approx(sum(included), rel=1e-6)
    # Without special tokens there is "a" alone, and its logits lose nothing: (0, 0, 0, 3, 4).
    assert loss(name="cosine", special_tokens="excluded") == pytest.approx(0.4, rel=1e-6)
    louder = LOGITS.clone()
    louder[0, 0, EOS] = 12.0  # the length is 13 with it, 5 without
    assert loss(logits=louder, name="cosine", special_tokens="excluded") == pytest.approx(0.4, rel=1e-6)
    assert loss(logits=louder, name="cosine", special_tokens="included") == pytest.approx(1 - 3 / 13 + 1 / 3, rel=1e-6)


def test_focal_cosine_with_specials_and_pad_is_the_mean_form_of_its_source() -> None:
    # 0.1 * mean(1 - cos) + mean(focal over normalized logits), both over all three positions.
    cosine = (0.4 + 1 / 3 + 0.0) / 3
    focal = loss(name="focal", normalize_logits=True) / 3
    config: dict[str, Any] = {"name": "focal_cosine", "normalize_logits": True, "special_tokens": "included"}
    assert loss(**config) / 3 == pytest.approx(0.1 * cosine + focal, rel=1e-6)
    one_hot = F.one_hot(LABELS, 5).float()
    torchs = 0.1 * (1 - F.cosine_similarity(LOGITS, one_hot, dim=-1)).mean()
    assert loss(**config) / 3 - focal == pytest.approx(float(torchs), rel=1e-5)
    # Specials excluded: still divided by all positions that count.
    assert loss(**config | {"special_tokens": "excluded"}) / 3 == pytest.approx(0.1 * 0.4 / 3 + focal, rel=1e-6)


def test_label_smoothing_and_pad_in_the_cross_entropy() -> None:
    log_probs = LOGITS.log_softmax(-1)[0]
    plain = [-float(log_probs[t, label]) for t, label in enumerate((A, EOS, PAD))]
    assert loss(TOKENS) == pytest.approx(plain[0] + plain[1], rel=1e-6)
    assert loss(EVERYWHERE) == pytest.approx(sum(plain), rel=1e-6), "counted: PAD is a label"
    smoothed = [0.9 * x - 0.1 * float(log_probs[t].mean()) for t, x in enumerate(plain)]
    assert loss(TOKENS, label_smoothing=0.1) == pytest.approx(smoothed[0] + smoothed[1], rel=1e-6)


@pytest.mark.parametrize("name", TOKEN_LOSSES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_losses_are_finite_not_negative_and_have_no_gradient_where_nothing_counts(
    name: TokenLossName, data: st.DataObject
) -> None:
    scale = data.draw(st.sampled_from([0.0, 1.0, 30.0, 1e4]))
    config = LossConfig(
        name,
        focal_gamma=data.draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])),
        normalize_logits=data.draw(st.booleans()),
        special_tokens=data.draw(st.sampled_from(["excluded", "included"])),
    )
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    x = (scale * torch.randn(2, 4, 5, generator=generator)).requires_grad_()
    labels = torch.randint(0, 5, (2, 4), generator=generator)
    counted = torch.rand(2, 4, generator=generator) < 0.5
    value = token_loss(x, labels, counted, SPEC, config)
    value.backward()
    assert x.grad is not None and x.grad.isfinite().all() and value.isfinite() and value >= -1e-5
    assert not x.grad[~counted].any()


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_each_loss_falls_as_the_label_gains(name: TokenLossName) -> None:
    labels = torch.tensor([[A, B]])
    config, counted = LossConfig(name), torch.ones(1, 2, dtype=torch.bool)
    values = [float(token_loss(x * F.one_hot(labels, 5) + 0.3, labels, counted, SPEC, config)) for x in (0.0, 1.0, 2.0, 8.0)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.3 * values[0]


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (LossConfig(focal_alpha=0.0), ["loss.focal_alpha=0.0", "above 0"]),
        (LossConfig(focal_gamma=-1.0), ["loss.focal_gamma=-1.0", "not negative"]),
        (LossConfig(cosine_weight=math.nan), ["loss.cosine_weight=nan", "not negative"]),
        (LossConfig(counting_weight=-1.0), ["loss.counting_weight=-1.0", "not negative"]),
        (LossConfig(structure_weight=math.inf), ["loss.structure_weight=inf", "not negative"]),
        (LossConfig(label_smoothing=1.0), ["loss.label_smoothing=1.0", "from 0 to below 1"]),
        (LossConfig("focal", label_smoothing=0.1), ["loss.label_smoothing=0.1", "cross_entropy"]),
        (LossConfig("cosine"), ["loss.special_tokens=excluded", "<eos>", "included"]),
        (LossConfig(ctc_weight=1.1), ["loss.ctc_weight=1.1", "from 0 to 1"]),
    ],
)
def test_bad_values_are_named(config: LossConfig, parts: list[str]) -> None:
    (message,) = config.validate()
    assert all(part in message for part in parts), message


def test_good_values_have_no_problems() -> None:
    assert LossConfig().validate() == LossConfig("focal_cosine", ignore_padding=False, normalize_logits=True).validate() == []
    assert LossConfig("cosine", special_tokens="included").validate() == []


def batch_of(texts: list[str], weights: list[float]) -> DeviceBatch:
    return to_device(text_batch(texts, weights, tokenizer=BRACES, size=(64, 64)), CPU)


@pytest.mark.parametrize(("ignore_padding", "expected"), [(True, 4 + 2), (False, 4 + 4)])
def test_rows_of_weight_zero_never_count_and_pad_counts_if_it_should(ignore_padding: bool, expected: int) -> None:
    tensors = batch_of(["a b a", "a", "b b"], [1.0, 1.0, 0.0])
    task = SequenceTask(BRACES, 8, network=tiny_small(), loss=LossConfig(ignore_padding=ignore_padding))
    assert int(task.target_count(tensors)) == expected and not task.counted(tensors)[2].any()
    model = network_of(task).eval()
    two = replace(batch_of(["a b a", "a"], [1.0, 1.0]), images=tensors.images[:2])
    total = float(task.loss_sum(model, tensors).detach())
    assert total == pytest.approx(float(task.loss_sum(model, two).detach()), rel=1e-5)
    log_probs = model(two.images, two.targets["tokens"][:, :-1], two.sizes).logits.log_softmax(-1)
    labels = two.targets["tokens"][:, 1:]
    by_hand = -log_probs.gather(2, labels[..., None])[..., 0][(labels != PAD) | (not ignore_padding)].sum()
    assert total == pytest.approx(float(by_hand.detach()), rel=1e-5)


def test_validation_reports_one_loss_whatever_is_trained() -> None:
    config = tiny_small()
    config.counting.head, config.structure.head, config.repulsion = "linear", "nesting", "heads"
    model = network_of(SequenceTask(BRACES, 8, network=config)).eval()
    batch = text_batch(["a b { a }", "a", "b b"], [1.0, 1.0, 0.0], tokenizer=BRACES, size=(64, 64))
    tensors = to_device(batch, CPU)
    output = model(tensors.images[:2], tensors.targets["tokens"][:2, :-1], tensors.sizes[:2])
    labels = tensors.targets["tokens"][:2, 1:]
    plain = F.cross_entropy(output.logits.flatten(0, 1), labels.flatten(), ignore_index=PAD, reduction="sum")
    for arm in (
        LossConfig(label_smoothing=0.1),
        LossConfig("focal_cosine", ignore_padding=False),
        LossConfig("cosine", ignore_padding=False),
    ):
        task = SequenceTask(BRACES, 8, network=config, loss=arm).for_validation()
        metrics = GroupedMetrics(task.new_metrics)
        evaluate_batch(model, task, batch, tensors, metrics)
        assert metrics.loss_sum == pytest.approx(float(plain.detach()), rel=1e-5)
        assert metrics.loss_count == 6 + 2
    assert without_training_terms(LossConfig("focal", ctc_weight=0.7)).ctc_weight == 0.7
