"""Metrics of classifiers: against torchmetrics, scikit-learn and by hand, to the last digit for any split of rows."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional import classification as reference

from cluster.errors import UserError
from trainers.tasks.metrics import multiclass, multilabel, multitask
from trainers.tasks.metrics import rows as rows_module
from trainers.tasks.metrics.base import GroupedMetrics, Metrics
from trainers.tasks.metrics.multiclass import MulticlassMetrics
from trainers.tasks.metrics.multilabel import MultilabelMetrics
from trainers.tasks.metrics.multitask import MultitaskMetrics
from trainers.tasks.metrics.scores import average_precisions, calibration_error

Pair = tuple[dict[str, Any], dict[str, Any]]

CLASSES = ("a", "b", "c", "d", "e", "f", "g")
HEADS = {"mask": ("worn", "wrong", "none"), "gender": ("m", "f")}
JOINT = tuple(f"{mask}/{gender}" for mask in HEADS["mask"] for gender in HEADS["gender"])


def new_multilabel() -> MultilabelMetrics:
    return MultilabelMetrics(classes=CLASSES)


def new_multiclass() -> MulticlassMetrics:
    return MulticlassMetrics(classes=CLASSES)


def new_multitask() -> MultitaskMetrics:
    return MultitaskMetrics.of(HEADS, JOINT)


def multilabel_rows(count: int, seed: int, classes: Sequence[str] = CLASSES) -> list[Pair]:
    """Scores on a coarse grid, so that there are ties; the last class is never present, the first in a few rows."""
    rng = np.random.default_rng(seed)
    truth = rng.random((count, len(classes))) < 0.4
    truth[:, -1] = False
    probs = np.clip(np.round(rng.normal(0.4 + 0.3 * truth, 0.3) * 20) / 20, 0, 1).astype(np.float32)
    return [
        (
            {"probs": row.tolist(), "predictions": [name for name, p in zip(classes, row, strict=True) if p > 0.5]},
            {"labels": [name for name, present in zip(classes, own, strict=True) if present]},
        )
        for row, own in zip(probs, truth, strict=True)
    ]


def class_probs(rng: np.random.Generator, count: int, size: int, truth: Any) -> Any:
    scores = rng.normal(size=(count, size)).round(1)
    scores[np.arange(count), truth] += 1
    return (np.exp(scores) / np.exp(scores).sum(1, keepdims=True)).astype(np.float32)


def multiclass_rows(count: int, seed: int) -> list[Pair]:
    """The last class is never true."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(CLASSES) - 1, count)
    probs = class_probs(rng, count, len(CLASSES), truth)
    return [
        ({"probs": row.tolist(), "prediction": CLASSES[row.argmax()]}, {"label": CLASSES[own]})
        for row, own in zip(probs, truth, strict=True)
    ]


def multitask_rows(count: int, seed: int) -> list[Pair]:
    rng = np.random.default_rng(seed)
    rows: list[Pair] = [({}, {}) for _ in range(count)]
    for name, classes in {**HEADS, "joint": JOINT}.items():
        truth = rng.integers(0, len(classes), count)
        for (prediction, target), row, own in zip(rows, class_probs(rng, count, len(classes), truth), truth, strict=True):
            prediction |= {f"{name}_prediction": classes[row.argmax()], f"{name}_probs": row.tolist()}
            if name != "joint":
                target[name] = classes[own]
    return rows


def counted(new: Callable[[], Any], rows: Sequence[Pair]) -> Any:
    metrics = new()
    for prediction, target in rows:
        metrics.add(prediction, target)
    return metrics


KINDS = [
    pytest.param(new_multilabel, multilabel_rows, id="multilabel"),
    pytest.param(new_multiclass, multiclass_rows, id="multiclass"),
    pytest.param(new_multitask, multitask_rows, id="multitask"),
]


@pytest.mark.parametrize(("new", "rows"), KINDS)
@settings(max_examples=10)
@given(count=st.integers(0, 40), seed=st.integers(0, 99), data=st.data())
def test_any_split_and_order_gives_the_same_digits(
    new: Callable[[], Any], rows: Callable[[int, int], list[Pair]], count: int, seed: int, data: st.DataObject
) -> None:
    pairs = rows(count, seed)
    whole = counted(new, pairs)
    shuffled = data.draw(st.permutations(pairs))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=3)))
    parts = [shuffled[low:high] for low, high in zip([0, *cuts], [*cuts, count], strict=True)]
    total = new()
    for part in parts:
        # As between ranks.
        total = total + pickle.loads(pickle.dumps(counted(new, part)))
    assert repr(total.averages()) == repr(whole.averages())
    assert repr(total.per_class()) == repr(whole.per_class())
    assert all(type(value) is float for value in whole.averages().values())
    assert total.count == count
    for prediction, target in pairs:  # rows that come after the sum
        total.add(prediction, target)
    assert total.count == 2 * count and whole.count == count


@pytest.mark.parametrize(("new", "rows"), KINDS)
def test_groups_of_rows_on_two_workers(
    new: Callable[[], Metrics], rows: Callable[[int, int], list[Pair]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than are packed at once, reported by source: one worker or two, to the last digit."""
    monkeypatch.setattr(rows_module, "PACKED_AT_ONCE", 64)
    sources = ["one", "two", "one"]
    one, two = GroupedMetrics(new), [GroupedMetrics(new), GroupedMetrics(new)]
    for index, (prediction, target) in enumerate(rows(500, 1)):
        one.add(prediction, target, sources[index % 3])
        two[index % 2].add(prediction, target, sources[index % 3])
    one.reject("two")
    two[1].reject("two")
    total = GroupedMetrics(new)
    for part in two[::-1]:
        total += pickle.loads(pickle.dumps(part))
    found = total.averages("val")
    assert found == one.averages("val") and total.seen == 501 and found["val/two/rejected"] == 1
    assert {"val/one/count", "val/two/count"} <= found.keys()


def test_the_number_of_threads_changes_no_digit() -> None:
    rng = np.random.default_rng(0)
    probs, truth = rng.random((100_000, 1)).astype(np.float32), rng.random((100_000, 1)) < 0.5
    threads, found = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append((average_precisions(probs, truth)[0], calibration_error(probs[:, 0], truth[:, 0])))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert found[0] == found[1]
    assert found[0][0] == pytest.approx(sklearn_metrics.average_precision_score(truth[:, 0], probs[:, 0]), rel=1e-5)


@pytest.mark.parametrize(
    ("averages", "tables"),
    [
        (
            new_multilabel().averages(),
            (multilabel.HEADLINES, multilabel.DETAILS, multilabel.DIRECTIONS, multilabel.MAIN_METRIC),
        ),
        (
            new_multiclass().averages(),
            (multiclass.HEADLINES, multiclass.DETAILS, multiclass.directions(7), multiclass.MAIN_METRIC),
        ),
        (
            new_multitask().averages(),
            (
                multitask.headlines(True),
                multitask.details(list(HEADS), True),
                multitask.directions(list(HEADS), True),
                multitask.MAIN_METRIC,
            ),
        ),
    ],
    ids=["multilabel", "multiclass", "multitask"],
)
def test_over_nothing_all_are_nan_and_each_has_its_column(averages: dict[str, float], tables: Any) -> None:
    headlines, details, directions, main = tables
    assert {key for key, value in averages.items() if math.isnan(value)} == averages.keys() - {"count", "rejected"}
    columns = [column.key for column in (*headlines, *details)]
    assert set(columns) == averages.keys() | {"loss"} and len(columns) == len(set(columns))
    assert main in directions and directions.keys() == set(columns) - {"count", "rejected"}
    assert not any("/" in key for key in columns)


def test_multilabel_is_torchmetrics_and_sklearn() -> None:
    pairs = multilabel_rows(300, 5)
    probs = torch.tensor([prediction["probs"] for prediction, _ in pairs])
    truth = torch.tensor([[name in target["labels"] for name in CLASSES] for _, target in pairs]).long()
    found = counted(new_multilabel, pairs).averages()
    predicted = (probs > 0.5).long()
    size = len(CLASSES)
    assert found["accuracy"] == pytest.approx(float((predicted == truth).float().mean()))
    assert found["exact_match"] == pytest.approx(float(reference.multilabel_exact_match(predicted, truth, size)))
    assert found["f1_micro"] == pytest.approx(float(reference.multilabel_f1_score(predicted, truth, size, average="micro")))
    assert found["f1_macro"] == pytest.approx(sklearn_metrics.f1_score(truth, predicted, average="macro"))  # g is predicted
    assert found["f1_sample"] == pytest.approx(sklearn_metrics.f1_score(truth, predicted, average="samples", zero_division=1))
    present = truth.any(0)
    expected = sklearn_metrics.average_precision_score(truth[:, present], probs[:, present], average="macro")
    assert found["map"] == pytest.approx(expected, rel=1e-6)
    own = reference.multilabel_average_precision(probs[:, present], truth[:, present], int(present.sum()))
    assert found["map"] == pytest.approx(float(own), rel=1e-5)
    calibration = reference.binary_calibration_error(probs.flatten(), truth.flatten())
    assert found["calibration_error"] == pytest.approx(float(calibration), rel=1e-4)


def test_multilabel_by_hand() -> None:
    metrics = MultilabelMetrics(classes=("x", "y", "z"))
    metrics.add({"probs": [0.9, 0.2, 0.1], "predictions": ["x"]}, {"labels": ["x"]})
    metrics.add({"probs": [0.8, 0.3, 0.1], "predictions": ["x"]}, {"labels": ["y"]})
    metrics.add({"probs": [0.1, 0.1, 0.1], "predictions": []}, {"labels": []})
    metrics.add({"probs": [0.7, 0.1, 0.1], "predictions": ["x"]}, {"labels": ["x", "new"]})  # a class that is not known
    found = metrics.averages()
    assert (found["accuracy"], found["exact_match"]) == (pytest.approx(10 / 12), 0.5)
    assert found["f1_sample"] == pytest.approx((1 + 0 + 1 + 1) / 4)
    assert found["f1_macro"] == pytest.approx((4 / 5 + 0) / 2), "z is never present nor predicted: it has no F1"
    assert found["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    rows = metrics.per_class({"y": 0.25}).rows
    assert rows[0] == ("x", 2, 3, pytest.approx(2 / 3), 1.0, pytest.approx(0.8), pytest.approx(5 / 6), 0.5)
    assert rows[1][:3] == ("y", 1, 0) and math.isnan(rows[1][3]) and rows[1][-1] == 0.25
    assert all(math.isnan(value) for value in rows[2][3:7])
    with pytest.raises(UserError, match="names the class 'w'"):
        counted(
            lambda: MultilabelMetrics(classes=("x",)), [({"probs": [1.0], "predictions": ["w"]}, {"labels": []})]
        ).averages()
    with pytest.raises(ValueError, match="other classes"):
        new_multilabel() + MultilabelMetrics(classes=("x",))


def test_multiclass_is_torchmetrics_and_sklearn() -> None:
    pairs = multiclass_rows(300, 5)
    probs = torch.tensor([prediction["probs"] for prediction, _ in pairs])
    truth = torch.tensor([CLASSES.index(target["label"]) for _, target in pairs])
    metrics = counted(new_multiclass, pairs)
    found, size = metrics.averages(), len(CLASSES)
    predicted = torch.tensor([CLASSES.index(prediction["prediction"]) for prediction, _ in pairs])
    assert found["accuracy"] == pytest.approx(float((predicted == truth).float().mean()))
    assert found["f1_macro"] == pytest.approx(float(reference.multiclass_f1_score(predicted, truth, size, average="macro")))
    recalls = sklearn_metrics.recall_score(truth, predicted, average=None, labels=range(size - 1))
    assert found["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert found["nll"] == pytest.approx(sklearn_metrics.log_loss(truth, probs.double().numpy(), labels=range(size)), rel=1e-5)
    calibration = reference.multiclass_calibration_error(probs, truth, size)
    assert found["calibration_error"] == pytest.approx(float(calibration), rel=1e-4)
    assert np.array_equal(metrics.confusion(), sklearn_metrics.confusion_matrix(truth, predicted, labels=range(size)))
    assert metrics.right == int((predicted == truth).sum())
    assert [row[1] for row in metrics.per_class().rows] == np.bincount(truth, minlength=size).tolist()
    assert "top_5" in found and "top_5" not in MulticlassMetrics(classes=CLASSES[:5]).averages()


def test_ties_in_the_top_5_are_broken_by_lot() -> None:
    def top(probs: list[float], truth: str) -> float:
        prediction = {"probs": probs, "prediction": CLASSES[int(np.argmax(probs))]}
        return counted(new_multiclass, [(prediction, {"label": truth})]).averages()["top_5"]

    assert top([1 / 7] * 7, "g") == pytest.approx(5 / 7) and top([1 / 7] * 7, "a") == pytest.approx(5 / 7)
    assert top([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1], "c") == pytest.approx(3 / 5)
    assert top([0.3, 0.2, 0.15, 0.13, 0.12, 0.06, 0.04], "e") == 1 and top([0.3, 0.2, 0.15, 0.13, 0.12, 0.06, 0.04], "f") == 0
    assert top([1 / 7] * 7, "new") == 0


def test_a_class_that_is_not_known_is_wrong() -> None:
    metrics = MulticlassMetrics(classes=("x", "y"))
    metrics.add({"probs": [0.9, 0.1], "prediction": "x"}, {"label": "x"})
    metrics.add({"probs": [0.8, 0.2], "prediction": "x"}, {"label": "new"})
    found = metrics.averages()
    assert found["accuracy"] == 0.5 and found["balanced_accuracy"] == 1 and metrics.confusion().tolist() == [[1, 0], [0, 0]]
    assert found["f1_macro"] == pytest.approx(2 / 3) and found["nll"] == pytest.approx(-math.log(0.9), abs=1e-6)
    assert MulticlassMetrics(classes=("x",)).confusion().tolist() == [[0]]


def test_a_network_that_diverged_has_metrics_that_are_nan() -> None:
    nan = [math.nan] * 7
    one = counted(new_multiclass, [({"probs": nan, "prediction": "a"}, {"label": "a"})]).averages()
    many = counted(new_multilabel, [({"probs": nan, "predictions": []}, {"labels": ["a"]})]).averages()
    assert math.isnan(one["nll"]) and math.isnan(one["calibration_error"]) and math.isnan(many["map"])


def test_multitask_by_hand() -> None:
    metrics = MultitaskMetrics.of(HEADS, JOINT)

    def row(mask: str, gender: str, joint: str) -> dict[str, Any]:
        probs = {"mask_probs": [1 / 3] * 3, "gender_probs": [0.5, 0.5], "joint_probs": [1 / 6] * 6}
        return {"mask_prediction": mask, "gender_prediction": gender, "joint_prediction": joint, **probs}

    metrics.add(row("worn", "m", "worn/m"), {"mask": "worn", "gender": "m"})
    metrics.add(row("none", "f", "wrong/f"), {"mask": "wrong", "gender": "f"})
    metrics.add(row("none", "f", "none/f"), {"mask": "none", "gender": "new"})
    metrics.add(row("none", "f", "none/m"), {"mask": "none", "gender": "f"})
    found = metrics.averages()
    assert (found["exact_match"], found["joint_accuracy"]) == (0.5, 0.5)
    assert (found["mask_accuracy"], found["gender_accuracy"], found["accuracy"]) == (0.75, 0.75, 0.75)
    assert [row[:2] for row in metrics.per_class().rows][2:4] == [("mask", "none"), ("gender", "m")]
    alone = MultitaskMetrics.of(HEADS)
    alone.add(row("worn", "m", ""), {"mask": "worn", "gender": "m"})
    assert "joint_accuracy" not in alone.averages() and "joint_accuracy" not in multitask.directions(list(HEADS), False)
    with pytest.raises(ValueError, match="other heads"):
        alone + metrics


def test_a_large_split_is_counted_in_seconds() -> None:
    """50,000 rows of 26 labels take about two seconds; here a tenth of them, with room for a busy machine."""
    letters = tuple("abcdefghijklmnopqrstuvwxyz")
    pairs = multilabel_rows(5000, 0, letters)
    begin = time.process_time()
    metrics = counted(lambda: MultilabelMetrics(classes=letters), pairs)
    size = len(pickle.dumps(metrics))
    metrics.averages()
    assert time.process_time() - begin < 3 and size < 5000 * 200
