"""Tuning: temperatures are found again, thresholds are the best of all cuts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from cluster.errors import UserError
from trainers.tasks.calibration import (
    best_threshold,
    multiclass_temperature,
    multilabel_temperature,
    tune_thresholds,
    with_temperature,
)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_temperature_is_found_again(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (rng.random((4000, 1)) > true.cumsum(1)).sum(1)
    sharp = with_temperature(true.astype(np.float32), 1 / temperature, multilabel=False)
    found = multiclass_temperature(sharp, truth)
    assert found == pytest.approx(temperature, rel=0.06)
    better = with_temperature(sharp, found, multilabel=False)
    assert better.dtype == np.float32 and better.sum(1) == pytest.approx(1)
    rows = np.arange(len(truth))
    assert -np.log(better[rows, truth]).mean() <= -np.log(sharp[rows, truth]).mean() + 1e-6
    unknown = np.concatenate([truth, [-1]])
    assert multiclass_temperature(np.concatenate([sharp, sharp[:1]]), unknown) == pytest.approx(found)

    present = 1 / (1 + np.exp(-logits))
    labels = rng.random(present.shape) < present
    uncertain = with_temperature(present.astype(np.float32), 1 / temperature, multilabel=True)
    found = multilabel_temperature(uncertain, labels)
    assert found == pytest.approx(temperature, rel=0.06)
    assert with_temperature(uncertain, found, multilabel=True) == pytest.approx(present, abs=0.05)


def test_probabilities_of_0_and_1_have_a_temperature() -> None:
    certain = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    assert 1 < multiclass_temperature(certain, np.array([0, 0, 1, 0])) <= 20.001
    assert multiclass_temperature(certain, np.array([0, 0, 1, 1])) <= 1
    assert 1 < multilabel_temperature(certain, certain.astype(bool)[::-1]) <= 20.001
    for probs in (np.zeros((0, 2), np.float32), np.full((1, 2), np.nan, np.float32)):
        for tune in (
            lambda probs: multiclass_temperature(probs, np.zeros(len(probs), int)),
            lambda probs: multilabel_temperature(probs, probs > 0),
            lambda probs: tune_thresholds(probs, probs > 0, ["a", "b"]),
        ):
            with pytest.raises(UserError, match=r"no prediction to tune on|is NaN"):
                tune(probs)


ROWS = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=150)
@given(ROWS)
@example([(0.0, True), (1e-45, False), (1.0, True)])
@example([(1.0, True), (1.0, False)])
@example([(0.0, True), (0.0, False)])
@example([(0.5, True), (0.49999997, False)])
def test_a_threshold_is_the_best_of_all(rows: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in rows], np.float32)
    truth = np.array([present for _, present in rows])
    found = best_threshold(scores, truth)
    assert 0 < found < 1
    if truth.all() or not truth.any():
        assert found == 0.5
        return
    assert np.array_equal(scores > found, scores > np.float32(found)), "the same in float32 and float64"

    def f1(threshold: float) -> float:
        predicted = scores > threshold
        return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))

    if found == 0.5:
        assert f1(found) == pytest.approx(f1_score(truth, scores > found, zero_division=0))
    tried = [value for low in scores for value in (float(low), float(np.nextafter(low, np.float32(0)))) if 0 < value < 1]
    assert f1(found) == pytest.approx(max([f1(value) for value in [*tried, 0.5]]))


def test_thresholds_of_all_classes() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((500, 4)) < 0.3
    truth[:, 2], truth[:, 3] = False, True
    probs = np.clip(rng.normal(np.where(truth, [0.4, 0.9, 0.5, 0.5], [0.2, 0.6, 0.5, 0.5]), 0.05), 0, 1).astype(np.float32)
    tuned = tune_thresholds(probs, truth, ["low", "high", "never", "always"])
    assert tuned.kept == ("never", "always") and tuned.thresholds["never"] == tuned.thresholds["always"] == 0.5
    assert tuned.thresholds["low"] == pytest.approx(0.3, abs=0.05) and tuned.thresholds["high"] == pytest.approx(0.75, abs=0.05)
    assert 0.2 < tuned.threshold < 0.6 and not math.isnan(tuned.threshold)
    assert list(tuned.thresholds) == ["low", "high", "never", "always"]
    only = tune_thresholds(probs[:, :1], truth[:, :1], ["low"])
    assert only.threshold == only.thresholds["low"]
