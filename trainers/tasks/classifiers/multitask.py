"""Image to one class for each of several heads, and maybe to one of their combinations, the joint class."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from models.label_heads import LABEL_HEADS
from trainers.config.criterion import Directions
from trainers.tasks.base import Progress, Row
from trainers.tasks.classifiers.checks import require_defaults
from trainers.tasks.classifiers.softmax import ATTENTION, JOINT, SoftmaxTask, chosen, one_hot, require_no_thresholds
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.inspection.attention_weights import attention_matrix
from trainers.tasks.inspection.class_sections import class_drawings, class_note, confusion_section
from trainers.tasks.inspection.confusion import WHOLE
from trainers.tasks.inspection.mistakes import Mistake, wrong_class
from trainers.tasks.known_names import require_known
from trainers.tasks.losses.class_weights import Weights, head_class_weights, head_weights
from trainers.tasks.losses.labels import joint_indices, multitask_count, multitask_loss
from trainers.tasks.losses.mixing import class_shares
from trainers.tasks.metrics.base import Metrics
from trainers.tasks.metrics.multitask import DIRECTIONS, MultitaskMetrics, details, directions, headlines
from trainers.tasks.presentation import Matrix, MetricColumn, Section, Table


@dataclass(frozen=True)
class MultitaskTask(SoftmaxTask):
    """Image to one class for each of several heads.

    Where the dataset declares a joint class, it is predicted, too: by a network that learns it as an output of its own, or
    as the product of the heads' probabilities.
    """

    name: ClassVar[str] = "multitask"
    directions: ClassVar[Directions] = DIRECTIONS
    main_metric: ClassVar[str] = "exact_match"

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The classes of each head."""
        return {head: tuple(names) for head, names in self.target["heads"].items()}

    @property
    def joint_classes(self) -> tuple[str, ...]:
        """The classes of the joint of all heads, row-major; none where none is declared."""
        return tuple((self.target.get("joint") or {}).get("classes", ()))

    @cached_property
    def joint_of(self) -> Mapping[tuple[str, ...], str]:
        """The joint class of each combination of the heads' classes."""
        return dict(zip(itertools.product(*self.classes.values()), self.joint_classes, strict=False))

    @property
    def probs_columns(self) -> Mapping[str, str]:
        """One for each head, and for the joint."""
        return {head: f"{head}_probs" for head in [*self.classes, *([JOINT] if self.joint_classes else [])]}

    def truth_of(self, head: str, row: Row) -> str:
        """The true class of a head, or the joint class of all; empty where there is none."""
        return str(row[head]) if head in self.classes else self.joint_of.get(tuple(row[name] for name in self.classes), "")

    @property
    def columns(self) -> tuple[str, ...]:
        """One for each head."""
        return tuple(self.classes)

    @property
    def prediction_schema(self) -> pa.Schema:
        """Class and probabilities of each head, and of the joint; with attention over the heads, their weights."""
        names = list(self.probs_columns)
        kinds = {"prediction": pa.string(), "probs": pa.list_(pa.float32())}
        fields = [(f"{name}_{what}", kind) for name in names for what, kind in kinds.items()]
        return pa.schema([*fields, *([(ATTENTION, pa.list_(pa.float32()))] if self.attends else [])])

    @property
    def reported_directions(self) -> Directions:
        """The metrics of each head beside those of all."""
        return directions(list(self.classes), bool(self.joint_classes))

    @property
    def headlines(self) -> tuple[MetricColumn, ...]:
        """All heads right, their mean accuracy, and the joint's."""
        return headlines(bool(self.joint_classes))

    @property
    def details(self) -> tuple[MetricColumn, ...]:
        """What else there is to say of each head."""
        return details(list(self.classes), bool(self.joint_classes))

    def check_options(self) -> None:
        """Check the heads that have temperatures of their own."""
        require_no_thresholds(self.labeling)
        require_known("labeling.temperatures", self.labeling.temperatures, list(self.probs_columns), "head")

    def check_names(self) -> None:
        """Check the heads and classes that have weights of their own."""
        self.check_options()
        require_defaults(self.loss, ["multilabel"], self.name)
        head_weights(self.loss, list(self.classes), self.learns_joint)
        head_class_weights(self.loss, self.classes, self.class_rows)

    @cached_property
    def _class_weights(self) -> dict[str, Weights]:
        return head_class_weights(self.loss, self.classes, self.class_rows)

    @cached_property
    def _head_weights(self) -> dict[str, float]:
        return head_weights(self.loss, list(self.classes), self.learns_joint)

    def describe(self) -> str:
        """`heads mask (3), gender (2), age (3), joint of 18 classes`."""
        heads = ", ".join(f"{head} ({len(names)})" for head, names in self.classes.items())
        return f"heads {heads}{f', joint of {len(self.joint_classes)} classes' if self.joint_classes else ''}"

    @property
    def untrained_loss(self) -> float:
        """A uniform guess's: the mean of ln K over the heads, and that of the joint."""
        heads = self._head_weights
        guess = sum(heads[head] * math.log(max(len(names), 2)) for head, names in self.classes.items())
        return guess + (self.loss.joint_weight * math.log(len(self.joint_classes)) if self.learns_joint else 0.0)

    @property
    def learns_joint(self) -> bool:
        """Whether the network has a joint class among its outputs, with a loss of its own."""
        return bool(self.joint_classes) and LABEL_HEADS[self.network.head.name].joint_is_learned

    @property
    def attends(self) -> bool:
        """Whether the joint class is learned with attention over the heads, whose weights are predicted, too."""
        return self.learns_joint and self.network.head.name == "attention"

    def target_count(self, batch: DeviceBatch) -> Tensor:
        """The images: float scalar."""
        return multitask_count(batch.weights)

    def loss_sum(self, model: nn.Module, batch: DeviceBatch, progress: Progress | None = None) -> Tensor:
        """The mean of the heads' losses, and that of a learned joint, summed over the images."""
        sizes = {head: len(names) for head, names in self.classes.items()}
        targets: dict[str, Tensor] = dict(batch.targets)
        joint = joint_indices(list(targets.values()), list(sizes.values())) if self.learns_joint else None
        if progress is not None and self.mixup.enabled:
            shares = {head: class_shares(targets[head], size) for head, size in sizes.items()}
            if joint is not None:
                shares[JOINT] = class_shares(joint, len(self.joint_classes))
            batch = self.mixed(batch, shares, progress)
            targets = dict(batch.targets)
            joint = targets.pop(JOINT, None)
        output = self.output_of(model, batch, progress)
        learned = None
        if joint is not None:
            assert output.joint is not None
            learned = (output.joint, joint)
        return multitask_loss(
            output.logits, targets, batch.weights, self.loss, self._head_weights, self._class_weights, learned
        )

    def new_metrics(self) -> MultitaskMetrics:
        """Accuracy and F1 of each head, of the joint, and of all heads at once."""
        return MultitaskMetrics.of(self.classes, self.joint_classes)

    def rows_of(self, probs: Mapping[str, np.ndarray]) -> list[Row]:
        """The most probable class of each head and of the joint, all probabilities, and the heads' weights if there are any."""
        names = {**self.classes, **({JOINT: self.joint_classes} if self.joint_classes else {})}
        rows: list[dict[str, Any]] = [{} for _ in range(len(next(iter(probs.values()))))]
        for head, classes in names.items():
            for row, (name, values) in zip(rows, chosen(classes, probs[head]), strict=True):
                row |= {f"{head}_prediction": name, f"{head}_probs": values}
        if ATTENTION in probs:
            for row, weights in zip(rows, probs[ATTENTION].tolist(), strict=True):
                row[ATTENTION] = weights
        return list(rows)

    def perfect_prediction(self, target: Row) -> Row:
        """The class of each head and their joint, with probability 1."""
        row: dict[str, Any] = {}
        for head, names in self.classes.items():
            row |= {f"{head}_prediction": target[head], f"{head}_probs": one_hot(names, target[head])}
        if self.joint_classes:
            joint = self.truth_of(JOINT, target)
            row |= {f"{JOINT}_prediction": joint, f"{JOINT}_probs": one_hot(self.joint_classes, joint)}
        return row

    def table_columns(self, probabilities: bool) -> list[str]:
        """A column for each head and the joint, or one for each of their classes."""
        joint = {self.target["joint"]["name"]: self.joint_classes} if self.joint_classes else {}
        names = {**self.classes, **joint}
        return [f"{head}={name}" for head, classes in names.items() for name in classes] if probabilities else list(names)

    def table_cells(self, prediction: Row, probabilities: bool) -> list[str]:
        """The classes, or all probabilities."""
        if probabilities:
            return [f"{value:.6f}" for column in self.probs_columns.values() for value in prediction[column]]
        return [prediction[f"{head}_prediction"] for head in self.probs_columns]

    def text_of(self, prediction: Row) -> str:
        """The class of each head: `mask:worn gender:male age:young`."""
        return " ".join(f"{head}:{prediction[f'{head}_prediction']}".replace(" ", "_") for head in self.classes)

    def report_sections(self, rows: Sequence[tuple[Row, Row]]) -> list[Section]:
        """Of each head and of the joint class: confusion, metrics of each class, confidence; how much each head counts."""
        metrics = self.new_metrics()
        for prediction, target in rows:
            metrics.add(prediction, target)
        parts = dict(metrics.heads)
        if metrics.joint is not None:
            parts["joint"] = metrics.joint
        titles = {head: f"Head {head}" for head in metrics.heads} | {"joint": "Joint class"}
        sections = [Section(titles[name], class_drawings(part), class_note(part)) for name, part in parts.items()]
        if self.attends and rows:
            sections.append(Section("How much each head counts", (self._attention(rows),)))
        return [*sections, *confusion_section(parts), Section("Metrics of each class", self.class_table(metrics))]

    def _attention(self, rows: Sequence[tuple[Row, Row]]) -> Matrix:
        """The mean weights of the heads by joint class, or of many by class of each head."""
        weights = np.array([prediction[ATTENTION] for prediction, _ in rows])
        heads = list(self.classes)
        if len(self.joint_classes) <= WHOLE:
            truths = [self.joint_of.get(tuple(target[head] for head in heads), "") for _, target in rows]
            return attention_matrix(heads, self.joint_classes, truths, weights)
        truths = [f"{head}={target[head]}" for head in heads for _, target in rows]
        return attention_matrix(heads, self.output_names, truths, np.tile(weights, (len(heads), 1)))

    def mistake(self, prediction: Row, target: Row) -> Mistake | None:
        """The most certain of the wrong classes of all heads."""
        mistakes = []
        for head, names in self.classes.items():
            given = prediction[f"{head}_prediction"], prediction[f"{head}_probs"]
            if found := wrong_class(names, *given, target[head], f"{head}="):
                mistakes.append(found)
        return max(mistakes, key=lambda found: found.certainty, default=None)

    def class_table(self, metrics: Metrics) -> Table:
        """Precision, recall and F1 of each class of each head, and of the joint."""
        assert isinstance(metrics, MultitaskMetrics)
        return metrics.per_class()
