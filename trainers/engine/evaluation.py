"""Evaluation inside a training run: every row of a split once, spread over the ranks, sums added up at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from data_pipeline.stream import Batch, EvaluationStream
from trainers.distributed.collectives import all_gather_objects
from trainers.engine.prefetch import prefetch_to_device
from trainers.engine.reporter import Reporter
from trainers.tasks import Task
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.metrics.base import GroupedMetrics


def evaluate(
    model: Any,
    task: Task,
    stream: EvaluationStream,
    device: torch.device,
    reporter: Reporter,
    groups: Sequence[str] = (),
    on_first_batch: Callable[[Batch, DeviceBatch], None] | None = None,
) -> tuple[GroupedMetrics, dict[str, str]]:
    """Evaluate this rank's part of `stream`, and add up all ranks'.

    Every rank gets the same metrics, those of `groups` apart, and its own images' errors.

    Raises:
        RuntimeError: the rows that were evaluated or rejected are not all rows of the split.
    """
    task = task.for_validation()
    metrics = GroupedMetrics(task.new_metrics, groups)
    training = model.training
    model.eval()
    reporter.enter_phase("evaluation")
    errors: dict[str, str] = {}
    for batch, tensors in prefetch_to_device(stream.batches(), device, stream.stop):
        if on_first_batch:
            on_first_batch(batch, tensors)
            on_first_batch = None
        evaluate_batch(model, task, batch, tensors, metrics)
        errors |= batch.errors
        reporter.heartbeat()
    model.train(training)
    reporter.enter_phase("adding up the evaluation")
    parts: list[GroupedMetrics] = all_gather_objects(metrics)
    metrics = GroupedMetrics(task.new_metrics, groups)
    for part in parts:
        metrics += part
    if metrics.seen != stream.rows:
        raise RuntimeError(f"evaluation saw {metrics.seen} rows of {stream.rows}")
    return metrics, errors


@torch.inference_mode()
def evaluate_batch(model: Any, task: Task, batch: Batch, tensors: DeviceBatch, metrics: GroupedMetrics) -> None:
    """Predict a batch and count its metrics; `model` is in evaluation mode."""
    loss, predictions = task.loss_and_predictions(model, tensors)
    metrics.add_loss(float(loss), int(task.target_count(tensors)))
    for index, (sample_id, source) in enumerate(zip(batch.ids, batch.sources, strict=True)):
        if sample_id in batch.errors:
            metrics.reject(source)
        else:
            metrics.add(predictions[index], {name: batch.columns[name][index] for name in task.columns}, source)
