"""A second task, as small as one can be: counting the strokes of an image as a number. It touches no file but this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Dataset, Manifest, Split, open_dataset
from data_pipeline.dataset.shards import Row, write_shard
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import open_storage
from trainers.config.criterion import Directions
from trainers.config.train import TrainConfig
from trainers.tasks.base import Attention, Progress, Task
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.metrics.base import Metrics
from trainers.tasks.presentation import MetricColumn, Section, Table

UNITS = "strokes"


class CountTargets:
    """The column `count` as {"counts": float32 (B,)}."""

    columns = ("count",)

    def encode(self, row: Mapping[str, Any]) -> float:
        return float(row["count"])

    def collate(self, targets: Sequence[Any | None], size: int) -> dict[str, np.ndarray]:
        counts = np.zeros(size, np.float32)
        for index, target in enumerate(targets):
            counts[index] = target or 0.0
        return {"counts": counts}

    def concat(self, parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {"counts": np.concatenate([part["counts"] for part in parts])}


class Counter(nn.Module):
    """Ink in the columns of an image to a number."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(8 * 16, 1)

    def forward(self, images: Tensor, sizes: Tensor) -> Tensor:
        return self.head(self.features(1 - images.float() / 255))[:, 0]


@dataclass
class CountMetrics(Metrics):
    exact: int = 0
    error: float = 0.0

    def add(self, prediction: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        self.count += 1
        self.exact += prediction["strokes"] == target["count"]
        self.error += abs(prediction["strokes"] - target["count"])

    def averages(self) -> dict[str, float]:
        count = self.count or float("nan")
        rest = {"accuracy": self.exact / count, "mean_error": self.error / count}
        return {"count": float(self.count), **rest, "rejected": float(self.rejected)}


@dataclass(frozen=True)
class StrokeCountTask(Task):
    """Image to the number of its strokes, by squared error."""

    name: ClassVar[str] = "stroke_count"
    file: ClassVar[str] = "unit.txt"
    options: ClassVar[str] = ""
    columns: ClassVar[tuple[str, ...]] = ("count",)
    prediction_schema: ClassVar[pa.Schema] = pa.schema([("strokes", pa.int64())])
    directions: ClassVar[Directions] = {"accuracy": "max", "mean_error": "min", "loss": "min"}
    main_metric: ClassVar[str] = "mean_error"
    headlines: ClassVar[tuple[MetricColumn, ...]] = (
        MetricColumn("count", "images", "7.0f"),
        MetricColumn("accuracy", "right", "6.1%", "max"),
        MetricColumn("mean_error", "off by", ".3f", "min", "Mean error"),
    )
    details: ClassVar[tuple[MetricColumn, ...]] = (MetricColumn("loss", "loss", ".4f", "min"),)
    pretrained: ClassVar[bool] = False
    untrained_loss: ClassVar[float] = 0.0

    unit: str

    @classmethod
    def from_dataset(cls, manifest: Manifest, config: TrainConfig) -> Self:
        return cls(manifest.target["unit"])

    @classmethod
    def from_checkpoint(cls, content: bytes, limits: Mapping[str, Any], config: TrainConfig) -> Self:
        return cls(content.decode())

    def to_bytes(self) -> bytes:
        return self.unit.encode()

    @property
    def limits(self) -> dict[str, Any]:
        return {}

    @property
    def output_names(self) -> list[str]:
        return [self.unit]

    def describe(self) -> str:
        return f"a number of {self.unit}"

    def require_same(self, other: Self, mine: str, theirs: str) -> None:
        if self.unit != other.unit:
            raise UserError(f"{mine} counts {self.unit}, {theirs} {other.unit}.")

    def require_covers(self, other: Self, mine: str, theirs: str) -> list[str]:
        self.require_same(other, mine, theirs)
        return []

    def target_encoder(self) -> CountTargets:
        return CountTargets()

    def build_model(self, pretrained: bool = False) -> nn.Module:
        return Counter()

    def output_axes(self) -> dict[str, int]:
        return {}

    def check_dataset(self, dataset: Dataset, split: str, model: nn.Module) -> list[str]:
        return []

    def largest_targets(self, batch_size: int, split: Split) -> dict[str, np.ndarray]:
        return {"counts": np.zeros(batch_size, np.float32)}

    def target_count(self, batch: DeviceBatch) -> Tensor:
        return batch.weights.sum()

    def loss_sum(self, model: nn.Module, batch: DeviceBatch, progress: Progress | None = None) -> Tensor:
        losses = F.mse_loss(model(batch.images, batch.sizes).float(), batch.targets["counts"], reduction="none")
        return (losses * batch.weights).sum()

    def for_validation(self) -> Self:
        return self

    def new_metrics(self) -> CountMetrics:
        return CountMetrics()

    @torch.inference_mode()
    def predict(self, model: Any, images: Tensor, sizes: Tensor) -> list[Mapping[str, Any]]:
        return [{"strokes": round(count)} for count in model(images, sizes).tolist()]

    def predict_with_attention(
        self, model: Any, images: Tensor, sizes: Tensor
    ) -> list[tuple[Mapping[str, Any], Attention | None]]:
        return [(prediction, None) for prediction in self.predict(model, images, sizes)]

    def perfect_prediction(self, target: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"strokes": target["count"]}

    def text_of(self, prediction: Mapping[str, Any]) -> str:
        return str(prediction["strokes"])

    def report_sections(self, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[Section]:
        off = [abs(prediction["strokes"] - target["count"]) for prediction, target in rows]
        table = Table(["off by", "images"], [[error, off.count(error)] for error in sorted(set(off))])
        return [Section("How far off the counts are", table)]


def write_stroke_dataset(folder: Path, **counts: int) -> Dataset:
    """Images of 1 to 5 upright strokes, so many of each split."""
    rng = np.random.default_rng(0)
    storage, splits = open_storage(folder), {}
    for split, count in counts.items():
        rows = [_row(f"{split}-{number:03d}", int(rng.integers(1, 6)), rng) for number in range(count)]
        shard = write_shard(storage, f"{split}/part-00000.parquet", rows, {"count": "int64"})
        splits[split] = Split([shard], {})
    policy = ImagePolicy(height=16, width=32)
    manifest = Manifest("strokes", "stroke_count", {"unit": UNITS}, {"count": "int64"}, policy, splits, 0, {}, license="CC0")
    (folder / "dataset.json").write_bytes(manifest.to_json())
    return open_dataset(str(folder))


def _row(name: str, count: int, rng: np.random.Generator) -> Row:
    image = np.full((16, 32), 255, np.uint8)
    for column in rng.choice(np.arange(1, 31, 3), count, replace=False):
        image[2:14, column : column + 2] = 0
    return Row(name, encode_png(image), 32, 16, {"count": count}, "drawn" if count % 2 else "drawn, even")
