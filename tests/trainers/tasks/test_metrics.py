"""Metrics: against hand-computed values, and adding up over parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.tasks.metrics.base import GroupedMetrics
from trainers.tasks.metrics.sequence import SequenceMetrics, source_wer

TEXTS = st.lists(st.sampled_from(["a", "b", r"\frac", "{", "}"]), max_size=6).map(" ".join)


def grouped() -> GroupedMetrics:
    return GroupedMetrics(SequenceMetrics)


def add(metrics: GroupedMetrics, prediction: str, truth: str, source: str) -> None:
    metrics.add({"prediction": prediction}, {"text": truth}, source)


def test_hand_computed() -> None:
    sums = SequenceMetrics()
    sums.add_text("a b c", "a b c")
    sums.add_text("a x", "a b c")  # one substitution, one deletion
    sums.add_text("", "a")
    averages = sums.averages()
    assert averages["exact_match"] == pytest.approx(1 / 3)
    assert averages["within_1"] == pytest.approx(2 / 3)
    assert averages["within_2"] == 1
    assert averages["wer"] == pytest.approx(3 / 7)
    # The source: words of "a x " are [a, x, ""], of "a b c " [a, b, c, ""]: 2 edits over 4; "" is [""] against [a, ""].
    assert averages["source_wer"] == pytest.approx((0 + 2 / 4 + 1 / 2) / 3)
    assert averages["score"] == pytest.approx(0.9 / 3 + 0.1 * (1 - 1 / 3))


@given(TEXTS, TEXTS)
def test_source_wer_is_a_share_and_zero_only_for_equals(prediction: str, truth: str) -> None:
    rate = source_wer(prediction, truth)
    assert 0 <= rate <= 1
    assert (rate == 0) == (prediction == truth)


@given(st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(["printed", "handwritten"])), max_size=12), st.integers(0, 12))
def test_sums_of_parts_are_the_sums_of_the_whole(samples: list[tuple[str, str, str]], cut: int) -> None:
    whole, first, second = grouped(), grouped(), grouped()
    for index, sample in enumerate(samples):
        add(whole, *sample)
        add(first if index < cut else second, *sample)
    first += second
    assert first.averages("val") == pytest.approx(whole.averages("val"), nan_ok=True)


def test_sources_are_reported_apart_only_where_there_are_several() -> None:
    metrics = grouped()
    add(metrics, "a", "a", "printed")
    assert not any(key.startswith("val/printed") for key in metrics.averages("val"))
    add(metrics, "a", "b", "handwritten")
    averages = metrics.averages("val")
    assert (averages["val/printed/exact_match"], averages["val/handwritten/exact_match"], averages["val/exact_match"]) == (
        1,
        0,
        0.5,
    )
