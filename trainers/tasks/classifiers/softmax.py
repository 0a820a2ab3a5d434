"""Tasks with one class for each head: targets, loss and probabilities by the softmax of its logits.

Legend: B batch, K classes of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from cluster.errors import UserError
from data_pipeline.dataset.label_targets import ClassTargets
from data_pipeline.dataset.manifest import Split
from models import ClassifierOutput
from trainers.config.labeling import LabelingConfig
from trainers.tasks.base import NotableRow, Row
from trainers.tasks.calibration import multiclass_temperature, with_temperature
from trainers.tasks.classifiers.base import ClassifierTask
from trainers.tasks.inspection.mistakes import Mistake, most_certain

JOINT = "joint"
ATTENTION = "joint_attention"  # the weights of the heads in a learned joint class


class SoftmaxTask(ClassifierTask):
    """Image to one class for each head, and maybe one of their combinations."""

    def target_encoder(self) -> ClassTargets:
        """Targets int64 (B,) by head: the index of its class."""
        return ClassTargets(dict(self.classes))

    def largest_targets(self, batch_size: int, split: Split) -> dict[str, np.ndarray]:
        """No image has larger targets than another."""
        return {head: np.zeros(batch_size, np.int64) for head in self.classes}

    def probabilities(self, output: ClassifierOutput) -> dict[str, Tensor]:
        """The softmax of the logits of each head, and of the joint; in float64, as the sigmoid of `MultilabelTask`."""
        logits = dict(output.logits)
        if output.joint is not None:
            logits[JOINT] = output.joint
        found = {head: part.double().softmax(-1).float() for head, part in logits.items()}
        return found if output.attention is None else {**found, ATTENTION: output.attention.float()}

    def at_temperature(self, probs: np.ndarray, temperature: float) -> np.ndarray:
        """Probabilities with their logarithms divided by the temperature."""
        return with_temperature(probs, temperature, multilabel=False)

    def truth_of(self, head: str, row: Row) -> str:
        """The true class of a head, or of the joint, in a row with the dataset's columns."""
        return str(row[head])

    def tuned(self, rows: Sequence[Row], per_class: bool = False) -> tuple[LabelingConfig, list[str]]:
        """A temperature; of several heads, one for each."""
        if per_class:
            raise UserError(f"--per-class: thresholds are of multi-label tasks, this is '{self.name}'. Leave it out.")
        found = {}
        for head, column in self.probs_columns.items():
            places = {name: index for index, name in enumerate(self.classes.get(head, self.joint_classes))}
            truth = np.array([places.get(self.truth_of(head, row), -1) for row in rows], np.int64)
            found[head] = multiclass_temperature(np.array([row[column] for row in rows], np.float32), truth)
        if len(found) == 1:
            return replace(self.labeling, temperature=next(iter(found.values())), temperatures={}), []
        return replace(self.labeling, temperature=1.0, temperatures=found), []

    def mistake(self, prediction: Row, target: Row) -> Mistake | None:
        """The answer in a prediction that is wrong and most certain, if any is wrong."""
        raise NotImplementedError

    def notable_rows(self, rows: Sequence[tuple[Row, Row]], count: int) -> list[NotableRow]:
        """The rows with the most certain wrong classes."""
        return most_certain((self.mistake(prediction, target) for prediction, target in rows), count)


def chosen(names: tuple[str, ...], probs: np.ndarray) -> list[tuple[str, list[float]]]:
    """The most probable class of each row of probabilities (B, K), and all of them."""
    return [(names[int(row.argmax())], row.tolist()) for row in probs]


def one_hot(names: tuple[str, ...], name: str) -> list[float]:
    """Probability 1 of one class."""
    return [float(other == name) for other in names]


def require_no_thresholds(labeling: LabelingConfig) -> None:
    """Check that a task that chooses the most probable class has no thresholds.

    Raises:
        UserError: it has.
    """
    if labeling.thresholds or labeling.threshold != LabelingConfig().threshold:
        key = "thresholds" if labeling.thresholds else "threshold"
        raise UserError(f"labeling.{key}: the most probable class is predicted here, thresholds are of multi-label tasks.")
