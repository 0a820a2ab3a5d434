"""Evaluation inside a training run: every row of a split once, spread over the ranks, sums added up at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from data_pipeline.stream import Batch, EvaluationStream
from models import Decoding, Recognizer
from trainers.distributed.collectives import all_gather_objects
from trainers.engine.prefetch import prefetch_to_device
from trainers.engine.reporter import Reporter
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.metrics.sequence import GroupedSums
from trainers.tasks.sequence import SequenceTask


def evaluate(
    model: Recognizer,
    task: SequenceTask,
    stream: EvaluationStream,
    device: torch.device,
    line: Reporter,
    decoding: Decoding | None = None,
    groups: Sequence[str] = (),
    look: Callable[[Batch, DeviceBatch], None] | None = None,
    on_images: Callable[[int], object] = lambda count: None,
) -> tuple[GroupedSums, dict[str, str]]:
    """Judge this rank's part of `stream`, greedily unless `decoding` says otherwise, and add up all ranks'; `line` is told.

    Every rank gets the same sums, those of `groups` apart, and its own images' errors. `look` is shown the first batch,
    and `on_images` hears how many images each had.

    Raises:
        RuntimeError: the rows that were judged or rejected are not all rows of the split.
    """
    sums = GroupedSums(groups)
    training = model.training
    model.eval()
    line.mark("evaluation")
    errors: dict[str, str] = {}
    for batch, tensors in prefetch_to_device(stream.batches(), device, stream.stop):
        if look:
            look(batch, tensors)
            look = None
        task.judge(model, batch, tensors, sums, decoding)
        errors |= batch.errors
        on_images(len(batch.ids))
        line.breathe()
    model.train(training)
    line.mark("adding up the evaluation")
    parts: list[GroupedSums] = all_gather_objects(sums)
    sums = GroupedSums(groups)
    for part in parts:
        sums += part
    seen = sums.total.count + sums.total.rejected
    if seen != stream.rows:
        raise RuntimeError(f"evaluation saw {seen} rows of {stream.rows}")
    return sums, errors
