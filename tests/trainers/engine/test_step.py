"""The step in plain torch: deterministic, complete, and the same function whatever the number of ranks."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.stream.batch import Batch
from data_pipeline.stream.plan import StreamPosition
from models import Decoding, ModelConfig, build_model
from tests.support.overrides import KINDS, SMALL
from trainers.config.compute import Precision
from trainers.config.load import load_config
from trainers.engine.reporter import Wishes
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import OptimConfig, ScheduleConfig
from trainers.optim.schedule import rate
from trainers.tasks.device_batch import to_device
from trainers.tasks.losses import LossConfig
from trainers.tasks.metrics.sequence import GroupedSums
from trainers.tasks.sequence import SequenceTask

CPU = torch.device("cpu")
TOKENIZER = Tokenizer(["a", "b", "c", "d"])


def tiny_model(norm: str = "pre") -> nn.Module:
    """Small enough for a test; GroupNorm-free, so its BatchNorm is put into evaluation where ranks are compared."""
    config = ModelConfig()
    config.backbone.small_cnn.width = 4
    config.encoder.embed_dim = config.decoder.embed_dim = 16
    config.encoder.mlp_dim = config.decoder.mlp_dim = 32
    torch.manual_seed(0)
    return build_model(config, SequenceTask(TOKENIZER).output_spec(12))


def batch_of(texts: list[str], weights: list[float] | None = None, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    encoder = TokenTargets(TOKENIZER)
    targets = encoder.collate([encoder.encode({"text": text}) for text in texts], len(texts))
    return Batch(
        images=rng.integers(0, 256, (len(texts), 1, 32, 64), dtype=np.uint8),
        sizes=np.tile([32, 64], (len(texts), 1)),
        targets=targets,
        weights=np.array(weights or [1.0] * len(texts), np.float32),
        ids=[str(i) for i in range(len(texts))],
        sources=[""] * len(texts),
        columns={"text": texts},
        position=StreamPosition(),
        global_size=len(texts),
    )


def part(batch: Batch, rows: slice) -> Batch:
    return Batch(
        batch.images[rows], batch.sizes[rows], {"tokens": batch.targets["tokens"][rows]}, batch.weights[rows], batch.ids[rows],
        batch.sources[rows], {"text": batch.columns["text"][rows]}, batch.position, batch.global_size,
    )  # fmt: skip


def test_the_same_seed_gives_the_same_losses_and_a_restored_step_goes_on_alike() -> None:
    batches = [to_device(batch_of(["a b", "c d a"], seed=seed), CPU) for seed in range(6)]

    def train(step: TrainStep, some: list[Any]) -> list[float]:
        return [float(step(batch).loss_sum) for batch in some]

    first = TrainStep(tiny_model(), SequenceTask(TOKENIZER), OptimConfig(), 6, CPU, seed=3)
    losses = train(first, batches)
    again = TrainStep(tiny_model(), SequenceTask(TOKENIZER), OptimConfig(), 6, CPU, seed=3)
    assert train(again, batches[:3]) == losses[:3]
    resumed = TrainStep(copy.deepcopy(again.model), SequenceTask(TOKENIZER), OptimConfig(), 6, CPU, seed=3)
    resumed.load_state_dict(copy.deepcopy(again.state_dict()))
    assert train(resumed, batches[3:]) == losses[3:]
    other = TrainStep(tiny_model(), SequenceTask(TOKENIZER), OptimConfig(), 6, CPU, seed=4)
    assert train(other, batches) != losses, "the seed draws the dropout"


@pytest.mark.slow
def test_the_final_configuration_takes_a_step_on_gray_images() -> None:
    config = load_config(None, ["model=configs/model/satrn_final.yaml"])
    task = SequenceTask(TOKENIZER)
    model = build_model(config.model, task.output_spec(12))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step = TrainStep(model, task, config.optim, 2, CPU)
    result = step(to_device(batch_of(["a b", "c d a"]), CPU))
    moved = {name.partition(".")[0] for name, new in model.named_parameters() if not torch.equal(before[name], new)}
    assert torch.isfinite(result.loss_sum) and moved == {"backbone", "encoder", "decoder"}


def test_rows_of_weight_zero_add_nothing_to_the_loss() -> None:
    task, model = SequenceTask(TOKENIZER), tiny_model().eval()
    batch = batch_of(["a b", "c d a", "b"], weights=[1, 0, 1])
    whole = to_device(batch, CPU)
    kept = to_device(batch_of(["a b", "c d a", "b"]), CPU)
    rows = torch.tensor([0, 2])
    logits = model(kept.images[rows], kept.targets["tokens"][rows, :-1], kept.sizes[rows]).logits.log_softmax(-1)
    labels = kept.targets["tokens"][rows, 1:]
    expected = -logits.gather(-1, labels[..., None])[..., 0][labels != TOKENIZER.pad_id].sum()
    assert float(task.loss_sum(model, whole).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert int(task.token_count(whole)) == 3 + 2


def _rank(rank: int, port: int, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    batch = batch_of(["a b c d", "a", "b c"])
    # The short last batch of an epoch: two rows for rank 0, one row and one of weight 0 for rank 1.
    mine = part(batch, slice(0, 2)) if rank == 0 else part(batch_of(["a b c d", "a", "b c", ""], [1, 1, 1, 0]), slice(2, 4))
    step = TrainStep(DistributedDataParallel(_frozen(tiny_model())), SequenceTask(TOKENIZER), OptimConfig(), 4, CPU, rank=rank)
    result = step(to_device(mine, CPU), Wishes(stop=rank == 1))
    if rank == 0:
        gradients = {
            name.removeprefix("module."): p.grad.clone() for name, p in step.model.named_parameters() if p.grad is not None
        }
        results.put((float(result.tokens), float(result.stop), {name: g.numpy() for name, g in gradients.items()}))
    dist.barrier()
    dist.destroy_process_group()


def _frozen(model: nn.Module) -> nn.Module:
    """Without what differs between ranks by its nature: batch statistics and dropout."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.BatchNorm2d):
            module.forward = module.eval().forward  # type: ignore[method-assign]
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign,misc]
    return model


def hand_over(found: Any, results: Any) -> None:
    """At the end of a rank: what it and the other have `found`, in the order of the ranks, goes into `results`."""
    everyone: list[Any] = [None, None]
    dist.all_gather_object(everyone, found)
    if dist.get_rank() == 0:
        results.put(everyone)
    dist.barrier()
    dist.destroy_process_group()


def two_ranks(function: Callable[[int, int, Any], None]) -> Any:
    """What the first of two processes that run `function(rank, port, results)` has put into `results`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    results = context.Queue()
    ranks = [context.Process(target=function, args=(rank, port, results)) for rank in range(2)]
    for process in ranks:
        process.start()
    try:
        return results.get(timeout=180)
    finally:
        for process in ranks:
            process.join(30)
            process.kill()


def test_two_ranks_with_an_uneven_last_batch_take_the_step_of_one() -> None:
    tokens, stop, gradients = two_ranks(_rank)
    alone = TrainStep(_frozen(tiny_model()), SequenceTask(TOKENIZER), OptimConfig(), 4, CPU)
    result = alone(to_device(batch_of(["a b c d", "a", "b c"]), CPU))
    assert tokens == float(result.tokens) == 5 + 2 + 3
    assert stop > 0, "one rank's wish to stop reaches all"
    expected = {name: p.grad.numpy() for name, p in alone.model.named_parameters() if p.grad is not None}
    assert expected.keys() == gradients.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(gradients[name], value, rtol=2e-4, atol=2e-6, err_msg=name)


def kind_of(kind: str) -> tuple[nn.Module, SequenceTask]:
    config = load_config(None, [*SMALL, *KINDS[kind]])
    task = SequenceTask(TOKENIZER, config.loss, config.decoding)
    torch.manual_seed(0)
    return build_model(config.model, task.output_spec(12)), task


def wide_batch(width: int, texts: list[str]) -> Batch:
    batch = batch_of(texts)
    images = np.random.default_rng(0).integers(0, 256, (len(texts), 1, 64, width), dtype=np.uint8)
    return dataclasses.replace(batch, images=images, sizes=np.tile([64, width], (len(texts), 1)))


def _rank_of_each_kind(rank: int, port: int, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    done: dict[str, list[float]] = {}
    try:
        for kind in KINDS:
            model, task = kind_of(kind)
            step = TrainStep(DistributedDataParallel(model), task, OptimConfig(), 4, CPU, rank=rank)
            # Uneven ranks: texts of other lengths, images of other widths. Parameters that the first step left without a
            # gradient stop the second.
            batch = to_device(wide_batch(256, ["a b c d", "a"]) if rank == 0 else wide_batch(128, ["b c", "d"]), CPU)
            done[kind] = [float(step(batch).loss_sum) for _ in range(3)]
        if rank == 0:
            results.put(done)
    except Exception as error:
        results.put(f"{kind}: {error}")
    dist.destroy_process_group()


def test_two_ranks_train_every_kind_of_recognizer() -> None:
    done = two_ranks(_rank_of_each_kind)
    assert isinstance(done, dict), done
    assert done.keys() == KINDS.keys() and all(np.isfinite(losses).all() for losses in done.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_narrow_images_is_widened_to_what_the_network_takes(kind: str) -> None:
    model, task = kind_of(kind)
    batch = wide_batch(32, ["a", "b"])
    batch.weights[1] = 0
    step = TrainStep(model, task, OptimConfig(), 4, CPU)
    assert torch.isfinite(step(to_device(batch, CPU)).grad_norm)
    sums = GroupedSums()
    task.judge(model.eval(), batch, to_device(batch, CPU), sums)  # type: ignore[arg-type]
    assert sums.total.count == 2


def test_validation_is_greedy_and_its_loss_neither_smoothed_nor_repelled() -> None:
    model, task = kind_of("repulsion")
    batch = wide_batch(64, ["a b", "c"])
    task.loss = LossConfig(label_smoothing=0.2)
    task.decoding = Decoding(method="beam", max_length=1)
    sums = GroupedSums()
    tensors = to_device(batch, CPU)
    task.judge(model.eval(), batch, tensors, sums)  # type: ignore[arg-type]
    plain = SequenceTask(TOKENIZER, LossConfig(repulsion_weight=0.0))
    assert sums.total.loss == pytest.approx(float(plain.loss_sum(model, tensors).detach()), rel=1e-6)
    assert float(task.loss_sum(model, tensors).detach()) != pytest.approx(sums.total.loss, rel=1e-4)
    greedy = plain.predict(model, tensors.images, tensors.sizes)  # type: ignore[arg-type]
    expected = GroupedSums()
    for text, truth in zip(greedy, batch.columns["text"], strict=True):
        expected.add(text, truth)
    assert (sums.total.edits, sums.total.exact) == (expected.total.edits, expected.total.exact)
    short = task.predict(model, tensors.images, tensors.sizes)  # type: ignore[arg-type]
    assert all(len(text.split()) <= 1 for text in short), "prediction decodes as configured"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_is_taken_at_the_rate_of_its_number_even_after_an_overflow(precision: Any) -> None:
    config = OptimConfig(lr=0.5, schedule=ScheduleConfig("cosine", warmup_ratio=0), max_grad_norm=0)
    step = TrainStep(tiny_model(), SequenceTask(TOKENIZER), config, 4, CPU, StepConfig(precision))
    step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, enabled=precision == "fp16")  # overflows in fp16
    batch = to_device(batch_of(["a b", "c d a"]), CPU)
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    for number in range(2):
        step(batch)
        assert step.lr == step.optimizer.param_groups[0]["lr"] == 0.5 * rate(config.schedule, number, 4, 1)
    same = [torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True)]
    assert all(same) if precision == "fp16" else not any(same)


def test_gradients_are_clipped_to_the_norm_or_not_at_all() -> None:
    moved = []
    for norm in (0.0, 1e9, 1e-3):
        config = OptimConfig(name="sgd", lr=1.0, max_grad_norm=norm, weight_decay=0.0, schedule=ScheduleConfig("constant", 0))
        step = TrainStep(tiny_model(), SequenceTask(TOKENIZER), config, 4, CPU)
        before = torch.cat([parameter.detach().flatten().clone() for parameter in step.model.parameters()])
        step(to_device(batch_of(["a b", "c d a"]), CPU))
        moved.append(torch.cat([parameter.detach().flatten() for parameter in step.model.parameters()]) - before)
    assert torch.equal(moved[0], moved[1])
    assert float(moved[2].norm()) == pytest.approx(1e-3 * 1.9, rel=1e-2), "Nesterov's first step is 1 + momentum gradients"


def test_a_run_may_go_on_in_another_precision() -> None:
    batch = to_device(batch_of(["a b", "c d a"]), CPU)
    precisions: list[Precision] = ["fp32", "bf16", "fp16"]
    for one, other in itertools.permutations(precisions, 2):
        first = TrainStep(tiny_model(), SequenceTask(TOKENIZER), OptimConfig(), 4, CPU, StepConfig(one))
        first(batch)
        second = TrainStep(copy.deepcopy(first.network), SequenceTask(TOKENIZER), OptimConfig(), 4, CPU, StepConfig(other))
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        assert torch.isfinite(second(batch).loss_sum) and second.steps == 2
