"""Statistics of norms are those of samples: not of made-up rows, of which a rank may have nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_pipeline.augmentation.chain import Chain
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.stream.batch import Batch
from data_pipeline.stream.collator import Collator
from data_pipeline.stream.plan import GlobalBatch, StreamPosition
from tests.support.batches import TOKENIZER, rows_of, text_batch
from tests.support.gloo_ranks import TwoRanks
from tests.support.sequence_tasks import CPU, kind_of, tiny_model, tiny_task, without_dropout
from trainers.config.compute import DdpConfig
from trainers.distributed.ddp import wrap_ddp
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import OptimConfig
from trainers.tasks.device_batch import to_device

TEXTS = ["a b c d", "b", "c d"] * 5 + ["a a", "d"]  # 17 of them


def statistics(network: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in network.named_buffers() if "running" in name}


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def made_up(rows: int = 1) -> Batch:
    """What the stream hands to a rank that has no row."""
    policy = ImagePolicy(64, 256, fixed_height=False)
    collated = Collator(policy, TokenTargets(TOKENIZER), Chain(), 0)(0, rows, [])
    return Batch(**vars(collated), position=StreamPosition(), global_size=1)


def test_a_made_up_row_is_one_that_a_network_takes() -> None:
    batch = made_up()
    assert batch.sizes.tolist() == [[1, 1]] and batch.weights.tolist() == [0.0]
    for kind in ("small", "ctc", "rnn", "comer"):
        network, task = kind_of(kind)
        assert float(task.loss_sum(network.eval(), to_device(batch, CPU)).detach()) == 0.0


@pytest.mark.parametrize("micro_batch_size", [0, 1, 2])
def test_without_a_sample_every_gradient_is_zero_and_no_statistic_moves(micro_batch_size: int) -> None:
    for kind in ("small", "comer", "both_directions"):
        network, task = kind_of(kind)
        step = TrainStep(network, task, OptimConfig(), 4, CPU, StepConfig(micro_batch_size=micro_batch_size))
        before = statistics(network)
        step(to_device(made_up(3), CPU))
        assert before.keys() and all(torch.equal(value, before[name]) for name, value in statistics(network).items())
        assert all(parameter.grad is not None and not parameter.grad.any() for parameter in network.parameters())
        assert all(module.training for module in network.modules())


def test_rows_without_a_weight_change_no_statistic() -> None:
    whole, found = text_batch(["a b", "c", "d d"]), []
    without = rows_of(whole, slice(0, 3))
    without.weights[1] = 0
    for batch in (without, rows_of(whole, [0, 2])):
        assert batch.weights.sum() == 2
        step = TrainStep(without_dropout(tiny_model()), tiny_task(), OptimConfig(), 4, CPU)
        step(to_device(batch, CPU))
        found.append(step.network.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["small", "comer", "both_directions"])
def test_one_small_image_takes_a_step(kind: str) -> None:
    network, task = kind_of(kind)
    batch = text_batch(["a"])
    batch.sizes[0] = 1, 1
    batch = dataclasses.replace(batch, images=batch.images[..., :1, :1])
    before = statistics(network)
    result = TrainStep(network, task, OptimConfig(), 4, CPU)(to_device(batch, CPU))
    assert torch.isfinite(result.grad_norm) and result.grad_norm > 0
    after = statistics(network)
    assert any(not torch.equal(value, before[name]) for name, value in after.items()), "where there are two values, they count"
    assert all(value.isfinite().all() for value in after.values())
    assert not any(module._forward_pre_hooks for module in network.modules()) and all(m.training for m in network.modules())


def _last_steps(rank: int) -> dict[str, Any]:
    network = without_dropout(tiny_model())
    step = TrainStep(network, tiny_task(), OptimConfig(), 4, CPU, rank=rank, wrap=lambda net: wrap_ddp(net, DdpConfig(), CPU))
    whole = text_batch(TEXTS)
    found: dict[str, Any] = {}
    for global_step in (GlobalBatch(0, 0, 16), GlobalBatch(0, 16, 1)):
        found["before"] = arrays(network.state_dict())
        rows = slice(*global_step.share(rank, 2))
        batch = rows_of(whole, rows) if rows.stop > rows.start else made_up(global_step.rows_of_rank(2))
        step(to_device(batch, CPU))
    found["after"] = arrays(network.state_dict())
    found["gradients"] = arrays({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
    return found


def test_two_ranks_take_17_rows_the_last_of_which_one_of_them_has(two_ranks: TwoRanks) -> None:
    first, second = two_ranks(_last_steps)
    for name, value in first["after"].items():
        if "running" in name:  # DDP has given the second rank those of the first, and the row that was made up left them
            np.testing.assert_array_equal(second["after"][name], first["before"][name], err_msg=name)
            assert not np.array_equal(value, first["before"][name])
        elif "num_batches" not in name:
            np.testing.assert_array_equal(second["after"][name], value, err_msg=name)
    # The step is that of one rank with the row.
    alone = without_dropout(tiny_model())
    alone.load_state_dict({name: torch.from_numpy(value) for name, value in first["before"].items()})
    TrainStep(alone, tiny_task(), OptimConfig(), 4, CPU)(to_device(rows_of(text_batch(TEXTS), slice(16, 17)), CPU))
    for name, gradient in arrays({name: p.grad for name, p in alone.named_parameters() if p.grad is not None}).items():
        for found in (first, second):
            np.testing.assert_allclose(found["gradients"][name], gradient, rtol=1e-3, atol=1e-6, err_msg=name)
