"""Image to any number of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from data_pipeline.dataset.label_columns import LABELS
from data_pipeline.dataset.label_targets import LabelTargets
from data_pipeline.dataset.manifest import Split
from models import ClassifierOutput
from trainers.config.criterion import Directions
from trainers.config.labeling import LabelingConfig
from trainers.tasks.base import NotableRow, Progress, Row
from trainers.tasks.calibration import multilabel_temperature, tune_thresholds, with_temperature
from trainers.tasks.classifiers.base import ClassifierTask
from trainers.tasks.classifiers.checks import require_defaults
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.inspection.label_sections import label_sections
from trainers.tasks.inspection.mistakes import most_certain, wrong_label
from trainers.tasks.known_names import require_known
from trainers.tasks.losses.class_weights import Presences, presences
from trainers.tasks.losses.labels import multilabel_count, multilabel_loss
from trainers.tasks.metrics.base import Metrics
from trainers.tasks.metrics.multilabel import DETAILS, DIRECTIONS, HEADLINES, MultilabelMetrics
from trainers.tasks.presentation import MetricColumn, Section, Table


@dataclass(frozen=True)
class MultilabelTask(ClassifierTask):
    """Image to any number of classes, each present or absent: a loss over all pairs of image and class."""

    name: ClassVar[str] = "multilabel"
    columns: ClassVar[tuple[str, ...]] = (LABELS,)
    prediction_schema: ClassVar[pa.Schema] = pa.schema(
        [("predictions", pa.list_(pa.string())), ("probs", pa.list_(pa.float32()))]
    )
    directions: ClassVar[Directions] = DIRECTIONS
    main_metric: ClassVar[str] = "map"
    headlines: ClassVar[tuple[MetricColumn, ...]] = HEADLINES
    details: ClassVar[tuple[MetricColumn, ...]] = DETAILS

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """One head."""
        return {LABELS: tuple(self.target["classes"])}

    def check_options(self) -> None:
        """Check the classes that have thresholds of their own; there are no heads with temperatures."""
        require_known("labeling.thresholds", self.labeling.thresholds, self.classes[LABELS], "class")
        require_known("labeling.temperatures", self.labeling.temperatures, [], "head")

    def check_names(self) -> None:
        """Check the classes that have thresholds or weights of their own."""
        self.check_options()
        require_defaults(self.loss, ["multiclass", "joint_weight"], self.name)
        require_known("label_loss.heads", self.loss.heads, [], "head")
        presences(self.loss, self.classes[LABELS], self.class_rows, self.train_rows)

    @cached_property
    def presences(self) -> Presences:
        """How often each class is present in training, and the weights of its presences."""
        return presences(self.loss, self.classes[LABELS], self.class_rows, self.train_rows)

    def describe(self) -> str:
        """`26 classes, any number of them at once`."""
        return f"{len(self.classes[LABELS])} classes, any number of them at once"

    def target_encoder(self) -> LabelTargets:
        """Target `labels` float32 (B, K) of 0 and 1."""
        return LabelTargets(LABELS, self.classes[LABELS])

    def largest_targets(self, batch_size: int, split: Split) -> dict[str, np.ndarray]:
        """No image has larger targets than another."""
        return {LABELS: np.zeros((batch_size, len(self.classes[LABELS])), np.float32)}

    @property
    def untrained_loss(self) -> float:
        """That of an even chance: ln 2 a class."""
        return math.log(2)

    def target_count(self, batch: DeviceBatch) -> Tensor:
        """Pairs of image and class: float scalar."""
        return multilabel_count(batch.weights, len(self.classes[LABELS]))

    def loss_sum(self, model: nn.Module, batch: DeviceBatch, progress: Progress | None = None) -> Tensor:
        """The loss summed over all pairs of image and class; of mixed images in training, if so configured."""
        if progress is not None and self.mixup.enabled:
            batch = self.mixed(batch, batch.targets, progress)
        output = self.output_of(model, batch, progress)
        return multilabel_loss(output.logits[LABELS], batch.targets[LABELS], batch.weights, self.loss, self.presences)

    def new_metrics(self) -> MultilabelMetrics:
        """Accuracy over pairs, exact match, F1, mean average precision, calibration error."""
        return MultilabelMetrics(classes=self.classes[LABELS])

    def thresholds(self) -> np.ndarray:
        """The probability above which each class is present: float32 (K,)."""
        own = self.labeling.thresholds
        return np.array([own.get(name, self.labeling.threshold) for name in self.classes[LABELS]], np.float32)

    def probabilities(self, output: ClassifierOutput) -> dict[str, Tensor]:
        """The sigmoid of the logits; in float64, since that of float32 differs by where in memory a value lies."""
        return {LABELS: output.logits[LABELS].double().sigmoid().float()}

    def at_temperature(self, probs: np.ndarray, temperature: float) -> np.ndarray:
        """Probabilities with their logits divided by the temperature."""
        return with_temperature(probs, temperature, multilabel=True)

    def tuned(self, rows: Sequence[Row], per_class: bool = False) -> tuple[LabelingConfig, list[str]]:
        """One temperature; and then one threshold, or one for each class."""
        names = self.classes[LABELS]
        probs = np.array([row["probs"] for row in rows], np.float32)
        truth = np.array([[name in row[LABELS] for name in names] for row in rows], bool)
        temperature = multilabel_temperature(probs, truth)
        found = tune_thresholds(self.at_temperature(probs, temperature), truth, names)
        labeling = replace(self.labeling, temperature=temperature, temperatures={}, threshold=found.threshold, thresholds={})
        if not per_class:
            return labeling, []
        kept = ", ".join(found.kept[:10])
        notes = [f"Without a threshold of their own, never or always present: {kept}."] if kept else []
        return replace(labeling, thresholds={name: found.thresholds[name] for name in names if name not in found.kept}), notes

    def rows_of(self, probs: Mapping[str, np.ndarray]) -> list[Row]:
        """The classes above their thresholds, in declared order, and all probabilities."""
        names, values = self.classes[LABELS], probs[LABELS]
        present = values > self.thresholds()
        return [
            {"predictions": [names[index] for index in np.flatnonzero(chosen)], "probs": row.tolist()}
            for chosen, row in zip(present, values, strict=True)
        ]

    def perfect_prediction(self, target: Row) -> Row:
        """The classes with probability 1, the others with 0."""
        present = set(target[LABELS])
        names = self.classes[LABELS]
        return {
            "predictions": [name for name in names if name in present],
            "probs": [float(name in present) for name in names],
        }

    def constant_prediction(self, targets: Sequence[Row]) -> Row:
        """Each class that is present in more than half of the images; their shares are its probabilities."""
        names = self.classes[LABELS]
        counts = dict.fromkeys(names, 0)
        for target in targets:
            for name in target[LABELS]:
                counts[name] = counts.get(name, 0) + 1
        shares = {name: counts[name] / max(len(targets), 1) for name in names}
        return {
            "predictions": [name for name in names if shares[name] > 0.5],
            "probs": list(shares.values()),
        }

    def table_columns(self, probabilities: bool) -> list[str]:
        """A column for each class."""
        return list(self.classes[LABELS])

    def table_cells(self, prediction: Row, probabilities: bool) -> list[str]:
        """The probability of each class, or 1 for those that are present and 0 for the others."""
        if probabilities:
            return [f"{value:.6f}" for value in prediction["probs"]]
        present = set(prediction["predictions"])
        return [str(int(name in present)) for name in self.classes[LABELS]]

    def text_of(self, prediction: Row) -> str:
        """The names of the classes; `(none)` of none."""
        return " ".join(name.replace(" ", "_") for name in prediction["predictions"]) or "(none)"

    def report_sections(self, rows: Sequence[tuple[Row, Row]]) -> list[Section]:
        """Metrics of each class, other thresholds, confidence, errors that come together."""
        metrics = self.new_metrics()
        for prediction, target in rows:
            metrics.add(prediction, target)
        own = len(set(self.labeling.thresholds) & set(self.classes[LABELS]))
        return [
            *label_sections(metrics, self.labeling.threshold, own),
            Section("Metrics of each class", self.class_table(metrics)),
        ]

    def notable_rows(self, rows: Sequence[tuple[Row, Row]], count: int) -> list[NotableRow]:
        """The rows with the most certain wrong answers about the presence of a class."""
        names = self.classes[LABELS]
        mistakes = (wrong_label(names, given["predictions"], given["probs"], target[LABELS]) for given, target in rows)
        return most_certain(mistakes, count)

    def class_table(self, metrics: Metrics) -> Table:
        """Precision, recall, F1 and average precision of each class, and its threshold."""
        assert isinstance(metrics, MultilabelMetrics)
        return metrics.per_class(self.labeling.thresholds, self.labeling.threshold)
