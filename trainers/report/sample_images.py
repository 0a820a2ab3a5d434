"""Sample images of a validation batch: what is predicted for its first images, and where the network looked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from cluster.scratch import scratch_folder
from trainers.tasks import Task

if TYPE_CHECKING:
    from data_pipeline.stream.batch import Batch
    from trainers.report import Example
    from trainers.tasks.device_batch import DeviceBatch

SAMPLES, ATTENTION = "val/samples", "val/attention"


@torch.inference_mode()
def sample_images(network: Any, task: Task, batch: Batch, tensors: DeviceBatch, count: int) -> dict[str, np.ndarray]:
    """Grids uint8 (H, W, 3) of the first `count` images of `batch` with what is predicted; empty if it has none.

    `val/samples`: each image with its truth and its prediction, errors in red. `val/attention`: where the network looked for
    each part of the longest prediction among them that is right, or of the first where none is, if it tells.
    `network` is in evaluation mode and on the device of `tensors`. Padding and images that cannot be used are left out.
    """
    # Drawing is slow to import, and only the rank that shows images needs it.
    from trainers.report import AttentionExample, Example
    from trainers.report.attention_strip import draw_attention_sheet
    from trainers.report.sample_grid import draw_sample_sheet

    shown = np.flatnonzero(batch.weights[: len(batch.ids)])[:count]
    if not len(shown):
        return {}
    rows = torch.from_numpy(shown).to(tensors.images.device)
    predicted = task.predict_with_attention(network, tensors.images[rows], tensors.sizes[rows])
    examples = []
    for index, (prediction, _) in zip(shown, predicted, strict=True):
        truth = task.perfect_prediction({name: batch.columns[name][index] for name in task.columns})
        texts = task.text_of(truth), task.text_of(prediction)
        examples.append(Example(batch.ids[index], _pixels(batch, index), *texts, batch.sources[index]))
    telling = _most_telling(examples)
    attention = predicted[telling][1]
    with scratch_folder("images") as scratch:
        images = {SAMPLES: _read(draw_sample_sheet(examples, scratch / "samples.png", max_examples=count))}
        if attention is not None:
            example = AttentionExample(examples[telling].image, attention.labels, attention.maps)
            images[ATTENTION] = _read(draw_attention_sheet(example, scratch / "attention.png"))
        return images


def _pixels(batch: Batch, index: int) -> np.ndarray:
    """An image of the batch as it is drawn, uint8 (H, W) or (H, W, 3), without its padding."""
    height, width = batch.sizes[index].tolist()
    image = batch.images[index, :, :height, :width]
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def _most_telling(examples: list[Example]) -> int:
    """The longest text that was read right; the first example where none was."""
    right = [index for index, example in enumerate(examples) if example.correct and example.prediction]
    return max(right, key=lambda index: len(examples[index].prediction.split()), default=0)


def _read(file: Path) -> np.ndarray:
    """A PNG as uint8 (H, W, 3) RGB."""
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))
