"""What is frozen does not move, by gradient, decay or statistics, and moves when its time comes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cluster.errors import UserError
from models import Recognizer
from tests.support.networks import loss_of, moved, recognizer, weights_of
from trainers.optim import Freezing, OptimConfig, build_optimizer


def steps(network: Recognizer, optimizer: torch.optim.Optimizer, freezing: Freezing, count: int = 2) -> set[str]:
    """Train some steps; the names of what has moved."""
    before = weights_of(network)
    for step in range(count):
        network.train()
        freezing.keep_still()
        optimizer.zero_grad()
        loss_of(network, step).backward()
        optimizer.step()
    return moved(network, before)


def below(network: nn.Module, prefix: str) -> set[str]:
    return {name for name in network.state_dict() if name.startswith(prefix)}


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_a_backbone_is_frozen_for_two_epochs(name: str) -> None:
    network = recognizer()
    # Decay and momentum would move a weight without a gradient.
    optimizer = build_optimizer(network, OptimConfig(name=name, weight_decay=0.5), 1e-2)
    freezing = Freezing(network, {"backbone.*": 2})
    changed = []
    for epoch in range(4):
        changed.append(freezing.begin_epoch(epoch))
        names = steps(network, optimizer, freezing)
        trained = below(network, "encoder.") | below(network, "decoder.")
        assert names == (trained if epoch < 2 else trained | below(network, "backbone."))
        grads = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
        assert grads == names & {name for name, _ in network.named_parameters()}
    assert changed == [True, False, True, False]


def test_what_was_trained_and_is_frozen_later_stands_still_at_once() -> None:
    network = recognizer()
    optimizer = build_optimizer(network, OptimConfig(weight_decay=0.5), 1e-2)
    free = Freezing(network, {})
    assert not free.begin_epoch(0)
    assert below(network, "backbone.") <= steps(network, optimizer, free)
    freezing = Freezing(network, {"backbone.*": -1})
    assert freezing.begin_epoch(0)
    before = weights_of(network)
    optimizer.step()  # with the gradients of the step before, but for those of what is frozen
    assert not moved(network, before) & below(network, "backbone.")
    assert not steps(network, optimizer, freezing) & below(network, "backbone.")


def test_for_good_and_by_parts() -> None:
    network = recognizer()
    optimizer = build_optimizer(network, OptimConfig(), 1e-2)
    patterns = {"backbone.stages.0.*": -1, "backbone.stages.[01].*": 1, "decoder.embedding.weight": -1, "encoder.*": 0}
    freezing = Freezing(network, patterns)
    kept = below(network, "backbone.stages.0.") | {"decoder.embedding.weight"}
    for epoch, still in ((0, kept | below(network, "backbone.stages.1.")), (1, kept), (9, kept)):
        freezing.begin_epoch(epoch)
        assert steps(network, optimizer, freezing) == set(network.state_dict()) - still
    lines = freezing.describe()
    total = sum(parameter.numel() for parameter in network.parameters())
    frozen = sum(parameter.numel() for name, parameter in network.named_parameters() if name in freezing._frozen(0))
    assert lines.pop() == f"{total - frozen:,} of {total:,} parameters are trained in the first epoch"
    assert len(lines) == 3 and lines[0].startswith("backbone.stages.0.*: frozen for good (")
    assert lines[1].startswith("backbone.stages.[01].*: frozen in the first 1 epochs (")
    assert f"({network.decoder.embedding.weight.numel():,} parameters)" in lines[2]  # type: ignore[union-attr, operator]


def test_an_epoch_decides_alone_so_a_resumed_run_freezes_alike() -> None:
    network = recognizer()
    for epoch, trained in ((5, True), (0, False), (2, True), (1, False)):
        Freezing(network, {"backbone.*": 2}).begin_epoch(epoch)
        assert {p.requires_grad for p in network.backbone.parameters()} == {trained}


def test_statistics_without_parameters_stand_still_with_what_is_around_them() -> None:
    network = nn.ModuleDict({"backbone": nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, affine=False)),
                             "head": nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))})  # fmt: skip
    freezing = Freezing(network, {"backbone.*": 1})
    for epoch, still in ((0, {"backbone"}), (1, set())):
        freezing.begin_epoch(epoch)
        network.train()
        freezing.keep_still()
        assert {part for part, layers in network.items() if not layers[1].training} == still  # type: ignore[index]


def test_a_norm_that_is_trained_in_part_goes_on_gathering() -> None:
    network = recognizer()
    optimizer = build_optimizer(network, OptimConfig(), 1e-2)
    freezing = Freezing(network, {"backbone.*.weight": -1})
    freezing.begin_epoch(0)
    names = steps(network, optimizer, freezing)
    assert "backbone.project.1.running_mean" in names and "backbone.project.1.weight" not in names


def test_a_frozen_network_computes_what_it_did_in_evaluation() -> None:
    network = recognizer()
    reference = copy.deepcopy(network).eval()
    freezing = Freezing(network, {"backbone.*": -1})
    freezing.begin_epoch(0)
    network.train()
    freezing.keep_still()
    x = torch.rand(2, 1, 64, 64)
    assert torch.equal(network.backbone(x), reference.backbone(x))


def test_a_pattern_that_matches_nothing_is_named_with_real_names() -> None:
    with pytest.raises(UserError, match=r"'backbone' matches no parameter.*decoder.embedding.weight.*encoder\.\*"):
        Freezing(recognizer(), {"backbone": 2})
    with pytest.raises(UserError, match="leaves no parameter to train"):
        Freezing(recognizer(), {"*": 1})
