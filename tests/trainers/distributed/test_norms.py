"""Statistics of norms are those of samples: not of made-up rows, of which a rank may have nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.stream.batch import Batch
from data_pipeline.stream.collator import Collator
from data_pipeline.stream.plan import GlobalBatch, StreamPosition
from tests.trainers.engine.test_step import CPU, TOKENIZER, batch_of, hand_over, kind_of, part, tiny_model, two_ranks
from trainers.config.compute import DdpConfig
from trainers.distributed.ddp import wrapped
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import OptimConfig
from trainers.tasks.device_batch import to_device
from trainers.tasks.sequence import SequenceTask

TEXTS = ["a b c d", "b", "c d"] * 5 + ["a a", "d"]  # 17 of them


def without_dropout(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def statistics(network: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in network.named_buffers() if "running" in name}


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def made_up(rows: int = 1) -> Batch:
    """What the stream hands to a rank that has no row."""
    policy = ImagePolicy(64, 256, fixed_height=False)
    decoded = Collator(policy, TokenTargets(TOKENIZER), "none", 0)(0, rows, [])
    return Batch(**vars(decoded), position=StreamPosition(), global_size=1)


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
    found = []
    for texts, rows in ((["a b", "c", "d d"], [0, 2]), (["a b", "d d"], [0, 1])):
        whole = batch_of(["a b", "c", "d d"])
        batch = part(whole, slice(0, 3))
        if len(texts) == 2:
            keep = [0, 2]
            batch = Batch(
                whole.images[keep], whole.sizes[keep], {"tokens": whole.targets["tokens"][keep]}, whole.weights[keep],
                ["0", "2"], ["", ""], {"text": texts}, StreamPosition(),
            )  # fmt: skip
        else:
            batch.weights[1] = 0
        assert batch.weights[rows].all()
        step = TrainStep(without_dropout(tiny_model()), SequenceTask(TOKENIZER), OptimConfig(), 4, CPU)
        step(to_device(batch, CPU))
        found.append(step.network.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", ["small", "comer", "both_directions"])
def test_one_small_image_takes_a_step(kind: str) -> None:
    network, task = kind_of(kind)
    batch = batch_of(["a"])
    batch.sizes[0] = 1, 1
    batch = dataclasses.replace(batch, images=batch.images[..., :1, :1])
    before = statistics(network)
    result = TrainStep(network, task, OptimConfig(), 4, CPU)(to_device(batch, CPU))
    assert torch.isfinite(result.grad_norm) and result.grad_norm > 0
    after = statistics(network)
    assert any(not torch.equal(value, before[name]) for name, value in after.items()), "where there are two values, they count"
    assert all(value.isfinite().all() for value in after.values())
    assert not any(module._forward_pre_hooks for module in network.modules()) and all(m.training for m in network.modules())


def _rank(rank: int, port: int, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    network = without_dropout(tiny_model())
    step = TrainStep(
        network, SequenceTask(TOKENIZER), OptimConfig(), 4, CPU, rank=rank, wrap=lambda net: wrapped(net, DdpConfig(), CPU)
    )
    whole = batch_of(TEXTS)
    found: dict[str, Any] = {}
    for global_step in (GlobalBatch(0, 0, 16), GlobalBatch(0, 16, 1)):
        found["before"] = arrays(network.state_dict())
        rows = slice(*global_step.share(rank, 2))
        batch = part(whole, rows) if rows.stop > rows.start else made_up(global_step.rows_of_rank(2))
        step(to_device(batch, CPU))
    found["after"] = arrays(network.state_dict())
    found["gradients"] = arrays({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
    hand_over(found, results)


def test_two_ranks_take_17_rows_the_last_of_which_one_of_them_has() -> None:
    first, second = two_ranks(_rank)
    for name, value in first["after"].items():
        if "running" in name:  # DDP has given the second rank those of the first, and the row that was made up left them
            np.testing.assert_array_equal(second["after"][name], first["before"][name], err_msg=name)
            assert not np.array_equal(value, first["before"][name])
        elif "num_batches" not in name:
            np.testing.assert_array_equal(second["after"][name], value, err_msg=name)
    # The step is that of one rank with the row.
    alone = without_dropout(tiny_model())
    alone.load_state_dict({name: torch.from_numpy(value) for name, value in first["before"].items()})
    TrainStep(alone, SequenceTask(TOKENIZER), OptimConfig(), 4, CPU)(to_device(part(batch_of(TEXTS), slice(16, 17)), CPU))
    for name, gradient in arrays({name: p.grad for name, p in alone.named_parameters() if p.grad is not None}).items():
        for found in (first, second):
            np.testing.assert_allclose(found["gradients"][name], gradient, rtol=1e-3, atol=1e-6, err_msg=name)
