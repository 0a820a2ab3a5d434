"""Image to one class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from cluster.errors import UserError
from data_pipeline.dataset.label_columns import LABEL
from data_pipeline.dataset.label_targets import ClassTargets
from data_pipeline.dataset.manifest import Split
from models import ClassifierOutput
from trainers.config.criterion import Directions
from trainers.tasks.base import Progress, Row
from trainers.tasks.classifiers.base import ClassifierTask, require_known
from trainers.tasks.classifiers.softmax import sharpened, softmax
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.metrics.multiclass import DETAILS, DIRECTIONS, HEADLINES, MulticlassMetrics
from trainers.tasks.presentation import MetricColumn


@dataclass(frozen=True)
class MulticlassTask(ClassifierTask):
    """Image to one class."""

    name: ClassVar[str] = "multiclass"
    columns: ClassVar[tuple[str, ...]] = (LABEL,)
    prediction_schema: ClassVar[pa.Schema] = pa.schema([("prediction", pa.string()), ("probs", pa.list_(pa.float32()))])
    directions: ClassVar[Directions] = DIRECTIONS
    main_metric: ClassVar[str] = "accuracy"
    headlines: ClassVar[tuple[MetricColumn, ...]] = HEADLINES
    details: ClassVar[tuple[MetricColumn, ...]] = DETAILS
