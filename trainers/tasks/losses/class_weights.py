"""Weights of classes and heads in the losses of a classifier, from its configuration and the rows of its training split.

They are tuples of numbers: a task that holds them compares, hashes and pickles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cluster.errors import UserError
from trainers.config.label_loss import LabelLossConfig
from trainers.tasks.known_names import require_known

Weights = tuple[float, ...]  # in the order of the classes


class Presences(NamedTuple):
    """How often each label is present in `rows` training rows, and the weights of its presences, if any."""

    rows: int
    by_class: tuple[int, ...]
    weights: Weights | None = None


def class_weights(config: LabelLossConfig, classes: Sequence[str], class_rows: Mapping[str, int]) -> Weights | None:
    """The weight of each class of a multi-class task; None where all are equal.

    The smallest that is not 0 is 1: a weighted mean depends on their ratios alone, and so its denominator, the sum of the
    weights, is 1 at least wherever anything counts.

    Raises:
        UserError: `label_loss.weights` names a class that there is not, or has no class count.
    """
    require_known("label_loss.weights", config.weights, classes, "class")
    found = _weights(config, classes, class_rows, config.weights)
    if found is None:
        return None
    smallest = min(weight for weight in found if weight > 0)
    return tuple(weight / smallest for weight in found)


def head_class_weights(
    config: LabelLossConfig, heads: Mapping[str, Sequence[str]], class_rows: Mapping[str, Mapping[str, int]]
) -> dict[str, Weights]:
    """The weights of the classes of each head of a multi-task model; a head without any is left out.

    Their mean over the rows of the training split is 1: heads share one denominator, the number of rows.

    Raises:
        UserError: `label_loss.weights` names a class that there is not, or lets no class of a head count.
    """
    names = [f"{head}.{name}" for head, classes in heads.items() for name in classes]
    require_known("label_loss.weights", config.weights, names, "class (HEAD.CLASS)")
    found = {}
    for head, classes in heads.items():
        factors = {name: config.weights[f"{head}.{name}"] for name in classes if f"{head}.{name}" in config.weights}
        rows = class_rows.get(head, {})
        weights = _weights(config, classes, rows, factors, f" of head '{head}'")
        if weights is not None:
            counted = [max(rows.get(name, 0), 0) for name in classes]
            total = sum(weight * count for weight, count in zip(weights, counted, strict=True))
            scale = sum(counted) / total if total > 0 else 1.0
            found[head] = tuple(weight * scale for weight in weights)
    return found


def presences(config: LabelLossConfig, classes: Sequence[str], class_rows: Mapping[str, int], rows: int) -> Presences:
    """How often each label of a multi-label task is present in `rows` training rows, and the weights of its presences.

    Raises:
        UserError: `label_loss.weights` names a class that there is not, or lets no class count.
    """
    require_known("label_loss.weights", config.weights, classes, "class")
    by_class = tuple(class_rows.get(name, 0) for name in classes)
    if config.class_weights == "none" and not config.weights:
        return Presences(rows, by_class)
    balanced = config.class_weights == "balanced"
    weights = tuple(
        config.weights.get(name, 1.0) * (max(rows - count, 1) / max(count, 1) if balanced else 1.0)
        for name, count in zip(classes, by_class, strict=True)
    )
    _require_some("label_loss.weights", weights, "class")
    return Presences(rows, by_class, weights)


def head_weights(config: LabelLossConfig, heads: Sequence[str], learns_joint: bool) -> dict[str, float]:
    """The share of each head in the mean of the heads' losses: they add up to 1, or are all 0 beside a joint class's loss.

    Raises:
        UserError: `label_loss.heads` names a head that there is not, or nothing at all would be trained.
    """
    require_known("label_loss.heads", config.heads, heads, "head")
    weights = [config.heads.get(head, 1.0) for head in heads]
    if not (learns_joint and config.joint_weight):
        _require_some("label_loss.heads", weights, "head")
    total = sum(weights) or 1.0
    return {head: weight / total for head, weight in zip(heads, weights, strict=True)}


def _weights(
    config: LabelLossConfig,
    classes: Sequence[str],
    class_rows: Mapping[str, int],
    factors: Mapping[str, float],
    of: str = "",
) -> Weights | None:
    """Factors of classes, times rows / (classes that occur * rows of the class) where they are balanced."""
    if config.class_weights == "none" and not factors:
        return None
    rows = [class_rows.get(name, 0) for name in classes]
    occurring = sum(count > 0 for count in rows) or 1
    # A class that does not occur gets the weight of one that does once: it will not be used, and it is finite.
    balanced = [sum(rows) / (occurring * max(count, 1)) if config.class_weights == "balanced" else 1.0 for count in rows]
    found = tuple(factors.get(name, 1.0) * (weight or 1.0) for name, weight in zip(classes, balanced, strict=True))
    _require_some("label_loss.weights", found, f"class{of}")
    return found


def _require_some(key: str, weights: Sequence[float], kind: str) -> None:
    if not any(weight > 0 for weight in weights):
        raise UserError(f"{key}: every {kind} has the weight 0, so nothing would be trained. Give one a weight above 0.")
