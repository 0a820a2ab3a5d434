"""Averages of weights against closed forms, their statistics against one pass over the data, and what resuming leaves."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.networks import images, loss_of, moved, recognizer, weights_of
from trainers.config.weight_averaging import WeightAveragingConfig
from trainers.optim import Freezing, OptimConfig, build_optimizer
from trainers.optim.weight_averaging import build_averaging


class Run:
    """A network that is trained and averaged, 4 steps an epoch."""

    def __init__(self, config: WeightAveragingConfig, kind: str = "small", total_steps: int = 16) -> None:
        self.network = recognizer(kind)
        self.optimizer = build_optimizer(self.network, OptimConfig(), 1e-2)
        self.averaging = build_averaging(self.network, config, total_steps)
        self.steps = 0
        self.past: list[dict[str, Tensor]] = []

    def train(self, count: int) -> None:
        for _ in range(count):
            self.network.train()
            self.optimizer.zero_grad()
            loss_of(self.network, self.steps).backward()
            self.optimizer.step()
            self.steps += 1
            self.past.append(weights_of(self.network))
            self.averaging.update(self.steps)
            if self.steps % 4 == 0:
                self.averaging.end_epoch()


def close(network: nn.Module, expected: dict[str, Tensor], names: Any) -> None:
    for name in names:
        torch.testing.assert_close(network.state_dict()[name], expected[name], rtol=1e-5, atol=1e-6, msg=name)


def parameters(network: nn.Module) -> list[str]:
    return [name for name, _ in network.named_parameters()]


def test_none_is_the_network_itself() -> None:
    run = Run(WeightAveragingConfig())
    run.train(4)
    assert run.averaging.network is run.network and run.averaging.state_dict() == {} and run.averaging.describe() == []
    assert run.averaging.lr_override(15) is None and not run.averaging.needs_statistics


@pytest.mark.parametrize("warmup", [False, True])
def test_ema_is_the_closed_form(warmup: bool) -> None:
    run = Run(WeightAveragingConfig("ema", decay=0.6, warmup=warmup))
    run.train(6)
    assert run.averaging.network is not run.network
    # After the first step the average is the weights; a later step n leaves d(n) of it.
    left = [min(0.6, 1 - n ** (-2 / 3)) if warmup else 0.6 for n in range(2, 7)]
    shares = [1.0]
    for d in left:
        shares = [share * d for share in shares] + [1 - d]
    assert sum(shares) == pytest.approx(1)
    floats = [name for name, tensor in run.past[0].items() if tensor.is_floating_point()]
    expected = {n: sum(s * past[n].double() for s, past in zip(shares, run.past, strict=True)).float() for n in floats}  # type: ignore[union-attr]
    close(run.averaging.network, expected, floats)  # BatchNorm's statistics among them
    assert moved(run.averaging.network, run.past[-1]) >= set(parameters(run.network))


def test_an_average_is_ready_to_be_used_and_never_trained() -> None:
    names: tuple[Any, ...] = ("ema", "swa")
    for name in names:
        run = Run(WeightAveragingConfig(name, start=0.0), kind="ctc")
        before = weights_of(run.network)
        run.train(4)
        network: Any = run.averaging.network
        assert not network.training and not any(p.requires_grad for p in network.parameters())
        assert run.network.training and moved(run.network, before) >= set(parameters(run.network))
        assert torch.isfinite(network(images(), torch.tensor([[0, 3, 4, 5]] * 3)).ctc_logits).all()
        assert len(run.averaging.describe()) == 1


def test_swa_is_the_mean_of_the_weights_at_the_ends_of_the_last_epochs() -> None:
    run = Run(WeightAveragingConfig("swa", start=0.5))
    run.train(7)
    assert run.averaging.network is run.network, "nothing is averaged yet"
    run.train(9)
    ends = [run.past[step - 1] for step in (8, 12, 16)]
    mean = {name: torch.stack([end[name] for end in ends]).mean(0) for name in parameters(run.network)}
    close(run.averaging.network, mean, mean)
    assert moved(run.averaging.network, run.past[-1]) == set(parameters(run.network)), "the statistics are the last ones"


def test_swa_by_steps() -> None:
    run = Run(WeightAveragingConfig("swa", start=0.5, every_steps=3))
    run.train(16)
    ends = [run.past[step - 1] for step in (9, 12, 15)]
    mean = {name: torch.stack([end[name] for end in ends]).mean(0) for name in parameters(run.network)}
    close(run.averaging.network, mean, mean)


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_a_table_that_grew_with_a_long_text_is_no_obstacle(name: Any) -> None:
    run = Run(WeightAveragingConfig(name, start=0.0))
    run.train(4)
    network: Any = run.averaging.network
    network.decoder.positions(0, 5000)
    run.train(4)
    assert torch.isfinite(network(images(), torch.tensor([[0, 3]] * 3)).logits).all()


def test_swa_holds_the_learning_rate_once_it_has_begun() -> None:
    held = Run(WeightAveragingConfig("swa", start=0.5, lr_scale=0.05)).averaging
    assert [held.lr_override(step) for step in (0, 7, 8, 15)] == [None, None, 0.05, 0.05]
    assert Run(WeightAveragingConfig("swa", start=0.5)).averaging.lr_override(12) is None


def encode(network: nn.Module, batch: Tensor) -> None:
    assert not torch.is_grad_enabled()
    network.encode(batch)  # type: ignore[operator]


def averaged(**settings: Any) -> Run:
    run = Run(WeightAveragingConfig("swa", start=0.5, **settings))
    assert not run.averaging.needs_statistics
    run.averaging.gather_statistics(encode, iter([images()]))  # too early: does nothing
    run.train(12)
    assert run.averaging.needs_statistics
    return run


def statistics(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights_of(network).items() if "running" in name}


def test_statistics_of_averaged_weights_are_those_of_one_pass_in_training() -> None:
    run = averaged()
    network = run.averaging.network
    stale = weights_of(network)
    run.averaging.gather_statistics(encode, iter([]))
    assert not moved(network, stale), "no data, no change"
    reference = copy.deepcopy(network)
    layers = [module for module in reference.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.train().momentum = 1.0  # the statistics of one batch
    with torch.no_grad():
        encode(reference, images(7))
    run.averaging.gather_statistics(encode, iter([images(7)]))
    close(network, weights_of(reference), statistics(network))
    assert moved(network, stale) >= set(statistics(network))
    after = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert layers and {layer.momentum for layer in after} == {0.1} and not network.training
    assert not any(module.training for module in network.modules())


def test_statistics_are_the_mean_of_as_many_batches_as_configured() -> None:
    run = averaged(statistics_batches=3)
    network: Any = run.averaging.network
    given = iter([images(seed, count=4) for seed in range(5)])
    run.averaging.gather_statistics(encode, given)
    assert len(list(given)) == 2
    first, layer = network.backbone.stages[0].down  # whose input follows from the images alone
    with torch.no_grad():
        maps = [first(network.normalize(images(seed, count=4))) for seed in range(3)]
    torch.testing.assert_close(layer.running_mean, torch.cat(maps).mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    variances = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in maps])
    torch.testing.assert_close(layer.running_var, variances.mean(0), rtol=1e-4, atol=1e-5)


def test_frozen_layers_keep_their_statistics() -> None:
    run = averaged()
    Freezing(run.network, {"backbone.stages.*": -1}).begin_epoch(0)
    stale = weights_of(run.averaging.network)
    run.averaging.gather_statistics(encode, iter([images(7)]))
    project = "backbone.project.1."
    expected = {project + name for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert moved(run.averaging.network, stale) == expected


# stop: in an epoch, or at the end of one, which has been averaged.
@pytest.mark.parametrize(("config", "stop"), [
    (WeightAveragingConfig("ema", decay=0.9), 10), (WeightAveragingConfig("swa", start=0.25), 8),
    (WeightAveragingConfig("swa", start=0.25), 10),
    (WeightAveragingConfig("swa", start=0.25, every_steps=3), 10), (WeightAveragingConfig("swa", start=0.9), 10),
], ids=["ema", "epochs", "within", "steps", "late"])  # fmt: skip
def test_a_resumed_average_is_that_of_a_run_in_one_go(config: WeightAveragingConfig, stop: int) -> None:
    whole = Run(config)
    whole.train(16)
    first = Run(config)
    first.train(stop)
    file = io.BytesIO()
    torch.save([first.network.state_dict(), first.optimizer.state_dict(), first.averaging.state_dict()], file)
    file.seek(0)
    weights, optimizer, average = torch.load(file, weights_only=True)
    assert all(isinstance(tensor, Tensor) for tensor in average.values())
    second = Run(config)
    second.network.load_state_dict(weights)
    second.optimizer.load_state_dict(optimizer)
    second.averaging.load_state_dict(average)
    second.steps = stop
    second.train(16 - stop)
    assert not moved(second.averaging.network, weights_of(whole.averaging.network))
    assert (second.averaging.network is second.network) == (whole.averaging.network is whole.network)
