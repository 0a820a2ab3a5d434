"""Losses of labels: the means of timm and torch on plain inputs, and sums that add up over micro-batches."""

from __future__ import annotations

import functools
import math
from typing import Any, get_args, get_type_hints

import pytest
import torch
from timm.loss import (
    AsymmetricLossMultiLabel,
    BinaryCrossEntropy,
    DistributionBalancedLoss,
    PolyBinaryCrossEntropy,
    SoftTargetCrossEntropy,
    TwoWayLoss,
    ZlprLoss,
)
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from cluster.errors import UserError
from trainers.config.label_loss import LabelLossConfig
from trainers.tasks.losses.class_weights import Presences, class_weights, head_class_weights, head_weights, presences
from trainers.tasks.losses.labels import (
    MULTICLASS_LOSSES,
    joint_indices,
    multiclass_count,
    multiclass_loss,
    multilabel_count,
    multilabel_loss,
    multitask_count,
    multitask_loss,
)
from trainers.tasks.losses.multilabel import CRITERIA

B, K = 6, 5
CLASSES = ["a", "b", "c", "d", "e"]
ROWS = {"a": 4, "b": 0, "c": 20, "d": 8, "e": 8}  # of 40


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def value(x: Tensor) -> float:
    return float(x.detach())


def labels(seed: int = 1) -> Tensor:
    return (random(B, K, seed=seed) > 0).float()


COUNTS = tuple(ROWS[name] for name in CLASSES)
WEIGHTS = (2.0, 1.0, 0.5, 3.0, 1.0)


@pytest.mark.parametrize(
    ("config", "weighted", "reference"),
    [
        (LabelLossConfig(), False, torch.nn.BCEWithLogitsLoss()),
        (LabelLossConfig(), True, torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(WEIGHTS))),
        (LabelLossConfig(label_smoothing=0.1), False, BinaryCrossEntropy(0.1, smooth_dense=True)),
        (LabelLossConfig("asymmetric"), False, AsymmetricLossMultiLabel(reduction="mean")),
        (
            LabelLossConfig("asymmetric", asymmetric_gamma_negative=2, asymmetric_gamma_positive=0, asymmetric_clip=0.1),
            True,
            AsymmetricLossMultiLabel(2, 0, 0.1, reduction="mean", pos_weight=torch.tensor(WEIGHTS)),
        ),
        (LabelLossConfig("focal"), False, lambda x, y: sigmoid_focal_loss(x, y, reduction="mean")),
        (
            LabelLossConfig("focal", focal_alpha=None, focal_gamma=3),
            False,
            lambda x, y: sigmoid_focal_loss(x, y, -1, 3, reduction="mean"),
        ),
        (LabelLossConfig("poly", poly_epsilon=1), False, PolyBinaryCrossEntropy(1)),
        (LabelLossConfig("distribution_balanced"), False, DistributionBalancedLoss(COUNTS, 40)),
        (LabelLossConfig("zlpr"), False, ZlprLoss()),
        (LabelLossConfig("two_way", two_way_positive=2), False, TwoWayLoss(2, 1)),
        (LabelLossConfig("two_way", two_way_negative=1e4), False, TwoWayLoss(4, 1e4)),
    ],
    ids=lambda value: value.multilabel if isinstance(value, LabelLossConfig) else "",
)
def test_a_multilabel_loss_is_the_mean_of_its_reference(config: LabelLossConfig, weighted: bool, reference: Any) -> None:
    x, y, own = random(B, K).requires_grad_(), labels(), Presences(40, COUNTS, WEIGHTS if weighted else None)
    weights = torch.tensor([1.0, 1, 0, 1, 1, 0])
    counted = weights != 0
    expected = reference(x[counted], y[counted])
    loss, count = multilabel_loss(x, y, weights, config, own), multilabel_count(weights, K)
    assert count == 4 * K and loss.dtype == torch.float32
    assert value(loss / count) == pytest.approx(value(expected), rel=1e-6)
    if config.multilabel != "two_way":  # which compares rows
        parts = [multilabel_loss(x[i : i + 2], y[i : i + 2], weights[i : i + 2], config, own) for i in range(0, B, 2)]
        assert value(sum(parts, torch.zeros(()))) == pytest.approx(value(loss), rel=1e-6)
    half = multilabel_loss(x.half(), y, weights, config, own)
    assert half.dtype == torch.float32 and value(half) == pytest.approx(value(loss), rel=1e-2)
    loss.backward()
    assert x.grad is not None and torch.isfinite(x.grad).all() and not x.grad[~counted].any() and x.grad[counted].any()


def soft(seed: int = 2) -> Tensor:
    return random(B, K, seed=seed).softmax(-1)


INDICES = torch.tensor([0, 2, 4, 3, 2, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("own", [None, WEIGHTS], ids=["equal", "weighted"])
def test_cross_entropy_is_torchs_weighted_mean(smoothing: float, own: tuple[float, ...] | None) -> None:
    x, weights = random(B, K).requires_grad_(), torch.tensor([1.0, 1, 0, 1, 1, 1])
    targets = INDICES.clone()
    targets[5] = -1  # a class that is not known
    config = LabelLossConfig(label_smoothing=smoothing)
    kept = [0, 1, 3, 4]
    expected = F.cross_entropy(x[kept], targets[kept], None if own is None else torch.tensor(own), label_smoothing=smoothing)
    loss, count = multiclass_loss(x, targets, weights, config, own), multiclass_count(targets, weights, own)
    assert value(loss / count) == pytest.approx(value(expected), rel=1e-6)
    parts = [slice(0, 1), slice(1, 4), slice(4, 6)]
    assert sum(value(multiclass_loss(x[p], targets[p], weights[p], config, own)) for p in parts) == pytest.approx(value(loss))
    assert sum(value(multiclass_count(targets[p], weights[p], own)) for p in parts) == pytest.approx(float(count))
    loss.backward()
    assert x.grad is not None and not x.grad[[2, 5]].any() and x.grad[kept].any()
    # One-hot shares are the same.
    one_hot = F.one_hot(targets.clamp(min=0), K).float()
    weights[5] = 0
    assert value(multiclass_loss(x, one_hot, weights, config, own)) == pytest.approx(value(loss), rel=1e-6)
    assert float(multiclass_count(one_hot, weights, own)) == pytest.approx(float(count))


def test_shares_of_classes_are_timms_soft_targets() -> None:
    x, y, weights = random(B, K), soft(), torch.ones(B)
    loss = multiclass_loss(x, y, weights, LabelLossConfig())
    assert float(loss / multiclass_count(y, weights)) == pytest.approx(float(SoftTargetCrossEntropy()(x, y)), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_the_cross_entropy_times_a_power_of_what_is_missing(gamma: float) -> None:
    x, weights = random(B, K), torch.ones(B)
    config = LabelLossConfig(multiclass="focal", focal_gamma=gamma)
    plain = F.cross_entropy(x, INDICES, reduction="none")
    expected = ((1 - torch.exp(-plain)) ** gamma * plain).sum()
    assert value(multiclass_loss(x, INDICES, weights, config)) == pytest.approx(value(expected), rel=1e-6)
    assert value(multiclass_loss(x, F.one_hot(INDICES, K), weights, config)) == pytest.approx(value(expected), rel=1e-6)
    mixed = 0.3 * F.one_hot(INDICES, K) + 0.7 * F.one_hot(INDICES.flip(0), K)
    parts = [(INDICES, 0.3), (INDICES.flip(0), 0.7)]
    by_share = sum(value(multiclass_loss(x, targets, weights, config)) * share for targets, share in parts)
    assert value(multiclass_loss(x, mixed, weights, config)) == pytest.approx(by_share, rel=1e-6)
    certain = torch.tensor([[200.0, 0, 0, 0, 0]]).requires_grad_()
    multiclass_loss(certain, torch.tensor([0]), torch.ones(1), config).backward()
    assert certain.grad is not None and torch.isfinite(certain.grad).all()


def test_multitask_is_the_mean_of_the_heads_and_the_joint_class() -> None:
    heads = {"mask": ["worn", "wrong", "none"], "gender": ["m", "f"]}
    logits = {"mask": random(B, 3), "gender": random(B, 2, seed=1)}
    targets = {"mask": torch.tensor([0, 1, 2, 0, 1, 2]), "gender": torch.tensor([0, 1, 0, 1, 0, 1])}
    weights = torch.tensor([1.0, 1, 1, 1, 0, 1])
    joint = (random(B, 6, seed=2), joint_indices([targets["mask"], targets["gender"]], [3, 2]))
    assert joint[1].tolist() == [0, 3, 4, 1, 2, 5]
    assert joint_indices([torch.tensor([0, -1, 2]), torch.tensor([1, 0, -1])], [3, 2]).tolist() == [1, -1, -1]
    kept = weights != 0
    means = {head: float(F.cross_entropy(logits[head][kept], targets[head][kept])) for head in heads}
    together = float(F.cross_entropy(joint[0][kept], joint[1][kept]))
    for config, shares in (
        (LabelLossConfig(), {"mask": 0.5, "gender": 0.5}),
        (LabelLossConfig(heads={"mask": 3}, joint_weight=0.25), {"mask": 0.75, "gender": 0.25}),
        (LabelLossConfig(heads={"mask": 0}), {"mask": 0.0, "gender": 1.0}),
        (LabelLossConfig(heads={"mask": 0, "gender": 0}), {"mask": 0.0, "gender": 0.0}),
    ):
        own = head_weights(config, list(heads), learns_joint=True)
        assert own == shares
        mean = multitask_loss(logits, targets, weights, config, own, None, joint) / multitask_count(weights)
        expected = sum(shares[head] * means[head] for head in heads) + config.joint_weight * together
        assert float(mean) == pytest.approx(expected, rel=1e-6)
    for joint_weight, learns_joint in ((0, True), (1, False)):  # a joint class that is a product has no loss
        with pytest.raises(UserError, match=r"label_loss\.heads: every head has the weight 0"):
            head_weights(LabelLossConfig(heads={"mask": 0, "gender": 0}, joint_weight=joint_weight), list(heads), learns_joint)
    with pytest.raises(UserError, match=r"label_loss\.heads\.age: the dataset has no such head. It has \[mask, gender\]"):
        head_weights(LabelLossConfig(heads={"age": 2}), list(heads), learns_joint=True)
    rows = {"mask": {"worn": 60, "wrong": 30, "none": 10}, "gender": {"m": 50, "f": 50}}
    own_classes = head_class_weights(LabelLossConfig(class_weights="balanced"), heads, rows)
    assert own_classes["mask"] == pytest.approx((100 / 180, 100 / 90, 100 / 30)) and own_classes["gender"] == pytest.approx(
        (1, 1)
    )
    doubled = head_class_weights(LabelLossConfig(weights={"mask.none": 2}), heads, rows)
    assert doubled == {"mask": pytest.approx((100 / 110, 100 / 110, 200 / 110))}
    assert head_class_weights(LabelLossConfig(), heads, rows) == {}
    with pytest.raises(UserError, match=r"label_loss\.weights\.none: the dataset has no such class \(HEAD.CLASS\)"):
        head_class_weights(LabelLossConfig(weights={"none": 2}), heads, rows)


def test_weights_of_classes() -> None:
    assert class_weights(LabelLossConfig(), CLASSES, ROWS) is None
    balanced = class_weights(LabelLossConfig(class_weights="balanced"), CLASSES, ROWS)
    assert balanced is not None and min(balanced) == 1
    # Inverse to the rows of the class; one without rows as one with one.
    assert balanced == pytest.approx(tuple(20 / max(count, 1) for count in COUNTS))
    given = class_weights(LabelLossConfig(weights={"a": 0, "c": 0.5}), CLASSES, ROWS)
    assert given == (0, 2, 1, 2, 2)
    own = presences(LabelLossConfig(class_weights="balanced", weights={"c": 3}), CLASSES, ROWS, 40)
    assert own == Presences(40, COUNTS, (9.0, 40.0, 3.0, 4.0, 4.0))
    assert presences(LabelLossConfig(), CLASSES, ROWS, 40) == Presences(40, COUNTS)
    for make in (class_weights, functools.partial(presences, rows=40)):
        with pytest.raises(UserError, match=r"label_loss\.weights\.x y: the dataset has no such class. It has \[a, b, c"):
            make(LabelLossConfig(weights={"x y": 1}), CLASSES, ROWS)
        with pytest.raises(UserError, match=r"label_loss\.weights: every class has the weight 0"):
            make(LabelLossConfig(weights=dict.fromkeys(CLASSES, 0.0)), CLASSES, ROWS)


def test_a_guess_at_random_has_the_loss_of_one() -> None:
    x, weights = torch.zeros(B, K), torch.ones(B)
    assert float(multilabel_loss(x, labels(), weights, LabelLossConfig())) / (B * K) == pytest.approx(math.log(2))
    assert value(multiclass_loss(x, INDICES, weights, LabelLossConfig())) / B == pytest.approx(math.log(K))


def test_every_loss_is_listed_once() -> None:
    hints = get_type_hints(LabelLossConfig)
    assert tuple(CRITERIA) == get_args(hints["multilabel"]) and tuple(MULTICLASS_LOSSES) == get_args(hints["multiclass"])
