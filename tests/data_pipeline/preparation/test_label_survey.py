"""Labels during preparation: what is rejected, and what a split's statistics say."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.preparation.label_survey import LabelSurvey

ABC = {"classes": ["a", "b", "c"]}
HEADS = {"heads": {"mask": ["worn", "none"], "age": ["young", "old"]}}


@pytest.mark.parametrize(
    ("task", "target", "row", "reason"),
    [
        ("multiclass", ABC, {"label": "b"}, ""),
        ("multiclass", ABC, {"label": "d"}, "label 'd' is not among the 3 classes: a, b, c"),
        ("multiclass", ABC, {"label": 1}, "label 1 is not among the 3 classes: a, b, c"),
        ("multiclass", ABC, {"label": None}, "no label"),
        ("multiclass", {"classes": [str(i) for i in range(18)]}, {"label": "018"}, "18 classes: 0, 1, 2, 3, 4"),
        ("multilabel", ABC, {"labels": []}, ""),
        ("multilabel", ABC, {"labels": ["a", "c"]}, ""),
        ("multilabel", ABC, {"labels": ["a", "d\n"]}, r"label 'd\n' is not among the 3 classes: a, b, c"),
        ("multilabel", ABC, {"labels": ["a", "a"]}, "label 'a' is there twice"),
        ("multilabel", ABC, {"labels": ["c", "a"]}, "labels are not in the declared order of the classes"),
        ("multilabel", ABC, {"labels": "abc"}, "'abc' is no list of labels"),
        ("multilabel", ABC, {"labels": None}, "no label"),
        ("multitask", HEADS, {"mask": "worn", "age": "old"}, ""),
        ("multitask", HEADS, {"mask": "worn", "age": "worn"}, "label 'worn' of 'age' is not among the 2 classes: young, old"),
        ("multitask", HEADS, {"mask": "worn"}, "no label of 'age'"),
    ],
)
def test_labels_outside_the_declared_classes_are_a_reason(task: str, target: Any, row: dict[str, Any], reason: str) -> None:
    found = LabelSurvey(task, target).problem(row)
    assert reason in found and bool(found) == bool(reason)


@given(st.lists(st.lists(st.sets(st.sampled_from("abc"))), max_size=4))
def test_rows_are_counted_over_all_shards(shards: list[list[set[str]]]) -> None:
    survey = pickle.loads(pickle.dumps(LabelSurvey("multilabel", ABC)))
    found = [survey.of([{"labels": sorted(labels)} for labels in shard]) for shard in shards]
    counted = {name: sum(name in labels for shard in shards for labels in shard) for name in "abc"}
    assert survey.stats(found) == {"class_rows": counted} and list(survey.stats(found)["class_rows"]) == ["a", "b", "c"]
    assert survey.target(ABC, found) == ABC


def test_statistics_of_each_kind_of_task() -> None:
    survey = LabelSurvey("multiclass", ABC)
    assert survey.stats([survey.of([{"label": "c"}, {"label": "a"}, {"label": "c"}])]) == {
        "class_rows": {"a": 1, "b": 0, "c": 2}
    }
    heads = LabelSurvey("multitask", HEADS)
    found = [heads.of([{"mask": "none", "age": "old"}]), heads.of([{"mask": "none", "age": "young"}])]
    assert heads.stats(found) == {"class_rows": {"mask": {"worn": 0, "none": 2}, "age": {"young": 1, "old": 1}}}
    assert heads.stats([]) == {"class_rows": {"mask": {"worn": 0, "none": 0}, "age": {"young": 0, "old": 0}}}


def test_a_target_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' is there twice"):
        LabelSurvey("multiclass", {"classes": ["a", "a"]})
