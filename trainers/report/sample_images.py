"""Sample images of a validation batch for trackers: what is predicted for its first images, and where the network looked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainers.report.attention_strip import draw_attention_strip
from trainers.report.sample_grid import draw_sample_grid
from trainers.tasks import Task
from trainers.tasks.presentation import AttentionExample, Example, Image, longest_correct

if TYPE_CHECKING:
    from data_pipeline.stream.batch import Batch
    from trainers.tasks.device_batch import DeviceBatch

SAMPLES, ATTENTION = "val/samples", "val/attention"


@torch.inference_mode()
def sample_images(network: Any, task: Task, batch: Batch, tensors: DeviceBatch, count: int) -> dict[str, np.ndarray]:
    """Images uint8 (H, W, 3) of the first `count` samples of `batch`, by name; none if it has no samples.

    `val/samples`: each with its truth and its prediction, errors in red. `val/attention`: where the network looked for each
    part of the longest prediction among them that is right, or of the first where none is, if it tells.
    `network` is in evaluation mode and on the device of `tensors`. Padding and images that cannot be used are left out.
    """
    indices = np.flatnonzero(batch.weights[: len(batch.ids)])[:count]
    if not len(indices):
        return {}
    rows = torch.from_numpy(indices).to(tensors.images.device)
    predicted = task.predict_with_attention(network, tensors.images[rows], tensors.sizes[rows])
    examples = []
    for index, (prediction, _) in zip(indices, predicted, strict=True):
        truth = task.perfect_prediction({name: batch.columns[name][index] for name in task.columns})
        texts = task.text_of(truth), task.text_of(prediction)
        examples.append(Example(batch.ids[index], _pixels(batch, index), *texts, batch.sources[index]))
    images = {SAMPLES: draw_sample_grid(examples, max_examples=count)}
    shown = longest_correct(examples)
    attention = predicted[shown][1]
    if attention is not None:
        example = AttentionExample(examples[shown].image, attention.labels, attention.maps)
        images[ATTENTION] = draw_attention_strip(example)
    return images


def _pixels(batch: Batch, index: int) -> Image:
    """An image of the batch as it is drawn, uint8 (H, W) or (H, W, 3), without its padding."""
    height, width = batch.sizes[index].tolist()
    image = batch.images[index, :, :height, :width]
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
