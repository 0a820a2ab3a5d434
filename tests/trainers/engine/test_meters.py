"""Metrics of an interval, and of an epoch made of intervals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from data_pipeline.stream import Batch, StreamPosition, StreamStats
from trainers.engine.meters import IntervalMeter, TrainTotals
from trainers.engine.step import StepResult

STATS = StreamStats(read_bytes=2_000_000, reads=1, cached=3, retries=2, images=4, decode_s=0.004, pixels=75, padded_pixels=100)


def batch() -> Batch:
    empty = np.zeros((4, 1, 1, 1), np.uint8)
    numbers = np.zeros(4, np.int64)
    return Batch(
        empty, numbers, {}, np.ones(4, np.float32), [], [], {}, StreamPosition(), 4, errors={"bad": "why"}, stats=STATS
    )


def result(loss: float) -> StepResult:
    return StepResult(
        torch.tensor(loss), torch.tensor(10.0), torch.tensor(0.0), torch.tensor(0.0), torch.tensor(1.5), torch.tensor(False)
    )


def test_steps_add_up_to_metrics() -> None:
    interval = IntervalMeter(torch.device("cpu"))
    interval.waited(0.25)
    interval.stepped(result(20.0), batch())
    interval.stepped(result(10.0), batch())
    sums = interval.close()
    assert (sums.images, sums.steps, sums.rejected, sums.wait_s) == (8, 2, 2, 0.25)
    assert sums.stats == STATS + STATS
    metrics = sums.metrics()
    assert metrics["train/loss"] == pytest.approx(1.5) and metrics["train/grad_norm"] == pytest.approx(1.5)
    assert metrics["data/decode_ms"] == pytest.approx(1) and metrics["data/padding_share"] == pytest.approx(0.25)
    assert metrics["data/cache_hit_share"] == pytest.approx(0.75) and metrics["data/retries"] == 4
    assert interval.close().steps == 0, "a new one has begun"


def test_intervals_add_up_to_an_epoch() -> None:
    one = TrainTotals(seconds=2, wait_s=1, steps=1, images=10, rejected=1, loss=4, target_count=2, grad_norm=3, stats=STATS)
    metrics = (one + one).epoch_metrics()
    assert metrics["epoch/images_per_s"] == 5 and metrics["epoch/wait_share"] == 0.5 and metrics["epoch/rejected"] == 2
    assert metrics["epoch/read_mb_per_s"] == 1
    assert not any(name.startswith("data/") for name in metrics)


def test_stats_travel_as_numbers() -> None:
    assert StreamStats.from_list(STATS.to_list()) == STATS


def test_a_step_that_is_left_out_is_not_in_the_metrics() -> None:
    interval = IntervalMeter(torch.device("cpu"))
    interval.stepped(result(20.0), batch())
    interval.stepped(dataclasses.replace(result(float("nan")), bad=torch.tensor(True)), batch())
    assert interval.close().metrics()["train/loss"] == pytest.approx(2.0)
