from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.prediction.label_doctor import cleanlab_method
from trainers.prediction.label_doctor.confident_learning import class_thresholds, suggest


def noisy(rows: int, classes: int, noise: float, seed: int, separation: float = 5) -> tuple[np.ndarray, ...]:
    """Labels, probabilities and the truth of rows, of which a share `noise` is labeled wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) * 1.5
    logits[np.arange(rows), truth] += separation
    probs = np.exp(logits)
    labels = np.where(rng.random(rows) < noise, (truth + rng.integers(1, classes, rows)) % classes, truth)
    return labels, probs / probs.sum(1, keepdims=True), truth


@pytest.mark.parametrize(("classes", "noise"), [(2, 0.02), (5, 0.03), (18, 0.1)])
def test_planted_errors_are_found_and_cleanlab_finds_the_same(classes: int, noise: float) -> None:
    labels, probs, truth = noisy(3_000, classes, noise, seed=classes)
    found = suggest(labels, probs)
    flagged, wrong = found != labels, labels != truth
    assert (flagged & wrong).sum() / flagged.sum() >= 0.8, "precision"
    assert (flagged & wrong).sum() / wrong.sum() >= 0.75, "recall"
    assert (found[flagged & wrong] == truth[flagged & wrong]).mean() >= 0.95, "what is suggested"
    theirs = cleanlab_method.suggest(labels, probs)
    both = (flagged & (theirs != labels)).sum()
    assert both / (flagged | (theirs != labels)).sum() >= 0.75


def test_a_class_that_is_predicted_with_little_confidence_is_not_suspected_as_a_whole() -> None:
    labels = np.array([0] * 50 + [1] * 50)
    probs = np.concatenate([np.tile([0.95, 0.05], (50, 1)), np.tile([0.55, 0.45], (50, 1))])  # class 1: never more than .45
    assert (suggest(labels, probs) == labels).all()
    probs[99] = [0.97, 0.03]
    assert np.flatnonzero(suggest(labels, probs) != labels).tolist() == [99]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 10_000))
def test_what_is_suggested_is_more_probable_than_the_label_and_a_class_that_some_row_has(
    rows: int, classes: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels, probs = rng.integers(0, classes, rows), rng.dirichlet(np.full(classes, 0.3), rows)
    found, every = suggest(labels, probs), np.arange(rows)
    changed = found != labels
    assert (probs[every, found] > probs[every, labels])[changed].all()
    assert set(found[changed]) <= set(labels)
    order = rng.permutation(rows)
    assert (suggest(labels[order], probs[order]) == found[order]).all(), "the order of the rows does not count"
    names = rng.permutation(classes)
    renamed = np.empty_like(probs)
    renamed[:, names] = probs
    assert (suggest(names[labels], renamed) == names[found]).all(), "nor that of the classes"


def test_thresholds_are_mean_self_confidences() -> None:
    thresholds = class_thresholds(np.array([0, 0, 2]), np.array([[0.9, 0.1, 0], [0.5, 0.5, 0], [0.2, 0, 0.8]]))
    assert thresholds.tolist() == [pytest.approx(0.7), math.inf, pytest.approx(0.8)]


def test_of_one_class_nothing_is_wrong() -> None:
    for method in (suggest, cleanlab_method.suggest):
        labels = np.zeros(5, np.int64)
        assert method(labels, np.tile([0.1, 0.9], (5, 1))).tolist() == [0] * 5
        assert not len(method(labels[:0], np.zeros((0, 2))))
