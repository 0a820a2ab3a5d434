"""The images of a split that its report shows because the model is wrong about them, with where it saw its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline.dataset.manifest import Dataset
from data_pipeline.dataset.row_groups import iter_row_groups
from trainers.prediction.predictor import Predictor
from trainers.tasks.presentation import Gallery, NotedImage, Section

COUNT = 12
TITLE = "Most certain errors"
NOTE = "Where the model is most certain and wrong, with its probabilities. On the right what speaks for the class named first."


def notable_images(predictor: Predictor, dataset: Dataset, split: str, rows: Sequence[Mapping[str, Any]]) -> list[Section]:
    """A section with the rows that the task finds most notable among those with a prediction; none where it finds none."""
    predicted = [row for row in rows if not row["error"]]
    notable = predictor.task.notable_rows([(row, row) for row in predicted], COUNT)
    encoded = encoded_images(dataset, split, {predicted[found.row]["id"] for found in notable})
    shown = []
    for found in notable:
        row = predicted[found.row]
        image = predictor.prepare(encoded[row["id"]]).pixels
        seen = predictor.task.saliency(predictor.model, *predictor.to_tensors([image]), found.output)
        shown.append(NotedImage(row["id"], image, found.notes, row["source"], seen))
    return [Section(TITLE, (Gallery(TITLE, shown),), NOTE)] if shown else []


def encoded_images(dataset: Dataset, split: str, ids: set[str]) -> dict[str, bytes]:
    """The encoded images of some rows of a split."""
    found: dict[str, bytes] = {}
    if not ids:
        return found
    for table in iter_row_groups(dataset.storage, dataset.manifest.split(split), ["id", "image"]):
        names = table.column("id").to_pylist()
        found |= {name: table.column("image")[row].as_py() for row, name in enumerate(names) if name in ids}
        if len(found) == len(ids):
            break
    return found
