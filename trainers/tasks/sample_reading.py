"""What a recognizer reads in the first images of a batch, and where its decoder looks in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from models import Decoding, Generation, Recognizer
from trainers.tasks.presentation import AttentionExample, Example, Image

if TYPE_CHECKING:
    from data_pipeline.dataset.tokenizer import Tokenizer
    from data_pipeline.stream.batch import Batch
    from trainers.tasks.device_batch import DeviceBatch
    from trainers.tasks.sequence import SequenceTask


@torch.inference_mode()
def read_samples(
    network: Recognizer, task: SequenceTask, batch: Batch, tensors: DeviceBatch, count: int
) -> tuple[list[Example], AttentionExample | None]:
    """The first `count` images of `batch`, decoded greedily, and the attention of the one that `longest_correct` chooses.

    `network` is in evaluation mode and on the device of `tensors`. Padding and images that cannot be used are left out;
    a batch of nothing else gives no examples and no attention.
    """
    indices = np.flatnonzero(batch.weights[: len(batch.ids)])[:count]
    if not len(indices):
        return [], None
    rows = torch.from_numpy(indices).to(tensors.images.device)
    sizes = tensors.sizes[rows]
    generation = task.generate(network, tensors.images[rows], sizes, Decoding(return_attention=True))
    examples = [
        Example(batch.ids[index], _pixels(batch, index), batch.texts[index], task.tokenizer.decode(ids), batch.sources[index])
        for index, ids in zip(indices, generation.token_ids.tolist(), strict=True)
    ]
    shown = longest_correct(examples)
    cells = network.backbone.cells(sizes)[shown].tolist()
    return examples, attention_example(generation, shown, examples[shown].image, cells, task.tokenizer)


def attention_example(
    generation: Generation, row: int, image: Image, cells: Sequence[int], tokenizer: Tokenizer
) -> AttentionExample:
    """The attention over `image`, row `row` of what was generated with attention; `cells` are its height and width in maps.

    A token without text has no map, nor has what follows the end; the padding of the batch is cut off.
    """
    assert generation.attention is not None
    ids = generation.token_ids[row, : int(generation.lengths[row])].tolist()
    steps = [step for step, token_id in enumerate(ids) if tokenizer.tokens([token_id])]
    height, width = cells
    maps = generation.attention[row][steps, :height, :width].float().cpu().numpy()
    return AttentionExample(image, [tokenizer.tokens([ids[step]])[0] for step in steps], maps)


def longest_correct(examples: list[Example]) -> int:
    """The index of the longest text that was read right; of the first example where none was."""
    right = [index for index, example in enumerate(examples) if example.correct and example.prediction]
    return max(right, key=lambda index: len(examples[index].prediction.split()), default=0)


def _pixels(batch: Batch, index: int) -> Image:
    """An image of the batch as it is drawn, uint8 (H, W) or (H, W, 3), without its padding."""
    height, width = batch.sizes[index].tolist()
    image = batch.images[index, :, :height, :width]
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
