"""Two ranks: compressed gradients, parameters that thaw, bad steps seen by all, norms over all ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cluster.errors import UserError
from models.presets import load_named
from tests.support.batches import TOKENIZER, rows_of, text_batch
from tests.support.gloo_ranks import TwoRanks
from tests.support.reporters import RecordingReporter
from tests.support.sequence_tasks import CPU, poisoned_task, rank_independent, tiny_model, tiny_task
from trainers.config.compute import ComputeConfig, DdpConfig
from trainers.config.loss_guard import LossGuardConfig
from trainers.distributed.ddp import with_synchronized_norms, wrap_ddp
from trainers.engine.bad_steps import BadSteps
from trainers.engine.events import BadStep
from trainers.engine.reporter import ControlRequests
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import OptimConfig
from trainers.tasks.device_batch import to_device
from trainers.tasks.sequence import SequenceTask

TEXTS = ["a b c b", "a", "b c", "c c"]


def _weights(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in network.named_parameters()}


def _steps(rank: int) -> dict[str, Any]:
    mine = to_device(rows_of(text_batch(TEXTS), slice(2 * rank, 2 * rank + 2)), CPU)
    found: dict[str, Any] = {}

    def step_of(ddp: DdpConfig | None = None, optim: OptimConfig | None = None, **kwargs: Any) -> TrainStep:
        config = ddp or DdpConfig()
        network = rank_independent(tiny_model())
        return TrainStep(
            network, poisoned_task(), optim or OptimConfig(), 8, CPU, rank=rank,
            wrap=lambda network: wrap_ddp(network, config, CPU), **kwargs,
        )  # fmt: skip

    for name, config in {
        "plain": DdpConfig(),
        "fp16": DdpConfig(compression="fp16"),
        "static": DdpConfig(static_graph=True),
    }.items():
        step = step_of(config)
        for _ in range(3):
            step(mine)
        found[name] = _weights(step.network)
    # Parts of a batch: ranks exchange gradients with the last one only.
    step = step_of(config=StepConfig(micro_batch_size=1))
    for _ in range(3):
        step(mine)
    found["parts"] = _weights(step.network)
    # The backbone thaws with the second epoch: DDP is built again, and its gradients are exchanged from then on.
    step = step_of(optim=OptimConfig(freeze={"backbone.*": 1}))
    frozen = _weights(step.network)
    step(mine)
    found["still"] = all(np.array_equal(v, frozen[n]) for n, v in _weights(step.network).items() if n.startswith("backbone."))
    step.begin_epoch(1)
    step(mine)
    step(mine)
    found["thawed"] = _weights(step.network)
    # A request and a bad batch of one rank are known to both; the ids of both are reported.
    reporter, guard = RecordingReporter(), LossGuardConfig("skip")
    bad_steps = BadSteps(guard, reporter, rank)
    step = step_of(config=StepConfig(loss_guard=guard))
    theirs = mine if rank == 0 else to_device(text_batch(["d", "a"]), CPU)
    result = step(theirs, ControlRequests(checkpoint=rank == 1))
    bad_steps.add(1, 0, [f"rank {rank}"], result)
    bad_steps.check()
    found["requests"] = (float(result.stop), float(result.checkpoint) > 0, bool(result.bad))
    found["reported"] = [event.record["ids"] for event in reporter.events if isinstance(event, BadStep)]
    found["same"] = _weights(step.network)
    return found


@pytest.fixture(scope="module")
def both(two_ranks: TwoRanks) -> Any:
    return two_ranks(_steps)


def test_ranks_stay_equal(both: Any) -> None:
    for name in ("plain", "fp16", "static", "parts", "thawed", "same"):
        for parameter, value in both[0][name].items():
            np.testing.assert_array_equal(value, both[1][name][parameter], err_msg=f"{name}: {parameter}")


def test_compression_costs_little_and_a_static_graph_and_parts_nothing(both: Any) -> None:
    for name, tolerance in (("static", 1e-6), ("parts", 2e-3), ("fp16", 2e-2)):
        for parameter, value in both[0]["plain"].items():
            np.testing.assert_allclose(both[0][name][parameter], value, atol=tolerance, err_msg=f"{name}: {parameter}")
    assert any(not np.array_equal(both[0]["fp16"][name], value) for name, value in both[0]["plain"].items()), "it is on"


def test_what_thaws_is_trained_by_both(both: Any) -> None:
    assert both[0]["still"] and both[1]["still"]
    before = {name: value.detach().numpy() for name, value in tiny_model().named_parameters()}
    moved = {name for name, value in both[0]["thawed"].items() if not np.array_equal(value, before[name])}
    assert any(name.startswith("backbone.") for name in moved)


def test_a_bad_batch_and_a_request_of_one_rank_are_known_to_both(both: Any) -> None:
    assert both[0]["requests"] == both[1]["requests"] == (0.0, True, True)
    assert both[0]["reported"] == [["rank 0", "rank 1"]] and not both[1]["reported"]
    before = {name: value.detach().numpy() for name, value in rank_independent(tiny_model()).named_parameters()}
    assert all(np.array_equal(value, before[name]) for name, value in both[0]["same"].items()), "the step was left out"


def test_norms_over_all_ranks_need_gpus() -> None:
    network = tiny_model()
    assert with_synchronized_norms(network, ComputeConfig(), CPU) is network
    with pytest.raises(UserError, match=r"compute\.sync_batch_norm=true needs GPUs"):
        with_synchronized_norms(network, ComputeConfig(sync_batch_norm=True), CPU)
    for model in ("seq2seq_light_bn", "comer"):
        padded = SequenceTask(TOKENIZER, 12, network=load_named(model).config).build_model()
        with pytest.raises(UserError, match="whose norms leave out the padding"):
            with_synchronized_norms(padded, ComputeConfig(sync_batch_norm=True), torch.device("cuda"))
    converted = with_synchronized_norms(network, ComputeConfig(sync_batch_norm=True), torch.device("cuda"))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    assert not any(type(module) is nn.BatchNorm2d for module in converted.modules())


def test_norms_with_an_activation_keep_it() -> None:
    import timm

    network = timm.create_model("efficientnet_b0").eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = network(images)
    converted = with_synchronized_norms(network, ComputeConfig(sync_batch_norm=True), torch.device("cuda")).eval()
    torch.testing.assert_close(converted(images), expected)


def test_alone_nothing_is_wrapped() -> None:
    network = tiny_model()
    assert wrap_ddp(network, DdpConfig(), CPU) is network and not isinstance(network, DistributedDataParallel)
    assert TrainStep(network, tiny_task(), OptimConfig(), 4, CPU).model is network
