"""The losses of several labels: timm's and torchvision's, without reduction.

Both are imported where one is made: they take a second. Legend: B batch, K labels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainers.config.label_loss import LabelLossConfig, MultilabelLossName
from trainers.tasks.losses.class_weights import Presences

# Logits float32 (B, K) and targets (B, K) from 0 to 1 to losses (B, K).
Criterion = Callable[[Tensor, Tensor], Tensor]

_made: dict[tuple[str, Presences | None, torch.device], Criterion] = {}


def criterion(config: LabelLossConfig, presences: Presences | None, device: torch.device) -> Criterion:
    """The configured loss, made once for each device: its constants are copied from the host, which waits for the device."""
    key = (repr(config), presences, device)
    if key not in _made:
        with torch.device(device):
            _made[key] = CRITERIA[config.multilabel](config, presences)
    return _made[key]


def _weights(presences: Presences | None) -> Tensor | None:
    return None if presences is None or presences.weights is None else torch.tensor(presences.weights)


def _bce(config: LabelLossConfig, presences: Presences | None) -> Criterion:
    from timm.loss import BinaryCrossEntropy

    return BinaryCrossEntropy(config.label_smoothing, reduction="none", pos_weight=_weights(presences), smooth_dense=True)


def _asymmetric(config: LabelLossConfig, presences: Presences | None) -> Criterion:
    from timm.loss import AsymmetricLossMultiLabel

    return AsymmetricLossMultiLabel(
        config.asymmetric_gamma_negative,
        config.asymmetric_gamma_positive,
        config.asymmetric_clip,
        smoothing=config.label_smoothing,
        reduction="none",
        pos_weight=_weights(presences),
    )


class _Focal(nn.Module):
    """torchvision's focal loss, with targets smoothed towards .5 as timm's losses do."""

    def __init__(self, config: LabelLossConfig) -> None:
        super().__init__()
        from torchvision.ops import sigmoid_focal_loss

        self._loss = sigmoid_focal_loss
        self._smoothing, self._gamma = config.label_smoothing, config.focal_gamma
        self._alpha = -1.0 if config.focal_alpha is None else config.focal_alpha  # torchvision's word for none

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        targets = targets * (1 - self._smoothing) + self._smoothing / 2
        return self._loss(logits, targets, self._alpha, self._gamma, "none")


def _focal(config: LabelLossConfig, presences: Presences | None) -> Criterion:
    return _Focal(config)


def _poly(config: LabelLossConfig, presences: Presences | None) -> Criterion:
    from timm.loss import PolyBinaryCrossEntropy

    return PolyBinaryCrossEntropy(config.poly_epsilon, smoothing=config.label_smoothing, reduction="none")


def _distribution_balanced(config: LabelLossConfig, presences: Presences | None) -> Criterion:
    from timm.loss import DistributionBalancedLoss

    assert presences is not None, "the task hands in how often each label is present"
    rows = max(presences.rows, 2)
    return DistributionBalancedLoss(
        presences.by_class, rows, focal_gamma=config.focal_gamma, smoothing=config.label_smoothing, reduction="none"
    )


class _Zlpr(nn.Module):
    """timm's ZLPR, whose mean over rows is taken of each row apart; a row's loss stands at each of its labels."""

    def __init__(self) -> None:
        super().__init__()
        from timm.loss import ZlprLoss

        self._loss = torch.vmap(ZlprLoss())

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._loss(logits[:, None], targets[:, None])[:, None].expand_as(logits)


def _zlpr(config: LabelLossConfig, presences: Presences | None) -> Criterion:
    return _Zlpr()


class _TwoWay(nn.Module):
    """timm's two-way loss, which is one number for all rows: it stands at each label of each."""

    def __init__(self, config: LabelLossConfig) -> None:
        super().__init__()
        from timm.loss import TwoWayLoss

        self._loss = TwoWayLoss(config.two_way_positive, config.two_way_negative)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._loss(logits, targets).expand_as(logits)


def _two_way(config: LabelLossConfig, presences: Presences | None) -> Criterion:
    return _TwoWay(config)


CRITERIA: dict[MultilabelLossName, Callable[[LabelLossConfig, Presences | None], Criterion]] = {
    "bce": _bce,
    "asymmetric": _asymmetric,
    "focal": _focal,
    "poly": _poly,
    "distribution_balanced": _distribution_balanced,
    "zlpr": _zlpr,
    "two_way": _two_way,
}
