"""Declared classes and heads: their columns, the names of combinations, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from data_pipeline.dataset.label_columns import check_target, joint_names, label_columns
from data_pipeline.dataset.schema import shard_schema

HEADS = {"mask": ["worn", "none"], "gender": ["male", "female"], "age": ["young", "middle", "old"]}
TARGET: dict[str, Any] = {"heads": HEADS}


def joint(name: Any = "class", classes: Any = None) -> dict[str, Any]:
    return TARGET | {"joint": {"name": name, "classes": joint_names(HEADS) if classes is None else classes}}


def test_columns_are_those_that_a_shard_can_have() -> None:
    assert label_columns("multiclass", {"classes": ["a"]}) == {"label": "string"}
    assert label_columns("multilabel", {"classes": ["a"]}) == {"labels": "list<string>"}
    columns = label_columns("multitask", TARGET)
    assert columns == {"mask": "string", "gender": "string", "age": "string"} and set(columns) < set(
        shard_schema(columns).names
    )
    with pytest.raises(ValueError, match="the task 'sequence' has no labels"):
        label_columns("sequence", {})


def test_combinations_are_row_major() -> None:
    names = joint_names(HEADS)
    assert len(names) == 12
    assert names[:4] == ["worn/male/young", "worn/male/middle", "worn/male/old", "worn/female/young"]
    assert names[-1] == "none/female/old"


def test_good_targets_pass() -> None:
    for task in ("multiclass", "multilabel"):
        check_target(task, {"classes": ["0", "1", "10", "2"]})
    for target in (TARGET, TARGET | {"joint": None}, joint(), joint(classes=[str(number) for number in range(12)])):
        check_target("multitask", target)


@pytest.mark.parametrize(
    ("task", "target", "said"),
    [
        ("sequence", {"charset": []}, "'sequence' has no labels"),
        ("multiclass", {}, "classes: a list"),
        ("multiclass", {"classes": []}, "classes: a list"),
        ("multilabel", {"classes": "abc"}, "classes: a list"),
        ("multilabel", {"classes": ["a", " "]}, "' ' is no name"),
        ("multilabel", {"classes": ["a", 1]}, "1 is no name"),
        ("multilabel", {"classes": ["a", "b", "a"]}, "'a' is there twice"),
        ("multilabel", {"classes": ["\udc80"]}, "not valid Unicode"),
        ("multitask", {"heads": {}}, "at least one head"),
        ("multitask", {"heads": {"my head": ["a"]}}, "head 'my head'"),
        ("multitask", {"heads": {"writer": ["a"]}}, "head 'writer': the name is taken"),
        ("multitask", {"heads": {"fold": ["a"]}}, "head 'fold': the name is taken"),
        ("multitask", {"heads": {"mask_probs": ["a"]}}, "head 'mask_probs': the name is taken"),
        ("multitask", {"heads": {"mask": ["a", "a"]}}, "classes of head 'mask': 'a' is there twice"),
        ("multitask", joint("mask"), "joint: 'mask' is the name of a head"),
        ("multitask", joint(""), "joint ''"),
        ("multitask", joint(classes=["a"]), "1 names for the heads' 12 combinations"),
        ("multitask", TARGET | {"joint": {"name": "class"}}, "joint: needs a name and classes"),
    ],
)
def test_names_that_are_missing_doubled_or_taken_are_refused(task: str, target: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_target(task, target)
