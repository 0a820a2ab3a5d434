"""Evaluation inside a training run: every row of a split once, spread over the ranks, sums added up at the end."""

from __future__ import annotations

import torch
import torch.distributed as dist

from data_pipeline.stream import EvaluationStream
from models import Recognizer
from trainers.metrics import GroupedSums
from trainers.step import to_device
from trainers.task import SequenceTask


def evaluate(model: Recognizer, task: SequenceTask, stream: EvaluationStream, device: torch.device) -> GroupedSums:
    """Judge this rank's part of `stream` and add up all ranks'. Every rank gets the same sums.

    Raises:
        RuntimeError: the rows that were judged or rejected are not all rows of the split.
    """
    sums = GroupedSums()
    training = model.training
    model.eval()
    for batch in stream.batches():
        task.judge(model, batch, to_device(batch, device), sums)
    model.train(training)
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        parts: list[GroupedSums] = [GroupedSums()] * dist.get_world_size()
        dist.all_gather_object(parts, sums)
        sums = GroupedSums()
        for part in parts:
            sums += part
    seen = sums.total.count + sums.total.rejected
    if seen != stream.rows:
        raise RuntimeError(f"evaluation saw {seen} rows of {stream.rows}")
    return sums
