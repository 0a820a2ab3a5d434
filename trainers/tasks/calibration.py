"""What is tuned on out-of-fold predictions: temperatures and thresholds. Never on the predictions that they are judged by.

Legend: N rows, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.errors import UserError

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

TEMPERATURES = (0.05, 20.0)  # that are tried
DEFAULT_THRESHOLD = 0.5
_SMALLEST = 2.0**-25  # how far from 0 and 1 probabilities are taken to be: float32 has none between 1 and this much less


@dataclass(frozen=True)
class TunedThresholds:
    """A threshold for all classes, one for each class, and the classes that could not have one and keep .5."""

    threshold: float
    thresholds: dict[str, float]
    kept: tuple[str, ...]  # never present, or always, among the rows


def multiclass_temperature(probs: Floats, truth: NDArray[np.integer[Any]]) -> float:
    """The temperature (Guo et al. 2017) with the least -log p of the true classes `truth` (N,), of probabilities (N, K).

    Rows whose truth is below 0, not known, do not count.

    Raises:
        UserError: no row counts, or a probability is NaN.
    """
    known = truth >= 0
    _require(probs[known])
    logits = _log(probs[known])
    rows, labels = np.arange(len(logits)), truth[known]

    def nll(temperature: float) -> float:
        scaled = logits / temperature
        highest = scaled.max(1, keepdims=True)
        totals = highest[:, 0] + np.log(np.exp(scaled - highest).sum(1))
        return float((totals - scaled[rows, labels]).mean())

    return _least(nll)


def multilabel_temperature(probs: Floats, truth: Bools) -> float:
    """The temperature (Guo et al. 2017) with the least binary cross-entropy over all pairs of row and label (N, K).

    Raises:
        UserError: there is no row, or a probability is NaN.
    """
    _require(probs)
    logits = _logits(probs)
    signed = np.where(truth, -logits, logits)
    return _least(lambda temperature: float(np.logaddexp(0.0, signed / temperature).mean()))


def with_temperature(probs: Floats, temperature: float, multilabel: bool) -> Floats:
    """Probabilities (N, K) as `temperature` makes them: float32."""
    if multilabel:
        from scipy.special import expit  # slow to import

        return np.asarray(expit(_logits(probs) / temperature), np.float32)
    scaled = _log(probs) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def tune_thresholds(probs: Floats, truth: Bools, classes: Sequence[str]) -> TunedThresholds:
    """The thresholds with the highest F1: over all pairs of row and label, and of each class, from (N, K).

    Raises:
        UserError: there is no row, or a probability is NaN.
    """
    _require(probs)
    found: dict[str, float] = {}
    kept = []
    for index, name in enumerate(classes):
        if truth[:, index].any() and not truth[:, index].all():
            found[name] = best_threshold(probs[:, index], truth[:, index])
        else:
            kept.append(name)
            found[name] = DEFAULT_THRESHOLD
    return TunedThresholds(best_threshold(probs.ravel(), truth.ravel()), found, tuple(kept))


def best_threshold(scores: Floats, truth: Bools) -> float:
    """Where `score > threshold` has the highest F1, of all cuts between two scores; of equal ones the nearest to .5.

    Strictly between 0 and 1, halfway between two scores as far as float32 has a number there, so that it means the same to
    scores of float32 and float64. Of truths that are all equal it is .5.
    """
    present = int(truth.sum())
    if present in (0, len(truth)):
        return DEFAULT_THRESHOLD
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order].astype(np.float32)
    hits = np.cumsum(truth[order])
    # A cut behind place i predicts the i + 1 highest scores; equal ones stand on the same side of it.
    above, below = ordered, np.append(ordered[1:], np.float32(0))
    cuts = ((above.astype(np.float64) + below) / 2).astype(np.float32)
    cuts = np.where(cuts < above, cuts, below)
    possible = (above > below) & (cuts > 0) & (cuts < 1)
    if not possible.any():
        return DEFAULT_THRESHOLD
    f1 = 2 * hits / (np.arange(1, len(ordered) + 1) + present)
    best = f1[possible].max()
    candidates = cuts[possible & (f1 == best)].astype(np.float64)
    return float(candidates[np.abs(candidates - DEFAULT_THRESHOLD).argmin()])


def _least(loss: Any) -> float:
    from scipy.optimize import minimize_scalar  # slow to import

    low, high = (math.log(value) for value in TEMPERATURES)
    found = minimize_scalar(lambda logarithm: loss(math.exp(logarithm)), bounds=(low, high), method="bounded")
    temperature = math.exp(float(found.x))
    return temperature if loss(temperature) < loss(1.0) else 1.0


def _log(probs: Floats) -> Floats:
    return np.log(np.clip(probs.astype(np.float64), np.finfo(np.float32).tiny, 1.0))


def _logits(probs: Floats) -> Floats:
    shares = np.clip(probs.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.log(shares) - np.log1p(-shares)


def _require(probs: Floats) -> None:
    if not len(probs):
        raise UserError("There is no prediction to tune on. Give out-of-fold predictions of rows whose truth is known.")
    if np.isnan(probs).any():
        raise UserError("A probability to tune on is NaN: the network that predicted it diverged. Train it again.")
