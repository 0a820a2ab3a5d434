"""Sample images of a validation batch: what is predicted for its first images, and where the network looked."""

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
def sample_images(network: Any, task: Task, batch: Batch, tensors: DeviceBatch, count: int) -> dict[str, Image]:
    """Grids uint8 (H, W, 3) of the first `count` images of `batch` with what is predicted; empty if it has none.

    `val/samples`: each image with its truth and its prediction, errors in red. `val/attention`: where the network looked for
    each part of the longest prediction among them that is correct, or of the first where none is, if it tells.
    `network` is in evaluation mode and on the device of `tensors`. Padding and images that cannot be used are left out.
    """
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
    images = {SAMPLES: draw_sample_grid(examples, max_examples=count)}
    chosen = longest_correct(examples)
    attention = predicted[chosen][1]
    if attention is not None:
        images[ATTENTION] = draw_attention_strip(AttentionExample(examples[chosen].image, attention.labels, attention.maps))
    return images


def _pixels(batch: Batch, index: int) -> Image:
    """An image of the batch as it is drawn, uint8 (H, W) or (H, W, 3), without its padding."""
    height, width = batch.sizes[index].tolist()
    image = batch.images[index, :, :height, :width]
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
