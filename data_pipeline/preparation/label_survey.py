"""Survey of labels during preparation: rejects what is outside the declared classes, counts the rows of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.redaction import printable
from data_pipeline.dataset.label_columns import LABEL, LABELS, check_target

_SHOWN = 12  # classes that a reason lists

ClassCounts = dict[str, Counter[str]]
"""Rows of each class, for each column."""


class LabelSurvey:
    """Survey of a dataset whose task is multiclass, multilabel or multitask, with the target that its manifest declares.

    A split's statistics are {"class_rows": {class: rows}}, of a multitask dataset {"class_rows": {head: {class: rows}}}: every
    declared class in declared order, also those that no row has.
    """

    def __init__(self, task: str, target: Mapping[str, Any]) -> None:
        """Raise ValueError for a target that `check_target` refuses."""
        check_target(task, target)
        self._task = task
        columns = {"multiclass": LABEL, "multilabel": LABELS}
        declared = target["heads"] if task == "multitask" else {columns[task]: target["classes"]}
        # Position of each class in its declared order, for each column.
        self._positions = {name: {label: i for i, label in enumerate(classes)} for name, classes in declared.items()}

    def problem(self, target: Mapping[str, Any]) -> str:
        """Why a row is rejected: a label is missing, not declared, or there twice."""
        return next(filter(None, (self._problem_of(name, target.get(name)) for name in self._positions)), "")

    def _problem_of(self, column: str, value: Any) -> str:
        where, positions = f" of '{column}'" if self._task == "multitask" else "", self._positions[column]
        if value is None:
            return f"no label{where}"
        labels = value if self._task == "multilabel" else [value]
        if not isinstance(labels, Sequence) or isinstance(labels, str):
            return f"{printable(repr(labels))} is no list of labels"
        for label in labels:
            if not isinstance(label, str) or label not in positions:
                shown = f"'{label}'" if isinstance(label, str) else repr(label)
                return f"label {printable(shown)}{where} is not among the {_listed(list(positions))}"
        found = [positions[label] for label in labels]
        if len(set(found)) < len(found):
            return f"label '{printable(next(label for label in labels if list(labels).count(label) > 1))}' is there twice"
        return "" if found == sorted(found) else "labels are not in the declared order of the classes"

    def of(self, targets: Sequence[Mapping[str, Any]]) -> ClassCounts:
        """Count the rows of each class in one shard."""
        if self._task == "multilabel":
            return {LABELS: Counter(label for target in targets for label in target[LABELS])}
        return {name: Counter(target[name] for target in targets) for name in self._positions}

    def stats(self, found: Sequence[ClassCounts]) -> dict[str, Any]:
        """The rows of each class of a split."""
        rows = {
            name: {label: sum(counts[name][label] for counts in found) for label in positions}
            for name, positions in self._positions.items()
        }
        return {"class_rows": rows if self._task == "multitask" else next(iter(rows.values()))}

    def target(self, declared: Mapping[str, Any], found: Sequence[ClassCounts]) -> dict[str, Any]:
        """What was declared."""
        return dict(declared)


def _listed(classes: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in classes[:_SHOWN])
    return f"{len(classes):,} classes: {shown}{', ...' if len(classes) > _SHOWN else ''}"
