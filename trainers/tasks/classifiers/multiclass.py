"""Image to one class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from data_pipeline.dataset.label_columns import LABEL
from trainers.config.criterion import Directions
from trainers.tasks.base import Progress, Row
from trainers.tasks.classifiers.checks import require_defaults
from trainers.tasks.classifiers.softmax import SoftmaxTask, chosen, one_hot, require_no_thresholds
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.inspection.class_sections import class_drawings, class_note, confusion_section
from trainers.tasks.inspection.mistakes import Mistake, wrong_class
from trainers.tasks.known_names import require_known
from trainers.tasks.losses.class_weights import Weights, class_weights
from trainers.tasks.losses.labels import multiclass_count, multiclass_loss
from trainers.tasks.losses.mixing import class_shares
from trainers.tasks.metrics.base import Metrics
from trainers.tasks.metrics.multiclass import DETAILS, DIRECTIONS, HEADLINES, MulticlassMetrics, directions
from trainers.tasks.presentation import MetricColumn, Section, Table


@dataclass(frozen=True)
class MulticlassTask(SoftmaxTask):
    """Image to one class."""

    name: ClassVar[str] = "multiclass"
    columns: ClassVar[tuple[str, ...]] = (LABEL,)
    prediction_schema: ClassVar[pa.Schema] = pa.schema([("prediction", pa.string()), ("probs", pa.list_(pa.float32()))])
    directions: ClassVar[Directions] = DIRECTIONS
    main_metric: ClassVar[str] = "accuracy"
    headlines: ClassVar[tuple[MetricColumn, ...]] = HEADLINES
    details: ClassVar[tuple[MetricColumn, ...]] = DETAILS

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """One head."""
        return {LABEL: tuple(self.target["classes"])}

    @property
    def reported_directions(self) -> Directions:
        """With the top 5 where there are more than 5 classes."""
        return directions(len(self.classes[LABEL]))

    def check_options(self) -> None:
        """Check that the labeling has no thresholds, and no heads."""
        require_no_thresholds(self.labeling)
        require_known("labeling.temperatures", self.labeling.temperatures, [], "head")

    def check_names(self) -> None:
        """Check the classes that have weights of their own."""
        self.check_options()
        require_defaults(self.loss, ["multilabel", "joint_weight"], self.name)
        require_known("label_loss.heads", self.loss.heads, [], "head")
        class_weights(self.loss, self.classes[LABEL], self.class_rows)

    @cached_property
    def class_weights(self) -> Weights | None:
        """The weight of each class in the loss."""
        return class_weights(self.loss, self.classes[LABEL], self.class_rows)

    def describe(self) -> str:
        """`18 classes`."""
        return f"{len(self.classes[LABEL])} classes"

    @property
    def untrained_loss(self) -> float:
        """A uniform guess's: ln K."""
        return math.log(max(len(self.classes[LABEL]), 2))

    def target_count(self, batch: DeviceBatch) -> Tensor:
        """The images, each by the weight of its class: float scalar."""
        return multiclass_count(batch.targets[LABEL], batch.weights, self.class_weights)

    def loss_sum(self, model: nn.Module, batch: DeviceBatch, progress: Progress | None = None) -> Tensor:
        """The loss summed over the images; of mixed ones in training, if so configured."""
        if progress is not None and self.mixup.enabled:
            shares = class_shares(batch.targets[LABEL], len(self.classes[LABEL]))
            batch = self.mixed(batch, {LABEL: shares}, progress)
        output = self.output_of(model, batch, progress)
        return multiclass_loss(output.logits[LABEL], batch.targets[LABEL], batch.weights, self.loss, self.class_weights)

    def new_metrics(self) -> MulticlassMetrics:
        """Accuracy, F1, calibration error, and the confusion matrix."""
        return MulticlassMetrics(classes=self.classes[LABEL])

    def rows_of(self, probs: Mapping[str, np.ndarray]) -> list[Row]:
        """The most probable class, and all probabilities."""
        return [{"prediction": name, "probs": values} for name, values in chosen(self.classes[LABEL], probs[LABEL])]

    def perfect_prediction(self, target: Row) -> Row:
        """The class, with probability 1."""
        return {"prediction": target[LABEL], "probs": one_hot(self.classes[LABEL], target[LABEL])}

    def table_columns(self, probabilities: bool) -> list[str]:
        """The label, or a column for each class."""
        return list(self.classes[LABEL]) if probabilities else [LABEL]

    def table_cells(self, prediction: Row, probabilities: bool) -> list[str]:
        """The class, or the probability of each."""
        return [f"{value:.6f}" for value in prediction["probs"]] if probabilities else [prediction["prediction"]]

    def text_of(self, prediction: Row) -> str:
        """The class."""
        return str(prediction["prediction"])

    def report_sections(self, rows: Sequence[tuple[Row, Row]]) -> list[Section]:
        """Confusion, metrics of each class, confidence."""
        metrics = self.new_metrics()
        for prediction, target in rows:
            metrics.add(prediction, target)
        return [
            Section("Classes", class_drawings(metrics), class_note(metrics)),
            *confusion_section({LABEL: metrics}),
            Section("Metrics of each class", self.class_table(metrics)),
        ]

    def mistake(self, prediction: Row, target: Row) -> Mistake | None:
        """The predicted class, if it is wrong."""
        return wrong_class(self.classes[LABEL], prediction["prediction"], prediction["probs"], target[LABEL])

    def class_table(self, metrics: Metrics) -> Table:
        """Precision, recall and F1 of each class."""
        assert isinstance(metrics, MulticlassMetrics)
        return metrics.per_class()
