"""Columns and declared names of datasets with labels: one class, several classes, or a class for each of several heads.

`multiclass` has {"classes": [...]} as target and the column `label`; `multilabel` has the same target and the column `labels`,
the names of the classes that are present, in declared order; `multitask` has {"heads": {name: [...]}} and a column for each
head. A multitask target may declare a joint class, {"joint": {"name": ..., "classes": [...]}}: one for each combination of the
heads' classes, row-major, so that the class of the last head changes fastest. Labels are names, never indices.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline.dataset.schema import FIXED_COLUMNS

LABEL = "label"
LABELS = "labels"
LABEL_TASKS = ("multiclass", "multilabel", "multitask")

# Names that no head can have: columns of datasets, of predictions, and of what preparation reports.
RESERVED = frozenset(
    {
        *FIXED_COLUMNS,
        *(
            "text",
            LABEL,
            LABELS,
            "prediction",
            "predictions",
            "probs",
            "joint",
            "joint_attention",
            "error",
            "warning",
            "problem",
            "inverted",
        ),
        *("page", "pages", "fold"),
    }
)
_SUFFIXES = ("_prediction", "_probs")  # of a head's columns in predictions


def label_columns(task: str, target: Mapping[str, Any]) -> dict[str, str]:
    """The columns of a dataset of this task and target, name to Arrow type.

    Raises:
        ValueError: the task has no labels.
    """
    if task == "multiclass":
        return {LABEL: "string"}
    if task == "multilabel":
        return {LABELS: "list<string>"}
    if task == "multitask":
        return dict.fromkeys(target["heads"], "string")
    raise ValueError(f"the task '{task}' has no labels; those that have: {', '.join(LABEL_TASKS)}")


def joint_names(heads: Mapping[str, Sequence[str]]) -> list[str]:
    """The names of all combinations of the heads' classes, such as "worn/male/young", row-major in declared order."""
    return ["/".join(classes) for classes in itertools.product(*heads.values())]


def check_target(task: str, target: Mapping[str, Any]) -> None:
    """Check the declared classes of a task with labels.

    Raises:
        ValueError: the task has no labels, or a name of a class or a head is missing, empty, doubled or not allowed.
    """
    if task not in LABEL_TASKS:
        raise ValueError(f"the task '{task}' has no labels; those that have: {', '.join(LABEL_TASKS)}")
    if task != "multitask":
        _check_classes("classes", target.get("classes"))
        return
    heads = target.get("heads")
    if not isinstance(heads, Mapping) or not heads:
        raise ValueError("heads: at least one head is needed, such as {'mask': ['worn', 'none']}")
    for name, classes in heads.items():
        _check_head("head", name)
        _check_classes(f"classes of head '{name}'", classes)
    if target.get("joint") is not None:
        _check_joint(target["joint"], heads)


def _check_joint(joint: Any, heads: Mapping[str, Sequence[str]]) -> None:
    if not isinstance(joint, Mapping) or set(joint) != {"name", "classes"}:
        raise ValueError("joint: needs a name and classes, and nothing else")
    _check_head("joint", joint["name"])
    if joint["name"] in heads:
        raise ValueError(f"joint: '{joint['name']}' is the name of a head")
    _check_classes("classes of joint", joint["classes"])
    combinations = math.prod(map(len, heads.values()))
    if len(joint["classes"]) != combinations:
        raise ValueError(f"classes of joint: {len(joint['classes'])} names for the heads' {combinations} combinations")


def _check_head(what: str, name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{what} {name!r}: a name of letters, digits and _ is needed")
    if name in RESERVED or name.endswith(_SUFFIXES):
        raise ValueError(f"{what} '{name}': the name is taken by a column of every dataset or of predictions; choose another")


def _check_classes(what: str, classes: Any) -> None:
    if not isinstance(classes, list | tuple) or not classes:
        raise ValueError(f"{what}: a list of at least one name is needed")
    for name in classes:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{what}: {name!r} is no name of a class; a text that is not empty is needed")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{what}: {name!r} is not valid Unicode") from None
        if any(unicodedata.category(character) == "Cc" for character in name):
            raise ValueError(f"{what}: {name!r} has a control character in it")
    if doubled := [name for name, count in Counter(classes).items() if count > 1]:
        raise ValueError(f"{what}: '{doubled[0]}' is there twice")
