"""The task: all that differs between kinds of output, behind one protocol.

A dataset's manifest names its task, `trainers.tasks.TASKS` has the class. Nothing outside `trainers/tasks/` asks which task it
is. Adding one is a file here and a line in that table.

Legend: B batch, C channels, H W height and width in pixels, h w those of a feature map, T positions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from data_pipeline.dataset.manifest import Dataset, Manifest, Split
from data_pipeline.dataset.targets import TargetEncoder
from trainers.config.criterion import Directions
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.metrics.base import Metrics
from trainers.tasks.presentation import MetricColumn, Section, Table

if TYPE_CHECKING:
    from trainers.config.train import TrainConfig

Row = Mapping[str, Any]  # values of columns, by name


@dataclass(frozen=True)
class Progress:
    """Where in a run a training step is taken: step `step` of `total_steps`, of a run with this seed."""

    step: int
    total_steps: int
    seed: int


class Attention(NamedTuple):
    """Where a network looked for each part of its prediction: `labels` of T parts and `maps` float32 (T, h, w)."""

    labels: list[str]
    maps: np.ndarray


class NotableRow(NamedTuple):
    """A row that people should look at: its place among the rows, what there is to say of it, and the output it is about."""

    row: int
    notes: Mapping[str, str]
    output: str  # one of the task's `output_names`


class Task(Protocol):
    """Targets, network, loss, metrics and predictions of one kind of output. What has a body here suits most tasks.

    An instance belongs to one dataset's outputs (a vocabulary, class names) and one configuration. It pickles: workers and
    predictors are handed the instance, they look nothing up.
    """

    name: ClassVar[str]  # as in the manifest
    file: ClassVar[str]  # of a checkpoint: the names of its outputs (vocab.json, classes.json)
    options: ClassVar[str]  # section of the configuration that a prediction may change (decoding); empty: none
    directions: ClassVar[Directions]  # metrics that weights can be compared by, and whether more or less is better
    main_metric: ClassVar[str]  # key of `directions` that the best checkpoint and early stopping go by, unless configured
    model_section: ClassVar[str] = "model"  # section of the configuration that describes the network, with a key in_channels

    attention_note: ClassVar[str] = "Where the decoder looked for each token, in reading order."  # below attention on a page

    # What follows is the same for all datasets of most tasks: a class attribute there.

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the dataset that hold the truth."""

    @property
    def prediction_schema(self) -> pa.Schema:
        """The columns of a prediction."""

    @property
    def reported_directions(self) -> Directions:
        """All metrics of this dataset that weights can be compared by, and whether more or less of each is better."""
        return self.directions

    @property
    def headlines(self) -> tuple[MetricColumn, ...]:
        """The metrics that consoles, tables and model cards show."""

    @property
    def details(self) -> tuple[MetricColumn, ...]:
        """The metrics that only a report has room for."""

    @classmethod
    def from_dataset(cls, manifest: Manifest, config: TrainConfig) -> Self:
        """The task of a dataset.

        Raises:
            UserError: the dataset cannot be one of this task, or the configuration does not fit it.
        """

    @classmethod
    def from_checkpoint(cls, content: bytes, limits: Row, config: TrainConfig) -> Self:
        """The task of a checkpoint, from the content of its `file` and its `limits`.

        Raises:
            ValueError: the content is damaged.
        """

    def to_bytes(self) -> bytes:
        """The content of the checkpoint's `file`."""

    @property
    def limits(self) -> dict[str, Any]:
        """What a checkpoint notes beside `file`: limits of the output that follow from the dataset, as JSON."""

    @property
    def output_names(self) -> list[str]:
        """The name of each output, in the order of the network's rows for them."""

    def describe(self) -> str:
        """How many outputs there are, in words: `92 tokens`."""

    def legend(self) -> list[str]:
        """Lines about the outputs that the log of a run begins with."""
        return []

    def require_same(self, other: Self, mine: str, theirs: str) -> None:
        """Check that `other` (from `theirs`, in words) has the same outputs as this one (from `mine`), for resuming.

        Raises:
            UserError: with the difference.
        """

    def require_covers(self, other: Self, mine: str, theirs: str) -> list[str]:
        """Check that this one knows all outputs of `other`, for evaluating on its dataset; returns what differs without harm.

        Raises:
            UserError: with what is missing.
        """

    def target_encoder(self) -> TargetEncoder:
        """What makes target tensors of a dataset's rows, in the stream."""

    def build_model(self, pretrained: bool = False) -> nn.Module:
        """The network, able to predict as configured; weights of a hub are fetched only with `pretrained`.

        Raises:
            UserError: the configuration asks for something impossible, by key.
        """

    @property
    def pretrained(self) -> bool:
        """Whether the configuration takes weights from a hub."""

    def output_axes(self) -> dict[str, int]:
        """The axis along which each tensor of the network's state has a row per output, by name; others are left out."""

    def tensor_outputs(self, tensor: str) -> list[str]:
        """The outputs that the rows of a tensor of `output_axes` belong to, in order; for warm starts, which carry by name."""
        return self.output_names

    def shares(self, tensor: str, other: Task) -> bool:
        """Whether a tensor whose rows are of no outputs means the same in a network of `other`."""
        return True

    def check_dataset(self, dataset: Dataset, split: str, model: nn.Module) -> list[str]:
        """What is doubtful about training `model` (on the meta device) on a split, in sentences for the log.

        Raises:
            UserError: it is impossible.
        """

    def largest_targets(self, batch_size: int, split: Split) -> dict[str, np.ndarray]:
        """Targets of `batch_size` rows as large as they get in `split`, to find out what fits the memory."""

    @property
    def untrained_loss(self) -> float:
        """The loss per target of a network that guesses at random."""

    def target_count(self, batch: DeviceBatch) -> Tensor:
        """How many targets the loss of this batch is over: float scalar."""

    def loss_sum(self, model: nn.Module, batch: DeviceBatch, progress: Progress | None = None) -> Tensor:
        """The loss summed over the targets of the batch, in float32; `progress` of a training step, None in validation."""

    def for_validation(self) -> Self:
        """The same task with the loss and the way of predicting that validation during training uses."""

    def for_prediction(self, model: Any) -> Any:
        """The network as it predicts fastest, after its weights were loaded: the same outputs, maybe other modules."""
        return model

    def new_metrics(self) -> Metrics:
        """Sums over predictions, empty."""

    def predict(self, model: Any, images: Tensor, sizes: Tensor) -> list[Row]:
        """Predictions of images uint8 (B, C, H, W) of true `sizes` (B, 2), each a row of `prediction_schema`."""

    def loss_and_predictions(self, model: Any, batch: DeviceBatch) -> tuple[Tensor, list[Row]]:
        """What `loss_sum` and `predict` give for a batch of a validation."""
        return self.loss_sum(model, batch), self.predict(model, batch.images, batch.sizes)

    def predict_with_attention(self, model: Any, images: Tensor, sizes: Tensor) -> list[tuple[Row, Attention | None]]:
        """As `predict` in its simplest way, with where the network looked; None where it does not tell."""

    def perfect_prediction(self, target: Row) -> Row:
        """The prediction that `target`, the values of `columns`, asks for."""

    def constant_prediction(self, targets: Sequence[Row]) -> Row:
        """The prediction that is right most often for these `targets`, whatever the image: what a model has to beat."""
        answers = Counter(json.dumps(dict(target), ensure_ascii=False, sort_keys=True) for target in targets)
        # Ties go to the alphabet, not to the order of the shards.
        return self.perfect_prediction(json.loads(min(answers, key=lambda answer: (-answers[answer], answer))))

    def text_of(self, prediction: Row) -> str:
        """A prediction as a text to show; of `perfect_prediction`, the truth."""

    def table_columns(self, probabilities: bool) -> list[str]:
        """The columns of predictions in a table of text; of probabilities none where the task has none."""
        return [] if probabilities else [field.name for field in self.prediction_schema if not pa.types.is_list(field.type)]

    def table_cells(self, prediction: Row, probabilities: bool) -> list[str]:
        """The cells of a prediction in such a table."""
        return [str(prediction[name]) for name in self.table_columns(probabilities)]

    def report_sections(self, rows: Sequence[tuple[Row, Row]]) -> list[Section]:
        """Sections that the report shows of a split's (prediction, target) pairs, besides what it shows of every task."""

    def notable_rows(self, rows: Sequence[tuple[Row, Row]], count: int) -> list[NotableRow]:
        """Up to `count` (prediction, target) pairs that a report shows with their images: the most certain errors, say."""
        return []

    def saliency(self, model: Any, images: Tensor, sizes: Tensor, output: str) -> np.ndarray | None:
        """Where the network sees, in one image uint8 (1, C, H, W), what speaks for an output: (h, w); None if it has no map."""
        return None

    def class_table(self, metrics: Metrics) -> Table | None:
        """The metrics of each class, a row each; None where there are no classes."""
        return None
