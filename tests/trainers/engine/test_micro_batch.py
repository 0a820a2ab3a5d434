"""Batches in parts: the same step; memory that is full names what to change, or is halved."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cluster.errors import UserError
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.storage.base import open_storage
from data_pipeline.stream import StreamConfig, StreamPosition, TrainStream
from models import Recognizer
from tests.support.batches import text_batch
from tests.support.runs import small_config, train_here
from tests.support.sequence_tasks import CPU, rank_independent, tiny_model, tiny_task
from trainers.config.compute import ComputeConfig
from trainers.config.failure import FailureConfig
from trainers.config.load import load_config
from trainers.distributed.micro_batch import MemoryFull, MicroBatch, largest_that_fits, unchanged
from trainers.engine.find_micro_batch import largest_batch
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import OptimConfig
from trainers.tasks.device_batch import to_device
from trainers.tasks.sequence import SequenceTask


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_batch_in_parts_takes_the_step_of_the_whole(size: int) -> None:
    """Uneven parts, one row of weight 0: the loss is a mean over all tokens, not of means over parts."""
    batch = to_device(text_batch(["a b c d", "a", "b c", "c", "d d d"], [1, 1, 1, 0, 1]), CPU)
    # A copy of a module would call the original's norms: each is made by itself.
    networks = [rank_independent(tiny_model()) for _ in range(2)]
    whole = TrainStep(networks[0], tiny_task(), OptimConfig(), 4, CPU)
    parts = TrainStep(networks[1], tiny_task(), OptimConfig(), 4, CPU, StepConfig(micro_batch_size=size))
    one, other = whole(batch), parts(batch)
    assert float(one.loss_sum) == pytest.approx(float(other.loss_sum), rel=1e-5) and one.target_count == other.target_count
    for name, parameter in whole.network.named_parameters():
        torch.testing.assert_close(dict(parts.network.named_parameters())[name].grad, parameter.grad, rtol=1e-3, atol=1e-6)


def test_the_largest_that_fits_is_found_by_halving() -> None:
    tried: list[int] = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert largest_that_fits(64, attempt, CPU) == 8 and tried == [64, 32, 16, 8]
    assert largest_that_fits(12, attempt, CPU) == 12
    assert largest_that_fits(1, lambda size: pytest.fail("one image is not tried"), CPU) == 1


def test_an_attempt_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    before = copy.deepcopy(model.state_dict())
    with unchanged(model):
        model(torch.randn(4, 2)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_full_memory_says_what_to_change(tmp_path: Path) -> None:
    micro = MicroBatch(open_storage(tmp_path), ComputeConfig(), FailureConfig(), 32)
    assert (
        micro.size == 32
        and MicroBatch(open_storage(tmp_path), ComputeConfig(micro_batch_size=8), FailureConfig(), 32).size == 8
    )
    error = micro.full(32, (32, 1, 64, 256), CPU, "step 7")
    assert isinstance(error, UserError)
    for part in ("compute.micro_batch_size=16", "64x256", "step 7", "gradient_checkpointing", "on_out_of_memory=halve"):
        assert part in str(error)


def test_full_memory_may_be_halved_and_the_run_remembers(tmp_path: Path) -> None:
    micro = MicroBatch(open_storage(tmp_path), ComputeConfig(), FailureConfig(on_out_of_memory="halve"), 32)
    assert isinstance(micro.full(32, (32, 1, 64, 256), CPU, "step 7"), MemoryFull) and micro.size == 16
    assert isinstance(micro.full(16, (32, 1, 64, 256), CPU, "step 7"), MemoryFull) and micro.size == 8
    smaller = MicroBatch(open_storage(tmp_path), ComputeConfig(micro_batch_size=4), FailureConfig(on_out_of_memory="halve"), 32)
    assert smaller.size == 4, "what is configured is not exceeded"
    assert isinstance(micro.full(1, (32, 1, 64, 256), CPU, "step 7"), UserError), "one image alone is too large"


def test_a_run_whose_memory_is_full_continues_with_smaller_parts(
    formulas_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU here: a network that takes no more than 6 images at once stands for one."""
    build = SequenceTask.build_model

    def with_little_memory(self: SequenceTask, pretrained: bool = False) -> Recognizer:
        network = build(self, pretrained)
        encode = network.encode

        def limited(images: torch.Tensor, sizes: torch.Tensor | None = None) -> Any:
            if network.training and len(images) > 6 and not images.is_meta:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return encode(images, sizes)

        network.encode = limited  # type: ignore[method-assign]
        return network

    monkeypatch.setattr(SequenceTask, "build_model", with_little_memory)
    one_epoch = ["scaling.num_train_workers=1", "epochs=1"]
    run, result, _ = train_here(small_config(formulas_dataset, tmp_path, *one_epoch, "failure.on_out_of_memory=halve"))
    assert run.child("micro_batch_size").read_bytes() == b"5" and result.history[-1]["step"] == 15
    with pytest.raises(UserError, match=r"20 images at once .*compute\.micro_batch_size=10"):
        train_here(small_config(formulas_dataset, tmp_path, *one_epoch))


def test_what_is_tried_is_as_long_as_the_longest_batch(formulas_dataset: str) -> None:
    dataset = open_dataset(formulas_dataset)
    task = SequenceTask.from_dataset(dataset.manifest, load_config(None))
    config = StreamConfig(augmentation="none")
    stream = TrainStream(dataset, "train", task.target_encoder(), config, seed=0, global_batch_size=20)
    step = TrainStep(tiny_model(), task, OptimConfig(), 4, CPU)
    tried = largest_batch(3, step, stream.plan, dataset, "train")
    batches = list(stream.batches(StreamPosition(), 1))
    assert tried.targets["tokens"].shape == (3, max(batch.targets["tokens"].shape[1] for batch in batches))
    assert tried.images.shape[1:] == (1, 64, max(batch.images.shape[3] for batch in batches))
    assert tried.sizes.tolist() == [list(tried.images.shape[2:])] * 3
