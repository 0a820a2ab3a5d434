"""Images of a validation batch for trackers: what was read in its first images, and where the decoder looked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models import Recognizer
from trainers.report.attention_strip import draw_attention_strip
from trainers.report.sample_grid import draw_sample_grid
from trainers.tasks.sample_reading import read_samples
from trainers.tasks.sequence import SequenceTask

if TYPE_CHECKING:
    from data_pipeline.stream.batch import Batch
    from trainers.tasks.device_batch import DeviceBatch

SAMPLES, ATTENTION = "val/samples", "val/attention"


def sample_images(
    network: Recognizer, task: SequenceTask, batch: Batch, tensors: DeviceBatch, count: int
) -> dict[str, np.ndarray]:
    """Images uint8 (H, W, 3) of the first `count` samples of `batch`, by name; none if it has no samples.

    `val/samples`: each with its truth and its prediction, errors in red. `val/attention`: where the decoder looked for each
    token of one of them, if the model has attention to show.
    `network` is in evaluation mode and on the device of `tensors`.
    """
    examples, attention = read_samples(network, task, batch, tensors, count)
    images = {SAMPLES: draw_sample_grid(examples, max_examples=count)} if examples else {}
    return images | ({ATTENTION: draw_attention_strip(attention)} if attention else {})
