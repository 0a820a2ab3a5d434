"""Pictures of a validation batch: what was read in its first images, and where the decoder looked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from cluster.scratch import scratch_folder
from models import Decoding, Recognizer
from trainers.tasks.sequence import SequenceTask

if TYPE_CHECKING:
    from data_pipeline.stream.batch import Batch
    from trainers.engine.step import DeviceBatch
    from trainers.report import Example

SAMPLES, ATTENTION = "val/samples", "val/attention"


@torch.inference_mode()
def sample_pictures(
    network: Recognizer, task: SequenceTask, batch: Batch, tensors: DeviceBatch, count: int
) -> dict[str, np.ndarray]:
    """Sheets uint8 (H, W, 3) of the first `count` images of `batch`, decoded greedily; nothing if it has none.

    `val/samples`: each image with its truth and its prediction, errors in red. `val/attention`: where the decoder looked
    for each token of the longest text among them that was read right, or of the first where none was.
    `network` is in evaluation mode and on the device of `tensors`. Padding and images that cannot be used are left out.
    """
    # Drawing is slow to import, and only the rank that shows pictures needs it.
    from trainers.report import AttentionExample, Example
    from trainers.report.attention_strip import draw_attention_sheet
    from trainers.report.sample_grid import draw_sample_sheet

    places = np.flatnonzero(batch.weights[: len(batch.ids)])[:count]
    if not len(places):
        return {}
    rows = torch.from_numpy(places).to(tensors.images.device)
    sizes = tensors.sizes[rows]
    generation = task.generate(network, tensors.images[rows], sizes, Decoding(return_attention=True))
    token_ids = generation.token_ids.cpu()
    texts = [task.tokenizer.decode(ids) for ids in token_ids.tolist()]
    examples = [
        Example(batch.ids[place], _pixels(batch, place), batch.columns["text"][place], text, batch.sources[place])
        for place, text in zip(places, texts, strict=True)
    ]
    shown = _most_telling(examples)
    shown_ids = token_ids[shown].tolist()
    # What has no text, and all that follows the end, has no tile; nor has the padding of the batch.
    steps = [step for step in range(int(generation.lengths[shown])) if task.tokenizer.tokens([shown_ids[step]])]
    assert generation.attention is not None
    height, width = network.backbone.cells(sizes)[shown].tolist()
    maps = generation.attention[shown][steps, :height, :width].float().cpu().numpy()
    attention = AttentionExample(examples[shown].image, [task.tokenizer.tokens([shown_ids[step]])[0] for step in steps], maps)
    with scratch_folder("pictures") as scratch:
        return {
            SAMPLES: _read(draw_sample_sheet(examples, scratch / "samples.png", max_examples=count)),
            ATTENTION: _read(draw_attention_sheet(attention, scratch / "attention.png")),
        }


def _pixels(batch: Batch, place: int) -> np.ndarray:
    """An image of the batch as it is drawn, uint8 (H, W) or (H, W, 3), without its padding."""
    height, width = batch.sizes[place].tolist()
    image = batch.images[place, :, :height, :width]
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def _most_telling(examples: list[Example]) -> int:
    """The longest text that was read right; the first example where none was."""
    right = [index for index, example in enumerate(examples) if example.correct and example.prediction]
    return max(right, key=lambda index: len(examples[index].prediction.split()), default=0)


def _read(file: Path) -> np.ndarray:
    """A PNG as uint8 (H, W, 3) RGB."""
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))
