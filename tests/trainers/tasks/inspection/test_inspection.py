"""What a report shows of a classifier's predictions: the numbers are those that a person counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.tasks.inspection.attention_weights import attention_matrix
from trainers.tasks.inspection.class_metrics import class_bars
from trainers.tasks.inspection.confusion import KEPT, OTHERS, confused_pairs, confusion_matrices
from trainers.tasks.inspection.error_pairs import LIMIT, NOISE, error_matrix, error_pairs, joint_errors
from trainers.tasks.inspection.mistakes import most_certain, wrong_class, wrong_label
from trainers.tasks.inspection.reliability import reliability
from trainers.tasks.inspection.threshold_curves import threshold_curves
from trainers.tasks.metrics.scores import BINS
from trainers.tasks.presentation import Table

ABC = ["a", "b", "c"]


def test_the_confusion_of_few_classes_is_shown_whole() -> None:
    counts = np.array([[3, 1, 0], [0, 0, 0], [1, 2, 5]])
    (matrix,) = confusion_matrices(ABC, counts, "Confusion")
    assert matrix.values.tolist() == counts.tolist() and list(matrix.rows) == list(matrix.columns) == ABC
    # Shares of the row, errors with the other sign; a class without rows has none.
    assert matrix.shades.tolist() == [[0.75, -0.25, 0], [0, 0, 0], [-0.125, -0.25, 0.625]]
    assert confused_pairs(ABC, counts, 2) == [("c", "b", 2, "25.0 %"), ("a", "b", 1, "25.0 %")]
    assert confused_pairs(ABC, np.eye(3, dtype=int), 5) == [], "nothing is confused"


@pytest.mark.parametrize("size", [31, 100, 1000])
def test_of_many_classes_the_most_confused_are_shown_with_numbers(size: int) -> None:
    names = [f"class {index}" for index in range(size)]
    counts = np.diag(np.full(size, 10))
    counts[5, 30], counts[30, 5], counts[2, 3] = 7, 4, 3
    reduced, whole = confusion_matrices(names, counts, "Confusion")
    assert list(reduced.rows) == ["class 2", "class 3", "class 5", "class 30", OTHERS]
    assert reduced.values.sum() == counts.sum() and whole.values.shape == (size, size)
    assert reduced.values[2, 3] == 7 and reduced.values[3, 2] == 4 and reduced.values[4, 4] == 10 * (size - 4)
    assert reduced.shades[2].tolist() == [0, 0, 10 / 17, -7 / 17, 0] and reduced.shades[4, 4] == 0
    counts += 1
    reduced, _ = confusion_matrices(names, counts, "Confusion")
    assert len(reduced.rows) == KEPT + 1 and reduced.values.sum() == counts.sum()
    assert {"class 5", "class 30"} < set(reduced.rows)
    assert len(confusion_matrices(names, np.diag(np.ones(size, int)), "Confusion")) == 1, "nothing is confused"


def test_reliability_by_hand() -> None:
    confidence = np.array([0.0, 0.5, 0.5, 0.52, 0.95, 1.0, math.nan], np.float32)
    correct = np.array([False, True, False, True, True, True, False])
    shown = reliability("x", confidence[:-1], correct[:-1])
    assert shown.counts.tolist() == [1, *[0] * 6, 3, *[0] * 6, 2] and len(shown.counts) == BINS
    assert shown.accuracy[[0, 7, 14]] == pytest.approx([0, 2 / 3, 1]) and np.isnan(shown.accuracy[1])
    assert shown.confidence[[0, 7, 14]] == pytest.approx([0, 1.52 / 3, 0.975])
    assert shown.error == pytest.approx((abs(2 - 1.52) + 0.05) / 6, abs=1e-6)
    broken = reliability("x", confidence, correct)
    assert broken.counts.sum() == 6 and math.isnan(broken.error), "NaN is in no bin"


@given(st.lists(st.tuples(st.floats(0, 0.875), st.booleans()), min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_the_calibration_error_is_that_of_the_bins(rows: list[tuple[float, bool]]) -> None:
    confidence, correct = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    shown = reliability("x", confidence, correct)
    gaps = np.abs(shown.confidence - shown.accuracy)
    assert shown.counts.sum() == len(rows)
    assert np.nansum(gaps * shown.counts) / len(rows) == pytest.approx(shown.error, abs=1e-6)


def test_threshold_curves_by_hand() -> None:
    probs = np.array([[0.9, 0.3], [0.6, 0.1]], np.float32)
    truth = np.array([[True, False], [False, True]])
    curves = threshold_curves(probs, truth, 0.5)
    at = {round(x, 2): index for index, x in enumerate(curves.x)}
    shown = {name: [values[at[x]] for x in (0.0, 0.3, 0.5, 0.7, 1.0)] for name, values in curves.curves.items()}
    # A probability of .3 is not above the threshold .3.
    assert shown["precision"][:4] == [0.5, 0.5, 0.5, 1.0] and math.isnan(shown["precision"][4])
    assert shown["recall"] == [1.0, 0.5, 0.5, 0.5, 0.0]
    assert shown["F1"] == pytest.approx([2 / 3, 0.5, 0.5, 2 / 3, 0.0])
    assert curves.marks == {"configured: 0.5": 0.5}
    nothing = threshold_curves(probs, np.zeros((2, 2), bool), 0.5).curves
    assert all(math.isnan(value) for value in nothing["recall"]), "no class is ever present"


def test_errors_that_come_together_stand_out_from_chance() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((1000, 4)) < 0.5
    wrong = rng.random((1000, 4)) < [0.1, 0.2, 0.3, 0.0]
    wrong[:100, :2] = True
    together, expected, deviations = joint_errors(wrong)
    rates = wrong.mean(0)
    assert together[0, 1] == (wrong[:, 0] & wrong[:, 1]).sum() and expected[0, 1] == pytest.approx(1000 * rates[0] * rates[1])
    spread = math.sqrt(1000 * rates[0] * rates[1] * (1 - rates[0]) * (1 - rates[1]))
    assert deviations[0, 1] == pytest.approx((together[0, 1] - expected[0, 1]) / spread)
    assert deviations == pytest.approx(deviations.T)
    assert (deviations[3] == 0).all() and (deviations.diagonal() == 0).all(), "never wrong, and itself"
    table = error_pairs(["a", "b", "c", "d"], truth ^ wrong, truth)
    (row,) = table.rows
    opposite = int((wrong[:, 0] & wrong[:, 1] & (truth[:, 0] != truth[:, 1])).sum())
    assert row == ("a, b", together[0, 1], f"{expected[0, 1]:.1f}", f"{together[0, 1] / expected[0, 1]:.1f} ×", opposite)
    matrix = error_matrix(["a", "b", "c", "d"], wrong)
    assert matrix.shades[0, 1] < -(LIMIT - NOISE) and matrix.shades[0, 2] == 0, "chance has no color"
    assert math.isnan(matrix.values[0, 0]) and matrix.values[0, 1] == together[0, 1]
    many = error_matrix([str(index) for index in range(40)], np.tile(wrong, 10))
    assert len(many.rows) == KEPT and set(many.rows) == {str(index) for index in range(40) if index % 4 in (1, 2)} | {
        "0",
        "4",
        "8",
        "12",
    }
    assert joint_errors(np.zeros((0, 3), bool))[0].sum() == 0


def test_attention_is_averaged_by_class() -> None:
    weights = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])
    matrix = attention_matrix(["mask", "age"], ["a", "b", "never"], ["a", "a", "b"], weights)
    assert list(matrix.rows) == ["a", "b", "(all)"] and list(matrix.columns) == ["mask", "age"]
    assert matrix.values == pytest.approx(np.array([[0.7, 0.3], [0.1, 0.9], [0.5, 0.5]]))


def test_bars_are_columns_of_the_table_of_classes() -> None:
    bars = class_bars(
        Table(("class", "rows", "recall", "F1"), [("a", 3, 0.5, 0.6), ("b", 0, math.nan, math.nan)]), ("F1", "recall")
    )
    assert list(bars.series) == ["F1", "recall"] and bars.series["recall"][0] == 0.5 and list(bars.counts) == [3, 0]


def test_the_most_certain_mistakes_come_first() -> None:
    mistakes = [
        wrong_class(ABC, "a", [0.9, 0.1, 0.0], "a"),  # right
        wrong_class(ABC, "a", [0.6, 0.3, 0.1], "b"),
        wrong_class(ABC, "c", [0.05, 0.05, 0.9], "b", "mask="),
        wrong_class(ABC, "c", [0.05, 0.05, 0.9], "new"),  # a class that the checkpoint does not know
        wrong_class(ABC, "a", [math.nan] * 3, "b"),
    ]
    found = most_certain(mistakes, 3)
    assert [row.row for row in found] == [2, 3, 1]
    assert found[0].output == "mask=c" and found[0].notes == {"predicted": "mask=c (0.900)", "truth": "mask=b (0.050)"}
    assert found[1].notes["truth"] == "new"
    assert [row.row for row in most_certain(mistakes, 9)] == [2, 3, 1, 4]


def test_of_a_set_of_labels_the_worst_one_is_named() -> None:
    claimed = wrong_label(ABC, ["a", "b"], [0.7, 0.9, 0.2], ["a", "c"])
    assert claimed is not None and claimed.output == "b" and claimed.certainty == 0.9
    assert claimed.notes == {"claimed": "b (0.900)", "truth": "a c"}
    missed = wrong_label(ABC, [], [0.02, 0.1, 0.2], ["a"])
    assert missed is not None and missed.notes == {"missed": "a (0.020)", "truth": "a"} and missed.certainty == 0.98
    assert wrong_label(ABC, ["a"], [0.9, 0.1, 0.1], ["a"]) is None
    assert (wrong_label(ABC, ["a"], [0.9, 0.1, 0.1], []) or claimed).notes["truth"] == "(none)"
