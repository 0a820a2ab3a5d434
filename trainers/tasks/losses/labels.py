"""The losses of a classifier, each summed over the targets that count, so that ranks can add theirs up.

In float32, or in float64 where logits are: sums of a validation do not depend on how its rows are spread then.

The number of those targets is a function beside each loss: sum / count is the mean that timm's or torch's loss of that name
gives. Rows of weight 0 and classes that are not known (below 0) do not count.

Legend: B batch, K classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.config.label_loss import LabelLossConfig, MulticlassLossName
from trainers.tasks.losses.class_weights import Presences, Weights
from trainers.tasks.losses.multilabel import criterion

ABSENT = -1e30  # a logit whose exponential is 0, also divided by a temperature


def multilabel_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, config: LabelLossConfig, presences: Presences | None = None
) -> Tensor:
    """The loss of logits (B, K) and how present each label is, `targets` (B, K) from 0 to 1, in rows of `weights` (B,)."""
    ignored = (weights == 0)[:, None]
    # A loss that compares rows sees no label in one that does not count, and certainly none.
    logits = at_least_single(logits).masked_fill(ignored, ABSENT)
    losses = criterion(config, presences, logits.device)(logits, targets.to(logits.dtype).masked_fill(ignored, 0.0))
    return losses.masked_fill(ignored, 0.0).sum()


def multilabel_count(weights: Tensor, num_classes: int) -> Tensor:
    """How many targets `multilabel_loss` is over: pairs of a row and a label, whatever the labels weigh."""
    return (weights != 0).sum().float() * num_classes


def multiclass_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, config: LabelLossConfig, class_weights: Weights | None = None
) -> Tensor:
    """The loss of logits (B, K) and class indices `targets` int64 (B,), or shares of classes (B, K), in rows of `weights`."""
    logits = at_least_single(logits)
    factors = None if class_weights is None else on_device(class_weights, logits.device).to(logits.dtype)
    losses = MULTICLASS_LOSSES[config.multiclass](logits, _known(targets), factors, config)
    return losses.masked_fill(~_counted(targets, weights), 0.0).sum()


def multiclass_count(targets: Tensor, weights: Tensor, class_weights: Weights | None = None) -> Tensor:
    """What `multiclass_loss` is divided by, float: the rows, or the weights of their classes, as torch's weighted mean.

    Mixing (mixup, cutmix) leaves it as it is: rows are mixed in pairs, by one share.
    """
    counted = _counted(targets, weights)
    if class_weights is None:
        return counted.sum().float()
    factors = on_device(class_weights, targets.device)
    row_weights = targets.float() @ factors if targets.dim() == 2 else factors[_known(targets)]
    return row_weights.masked_fill(~counted, 0.0).sum()


def multitask_loss(
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    weights: Tensor,
    config: LabelLossConfig,
    head_weights: Mapping[str, float],
    class_weights: Mapping[str, Weights] | None = None,
    joint: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The mean of the heads' losses by `head_weights`, and label_loss.joint_weight times that of a learned joint class.

    Heads by name, each as in `multiclass_loss`; `joint` are logits and targets of the joint class. The sum is over rows:
    class weights, whose mean over the training split is 1, do not change the count. A term of weight 0 is still a term: DDP
    waits for each gradient.
    """
    own = class_weights or {}
    terms = [
        weight * multiclass_loss(logits[head], targets[head], weights, config, own.get(head))
        for head, weight in head_weights.items()
    ]
    if joint is not None:
        terms.append(config.joint_weight * multiclass_loss(*joint, weights, config))
    return torch.stack(terms).sum()


def multitask_count(weights: Tensor) -> Tensor:
    """How many targets `multitask_loss` is over: the rows that count."""
    return (weights != 0).sum().float()


def joint_indices(targets: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """The joint class of the heads' class indices, each int64 (B,), row-major; -1 where that of a head is not known."""
    joint = torch.zeros_like(targets[0])
    for indices, size in zip(targets, sizes, strict=True):
        joint = joint * size + indices.clamp(min=0)
    return joint.masked_fill(torch.stack([indices < 0 for indices in targets]).any(0), -1)


def cross_entropy(logits: Tensor, targets: Tensor, factors: Tensor | None, config: LabelLossConfig) -> Tensor:
    """-log p of the class, smoothed over all; a row of shares is the mean over its classes: (B,)."""
    return F.cross_entropy(logits, targets, weight=factors, label_smoothing=config.label_smoothing, reduction="none")


def focal(logits: Tensor, targets: Tensor, factors: Tensor | None, config: LabelLossConfig) -> Tensor:
    """(1 - p)^gamma * -log p of the class (Lin et al. 2017), smoothed over all; of shares the mean over their classes: (B,)."""
    num_classes = logits.shape[-1]
    shares = targets.float() if targets.dim() == 2 else F.one_hot(targets, num_classes).float()
    shares = shares * (1 - config.label_smoothing) + config.label_smoothing / num_classes
    log_probs = logits.log_softmax(-1)
    # Where p is 1 to the last digit, a power below 1 has no gradient that is finite.
    missing = (-torch.expm1(log_probs)).clamp(min=torch.finfo(log_probs.dtype).tiny)
    losses = -shares * missing**config.focal_gamma * log_probs
    return (losses if factors is None else losses * factors).sum(-1)


MULTICLASS_LOSSES: dict[MulticlassLossName, Callable[[Tensor, Tensor, Tensor | None, LabelLossConfig], Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
}


@functools.lru_cache(maxsize=64)
def on_device(weights: Weights, device: torch.device) -> Tensor:
    """The weights as a tensor, copied once: each copy from the host would wait for the step before."""
    return torch.tensor(weights, dtype=torch.float32, device=device)


def at_least_single(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 if they are."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _counted(targets: Tensor, weights: Tensor) -> Tensor:
    return (weights != 0) & (targets >= 0) if targets.dim() == 1 else weights != 0


def _known(targets: Tensor) -> Tensor:
    """Class indices with 0 in the place of those that are not known; shares as they are, in float32."""
    return targets.clamp(min=0) if targets.dim() == 1 else targets.float()
