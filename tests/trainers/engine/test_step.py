"""The step in plain torch: deterministic, complete, and the same function whatever the number of ranks."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from data_pipeline.stream.batch import Batch
from models import Decoding
from tests.support.batches import TOKENIZER, rows_of, text_batch
from tests.support.gloo_ranks import TwoRanks
from tests.support.overrides import KINDS
from tests.support.sequence_tasks import CPU, kind_of, rank_independent, tiny_model, tiny_task
from trainers.config.compute import Precision
from trainers.config.load import load_config
from trainers.engine.evaluation import evaluate_batch
from trainers.engine.reporter import ControlRequests
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import OptimConfig, ScheduleConfig
from trainers.optim.schedule import lr_ratio
from trainers.tasks.device_batch import to_device
from trainers.tasks.losses import LossConfig
from trainers.tasks.metrics.base import GroupedMetrics
from trainers.tasks.sequence import SequenceTask


def test_the_same_seed_gives_the_same_losses_and_a_restored_step_continues_alike() -> None:
    batches = [to_device(text_batch(["a b", "c d a"], seed=seed), CPU) for seed in range(6)]

    def train(step: TrainStep, some: list[Any]) -> list[float]:
        return [float(step(batch).loss_sum) for batch in some]

    first = TrainStep(tiny_model(), tiny_task(), OptimConfig(), 6, CPU, seed=3)
    losses = train(first, batches)
    again = TrainStep(tiny_model(), tiny_task(), OptimConfig(), 6, CPU, seed=3)
    assert train(again, batches[:3]) == losses[:3]
    resumed = TrainStep(copy.deepcopy(again.model), tiny_task(), OptimConfig(), 6, CPU, seed=3)
    resumed.load_state_dict(copy.deepcopy(again.state_dict()))
    assert train(resumed, batches[3:]) == losses[3:]
    other = TrainStep(tiny_model(), tiny_task(), OptimConfig(), 6, CPU, seed=4)
    assert train(other, batches) != losses, "the seed draws the dropout"


@pytest.mark.slow
def test_the_final_configuration_takes_a_step_on_gray_images() -> None:
    config = load_config(None, ["model=configs/model/satrn_final.yaml"])
    task = SequenceTask(TOKENIZER, 12, network=config.model)
    model = task.build_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step = TrainStep(model, task, config.optim, 2, CPU)
    result = step(to_device(text_batch(["a b", "c d a"]), CPU))
    moved = {name.partition(".")[0] for name, new in model.named_parameters() if not torch.equal(before[name], new)}
    assert torch.isfinite(result.loss_sum) and moved == {"backbone", "encoder", "decoder"}


def test_rows_of_weight_zero_add_nothing_to_the_loss() -> None:
    task, model = tiny_task(), tiny_model().eval()
    batch = text_batch(["a b", "c d a", "b"], weights=[1, 0, 1])
    whole = to_device(batch, CPU)
    kept = to_device(text_batch(["a b", "c d a", "b"]), CPU)
    rows = torch.tensor([0, 2])
    logits = model(kept.images[rows], kept.targets["tokens"][rows, :-1], kept.sizes[rows]).logits.log_softmax(-1)
    labels = kept.targets["tokens"][rows, 1:]
    expected = -logits.gather(-1, labels[..., None])[..., 0][labels != TOKENIZER.pad_id].sum()
    assert float(task.loss_sum(model, whole).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert int(task.target_count(whole)) == 3 + 2


def _uneven_step(rank: int) -> tuple[float, float, dict[str, np.ndarray]]:
    # The short last batch of an epoch: two rows for rank 0, one row and one of weight 0 for rank 1.
    batch = text_batch(["a b c d", "a", "b c", ""], [1, 1, 1, 0])
    mine = rows_of(text_batch(["a b c d", "a", "b c"]), slice(0, 2)) if rank == 0 else rows_of(batch, slice(2, 4))
    model = DistributedDataParallel(rank_independent(tiny_model()))
    step = TrainStep(model, tiny_task(), OptimConfig(), 4, CPU, rank=rank)
    result = step(to_device(mine, CPU), ControlRequests(stop=rank == 1))
    gradients = {name: p.grad.numpy().copy() for name, p in step.network.named_parameters() if p.grad is not None}
    return float(result.target_count), float(result.stop), gradients


def test_two_ranks_with_an_uneven_last_batch_take_the_step_of_one(two_ranks: TwoRanks) -> None:
    (targets, stop, gradients), _ = two_ranks(_uneven_step)
    alone = TrainStep(rank_independent(tiny_model()), tiny_task(), OptimConfig(), 4, CPU)
    result = alone(to_device(text_batch(["a b c d", "a", "b c"]), CPU))
    assert targets == float(result.target_count) == 5 + 2 + 3
    assert stop > 0, "one rank's request to stop reaches all"
    expected = {name: p.grad.numpy() for name, p in alone.model.named_parameters() if p.grad is not None}
    assert expected.keys() == gradients.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(gradients[name], value, rtol=2e-4, atol=2e-6, err_msg=name)


def wide_batch(width: int, texts: list[str]) -> Batch:
    return text_batch(texts, size=(64, width))


def _losses_of_each_kind(rank: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for kind in KINDS:
        model, task = kind_of(kind)
        step = TrainStep(DistributedDataParallel(model), task, OptimConfig(), 4, CPU, rank=rank)
        # Uneven ranks: texts of other lengths, images of other widths. Parameters that the first step left without a
        # gradient stop the second.
        batch = to_device(wide_batch(256, ["a b c d", "a"]) if rank == 0 else wide_batch(128, ["b c", "d"]), CPU)
        try:
            found[kind] = [float(step(batch).loss_sum) for _ in range(2)]
        except Exception as error:
            raise RuntimeError(f"{kind}: {error}") from error
    return found


def test_two_ranks_train_every_kind_of_recognizer(two_ranks: TwoRanks) -> None:
    for losses in two_ranks(_losses_of_each_kind):
        assert losses.keys() == KINDS.keys() and all(np.isfinite(values).all() for values in losses.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_narrow_images_is_widened_to_what_the_network_takes(kind: str) -> None:
    model, task = kind_of(kind)
    batch = wide_batch(32, ["a", "b"])
    batch.weights[1] = 0
    step = TrainStep(model, task, OptimConfig(), 4, CPU)
    assert torch.isfinite(step(to_device(batch, CPU)).grad_norm)
    metrics = GroupedMetrics(task.new_metrics)
    evaluate_batch(model.eval(), task, batch, to_device(batch, CPU), metrics)
    assert metrics.total.count == 2


def test_validation_is_greedy_and_its_loss_neither_smoothed_nor_repelled() -> None:
    model, task = kind_of("repulsion")
    batch = wide_batch(64, ["a b", "c"])
    task = replace(task, loss=LossConfig(label_smoothing=0.2), decoding=Decoding(method="beam", max_length=1))
    validation = task.for_validation()
    metrics = GroupedMetrics(validation.new_metrics)
    tensors = to_device(batch, CPU)
    evaluate_batch(model.eval(), validation, batch, tensors, metrics)
    plain = SequenceTask(TOKENIZER, loss=LossConfig(repulsion_weight=0.0))
    assert metrics.loss_sum == pytest.approx(float(plain.loss_sum(model, tensors).detach()), rel=1e-6)
    assert float(task.loss_sum(model, tensors).detach()) != pytest.approx(metrics.loss_sum, rel=1e-4)
    greedy = plain.predict(model, tensors.images, tensors.sizes)
    expected = plain.new_metrics()
    for row, truth in zip(greedy, batch.columns["text"], strict=True):
        expected.add_text(row["prediction"], truth)
    assert metrics.total == expected
    short = task.predict(model, tensors.images, tensors.sizes)
    assert all(len(row["prediction"].split()) <= 1 for row in short), "prediction decodes as configured"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_schedule_does_not_count_steps_that_overflow(precision: Any) -> None:
    config = OptimConfig(lr=0.5, schedule=ScheduleConfig("cosine", warmup_ratio=0), max_grad_norm=0)

    def new_step() -> TrainStep:
        step = TrainStep(tiny_model(), tiny_task(), config, 8, CPU, StepConfig(precision))
        step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, enabled=precision == "fp16")  # overflows in fp16
        return step

    def rates(step: TrainStep, count: int) -> list[float]:
        found = []
        for _ in range(count):
            step(batch)
            assert step.lr == step.optimizer.param_groups[0]["lr"]
            found.append(step.lr)
        return found

    step, batch = new_step(), to_device(text_batch(["a b", "c d a"]), CPU)
    plan = [0.5 * lr_ratio(config.schedule, number, 8, 1) for number in range(8)]
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    assert rates(step, 2) == plan[:2], "what has not been read from the device is not known"
    same = [torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True)]
    assert all(same) if precision == "fp16" else not any(same)
    step.read_overflows()
    assert rates(step, 1) == ([plan[0]] if precision == "fp16" else [plan[2]])
    resumed = new_step()
    resumed.load_state_dict(copy.deepcopy(step.state_dict()))
    assert rates(resumed, 1) == rates(step, 1) == ([plan[1]] if precision == "fp16" else [plan[3]])
    step.read_overflows()
    resumed.read_overflows()
    assert step.overflows == resumed.overflows == (4 if precision == "fp16" else 0)


def test_gradients_are_clipped_to_the_norm_or_not_at_all() -> None:
    moved = []
    for norm in (0.0, 1e9, 1e-3):
        config = OptimConfig(name="sgd", lr=1.0, max_grad_norm=norm, weight_decay=0.0, schedule=ScheduleConfig("constant", 0))
        step = TrainStep(tiny_model(), tiny_task(), config, 4, CPU)
        before = torch.cat([parameter.detach().flatten().clone() for parameter in step.model.parameters()])
        step(to_device(text_batch(["a b", "c d a"]), CPU))
        moved.append(torch.cat([parameter.detach().flatten() for parameter in step.model.parameters()]) - before)
    assert torch.equal(moved[0], moved[1])
    assert float(moved[2].norm()) == pytest.approx(1e-3 * 1.9, rel=1e-2), "Nesterov's first step is 1 + momentum gradients"


def test_a_run_may_resume_in_another_precision() -> None:
    batch = to_device(text_batch(["a b", "c d a"]), CPU)
    precisions: list[Precision] = ["fp32", "bf16", "fp16"]
    for one, other in itertools.permutations(precisions, 2):
        first = TrainStep(tiny_model(), tiny_task(), OptimConfig(), 4, CPU, StepConfig(one))
        first(batch)
        second = TrainStep(copy.deepcopy(first.network), tiny_task(), OptimConfig(), 4, CPU, StepConfig(other))
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        assert torch.isfinite(second(batch).loss_sum) and second.steps == 2
