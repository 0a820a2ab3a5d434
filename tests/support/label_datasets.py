"""Small datasets with labels: squares in the corners of gray images, which a tiny network learns in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.label_columns import label_columns
from data_pipeline.dataset.manifest import MANIFEST, Dataset, Manifest, Split, open_dataset
from data_pipeline.dataset.shards import Row, write_shard
from data_pipeline.preparation.images import encode_png
from data_pipeline.preparation.label_survey import LabelSurvey
from data_pipeline.storage.base import open_storage

SIDE = 32
CORNERS = ("a", "b", "c", "d")  # upper left, upper right, lower left, lower right
MULTILABEL = {"classes": list(CORNERS)}
MULTICLASS = {"classes": [str(number) for number in range(12)]}  # as strings 10 and 11 would come before 2
MULTITASK = {
    "heads": {"shade": ["dark", "light"], "corner": ["upper", "lower", "none"]},
    "joint": {"name": "class", "classes": ["0", "1", "2", "3", "4", "5"]},
}
TARGETS: Mapping[str, dict[str, Any]] = {"multilabel": MULTILABEL, "multiclass": MULTICLASS, "multitask": MULTITASK}
# A network that takes milliseconds on 32 pixels, and settings under which it learns.
TINY = [
    "classifier.in_channels=1",
    "classifier.backbone.name=test_resnet",
    "stream.augmentation=none",
    "global_batch_size=16",
    "optim.lr=5e-3",
    "epochs=4",
    "compute.threads_per_worker=1",
    "report.enabled=false",
    "tracking.wandb=false",
]


def board(present: Sequence[str], shade: int, rng: np.random.Generator) -> np.ndarray:
    """An image with a square in each corner that is present."""
    image = rng.integers(0, 40, (SIDE, SIDE), dtype=np.uint8)
    for corner in present:
        row, column = divmod(CORNERS.index(corner), 2)
        image[3 + 16 * row : 13 + 16 * row, 3 + 16 * column : 13 + 16 * column] = shade
    return image


def labeled_row(task: str, name: str, rng: np.random.Generator) -> Row:
    """A random image of a task with its labels."""
    target: dict[str, Any]
    if task == "multilabel":
        present = [corner for corner in CORNERS if rng.random() < 0.45]
        image, target = board(present, 230, rng), {"labels": present}
    elif task == "multiclass":
        number = int(rng.integers(12))
        image = board([CORNERS[number % 4]], 80 + 70 * (number // 4), rng)
        target = {"label": str(number)}
    else:
        shade, corner = ("dark", "light")[int(rng.integers(2))], ("upper", "lower", "none")[int(rng.integers(3))]
        corners: dict[str, list[str]] = {"upper": ["a", "b"], "lower": ["c", "d"], "none": []}
        present = corners[corner]
        image, target = board(present, 230, rng), {"shade": shade, "corner": corner}
        image = np.maximum(image, 90 if shade == "light" else 0).astype(np.uint8)
    source = "even" if name[-1] in "02468" else "odd"
    return Row(name, encode_png(image), SIDE, SIDE, target, source=source, writer=f"w{int(rng.integers(20))}")


def write_dataset(
    folder: Path, task: str, target: Mapping[str, Any], rows: Mapping[str, Sequence[Row]], name: str, license: str = ""
) -> Dataset:
    """A dataset of the rows of each split, one shard each, of square images."""
    columns, survey = label_columns(task, target), LabelSurvey(task, target)
    storage, splits = open_storage(folder), {}
    for split, its_rows in rows.items():
        shard = write_shard(storage, f"{split}/part-00000.parquet", list(its_rows), columns)
        splits[split] = Split([shard], survey.stats([survey.of([row.target for row in its_rows])]))
    policy = ImagePolicy(height=SIDE, width=SIDE, fixed_width=True, background=0)
    manifest = Manifest(name, task, dict(target), columns, policy, splits, rejected=0, preparation={}, license=license)
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return open_dataset(str(folder))


def write_labels(
    folder: Path, task: str, counts: Mapping[str, int], target: Mapping[str, Any] | None = None, seed: int = 0
) -> Dataset:
    """A dataset of a task with so many rows of each split."""
    rng = np.random.default_rng(seed)
    rows = {
        split: [labeled_row(task, f"{split}-{number:04d}", rng) for number in range(count)] for split, count in counts.items()
    }
    return write_dataset(folder, task, target or TARGETS[task], rows, "squares", license="CC0")
