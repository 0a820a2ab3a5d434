"""Every parameter is trained, once, at the rate and with the decay that the configuration says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from models import build_model
from models.presets import load_named
from tests.support.networks import loss_of, moved, recognizer, weights_of
from tests.support.overrides import KINDS
from trainers.config.load import ConfigError, load_config
from trainers.config.optimizers import PLAIN, optimizer_class
from trainers.optim import OptimConfig, Schedule, build_optimizer, describe_groups, scaled_lr
from trainers.optim.groups import layer_ids, parameter_groups
from trainers.optim.optimizer import kernel

BESIDES = {
    "rectifier": ["model.rectifier.name=tps"],
    "ctc head": ["model.ctc.head=linear"],
    "bilstm": ["model.encoder.name=bilstm"],
    "learned": ["model.encoder.position=learned", "model.decoder.position=learned"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_in_exactly_one_group(kind: str) -> None:
    network = recognizer(kind)
    for config in (OptimConfig(), OptimConfig(layer_decay=0.5, backbone_lr_scale=0.1)):
        require_each_once(network, build_optimizer(network, config, 1.0))


@pytest.mark.parametrize("part", BESIDES)
def test_parts_that_are_added_are_in_the_groups_too(part: str) -> None:
    network = recognizer("small", *BESIDES[part])
    for parameter in network.backbone.parameters():
        parameter.requires_grad_(False)  # what is frozen now may be trained later
    require_each_once(network, build_optimizer(network, OptimConfig(name="sgd"), 1.0))


def require_each_once(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    listed = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters())


def test_vectors_and_positions_are_not_decayed() -> None:
    network = recognizer("small", *BESIDES["learned"])
    names = {parameter: name for name, parameter in network.named_parameters()}
    free = set()
    for group in build_optimizer(network, OptimConfig(weight_decay=0.3), 1.0).param_groups:
        assert group["weight_decay"] in (0.0, 0.3)
        free |= {names[p] for p in group["params"] if group["weight_decay"] == 0}
    tables = {"encoder.position.table", "decoder.positions.table"}
    assert free == tables | {name for name, p in network.named_parameters() if p.ndim == 1}
    assert "decoder.embedding.weight" not in free


# Parameters of shipped configurations and the layers that they are of: (of the image's end, how many there are).
LAYERS: dict[str, tuple[int, dict[str, int]]] = {
    "satrn_small": (6, {
        "backbone.stages.0.down.0.weight": 0, "backbone.stages.2.blocks.0.conv1.0.weight": 2, "backbone.project.0.weight": 2,
        "encoder.position.rows.weight": 3, "encoder.layers.0.attention.out.weight": 3, "encoder.norm.weight": 3,
        "decoder.embedding.weight": 4, "decoder.layers.0.feed_forward.0.weight": 4,
        "decoder.layers.1.feed_forward.0.weight": 5, "decoder.head.weight": 5,
    }),
    "satrn_final": (4 + 6 + 3, {
        "backbone.net.conv1.0.weight": 0, "backbone.net.layer1.0.conv1.weight": 0, "backbone.net.layer4.0.conv1.weight": 3,
        "backbone.project.0.weight": 3, "encoder.position.gate_a.0.weight": 4, "encoder.layers.5.attention.out.weight": 9,
        "decoder.layers.2.feed_forward.0.weight": 12,
    }),
    "satrn_efficient": (7 + 6 + 3, {
        "backbone.net.conv_stem.weight": 0, "backbone.net.blocks.1.0.conv_exp.weight": 1, "backbone.net.conv_head.weight": 6,
    }),
    "swin": (4 + 4, {
        "backbone.net.patch_embed.proj.weight": 0, "backbone.net.layers.2.blocks.17.norm1.weight": 2,
        "backbone.project.0.weight": 3, "decoder.positions.table": 4,
    }),
    "satrn_baseline": (2 + 6 + 3, {
        "backbone.stem.0.weight": 0, "backbone.blocks.1.15.conv.weight": 1, "encoder.layers.0.attention.out.weight": 2,
    }),
    "aster": (6 + 1, {
        "backbone.stages.5.conv.weight": 5, "backbone.last.0.weight": 5, "decoder.cells.cells.0.cell.weight_ih": 6,
    }),
    "ctc": (6 + 1, {"backbone.stages.0.conv.weight": 0, "encoder.lstm.weight_ih_l0": 6, "ctc.head.weight": 6}),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_shipped_configurations(name: str) -> None:
    named = load_named(name)
    with torch.device("meta"):
        ids = layer_ids(build_model(named.config, named.reference.output_spec()))
    count, some = LAYERS[name]
    assert set(ids.values()) == set(range(count))
    assert {key: ids.get(key) for key in some} == some


def test_a_rectifier_is_of_the_first_layer_and_a_ctc_head_of_the_last() -> None:
    ids = layer_ids(recognizer("joint", *BESIDES["rectifier"]))
    assert {layer for name, layer in ids.items() if name.startswith("rectifier.")} == {0}
    assert ids["ctc.head.weight"] == ids["decoder.head.weight"] == max(ids.values())


def test_rates_fall_with_the_depth_and_in_the_backbone() -> None:
    network = recognizer()  # 3 stages, a layer of the encoder, one of the decoder
    config = OptimConfig(layer_decay=0.5, backbone_lr_scale=0.1)
    optimizer = build_optimizer(network, config, lr=2.0)
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    of = {name: rates[parameter] for name, parameter in network.named_parameters()}
    assert (of["decoder.head.weight"], of["encoder.layers.0.attention.out.weight"]) == (2.0, 1.0)
    assert of["backbone.stages.0.down.0.weight"] == pytest.approx(2.0 * 0.5**4 * 0.1)
    lines = describe_groups(optimizer, network)
    assert [line.partition(" (")[0] for line in lines] == ["encoder: 0.5 of the rate", "backbone: 0.00625 to 0.025 of the rate"]
    assert f"{sum(p.numel() for p in network.backbone.parameters()):,} parameters" in lines[1]
    assert describe_groups(build_optimizer(network, OptimConfig(), 1.0), network) == []


@pytest.mark.parametrize("name", ["adamw", "adam", "adamp", "lamb", "sgd", "lion", "adafactor", "adan", "muon", "nadamw"])
def test_an_optimizer_moves_what_is_trained_and_nothing_else(name: str) -> None:
    network = recognizer()
    network.encoder.requires_grad_(False)
    optimizer = build_optimizer(network, OptimConfig(name=name, weight_decay=0.1), 1e-2)
    schedule = Schedule(optimizer, load_config(None, ["optim.schedule.name=cyclic"]).optim.schedule, 4, 1)
    before = weights_of(network)
    for step in range(2):
        schedule.set(step)
        optimizer.zero_grad()
        loss_of(network, step).backward()
        optimizer.step()
    buffers = {name for name, _ in network.named_buffers()}
    assert moved(network, before) - buffers == {n for n, p in network.named_parameters() if p.requires_grad}


def test_an_optimizer_is_the_one_that_timm_gives() -> None:
    from timm.optim import get_optimizer_class

    assert {name: get_optimizer_class(name, bind_defaults=False) for name in PLAIN} == PLAIN
    network = recognizer()
    config = OptimConfig(name="sgd", options={"momentum": 0.5}, weight_decay=0.1)
    group = build_optimizer(network, config, 1.0).param_groups[0]
    assert (group["momentum"], group["nesterov"], group["foreach"]) == (0.5, True, True)
    group = build_optimizer(network, OptimConfig(betas=(0.5, 0.6), eps=1e-3), 1.0).param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.5, 0.6), 1e-3)
    assert build_optimizer(network, OptimConfig(name="lamb"), 1.0).defaults["max_grad_norm"] is None, "clipped before"


def test_a_group_says_what_is_done_to_it() -> None:
    groups = parameter_groups(recognizer(), OptimConfig(weight_decay=0.2, backbone_lr_scale=0.5))
    assert {(group["lr_scale"], group["weight_decay"]) for group in groups} == {(1, 0.2), (1, 0), (0.5, 0.2), (0.5, 0)}


@pytest.mark.parametrize(("scaling", "lr"), [("none", 3e-4), ("linear", 3e-4 * 4), ("sqrt", 3e-4 * 2)])
def test_the_rate_follows_the_global_batch(scaling: Any, lr: float) -> None:
    assert scaled_lr(OptimConfig(lr=3e-4, lr_scaling=scaling, base_batch_size=64), 256) == pytest.approx(lr)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.name=adamx", ["optim.name=adamx", "adamw, adam, adamp, lamb, sgd, lion", "list_optimizers"]),
        ("optim.name=bnbadam", ["optim.name=bnbadam", "adamw"]),  # of a package that is not there
        ("optim.name=adahessian", ["optim.name=adahessian", "adamw"]),  # needs second derivatives
        ("optim.options={nesterov: true}", ["optim.options.nesterov", "adamw takes", "amsgrad"]),
        ("optim.options={betas: [0.5, 0.6]}", ["optim.options.betas", "optim.betas"]),
        ("optim.max_grad_norm=-1", ["optim.max_grad_norm=-1", "0 for no clipping"]),
        ("optim.betas=[0.9,1]", ["optim.betas=[0.9, 1.0]", "below 1"]),
        ("optim.eps=0", ["optim.eps=0.0", "above 0"]),
        ("optim.layer_decay=1.5", ["optim.layer_decay=1.5", "at most 1"]),
        ("optim.backbone_lr_scale=0", ["optim.backbone_lr_scale=0", "optim.freeze"]),
        ("optim.freeze={backbone.*: -2}", ["optim.freeze.backbone.*=-2", "-1 for good"]),
        ("optim.schedule.warmup_ratio=1", ["optim.schedule.warmup_ratio=1.0", "below 1"]),
        ("optim.schedule.min_lr_ratio=2", ["optim.schedule.min_lr_ratio=2.0", "from 0 to 1"]),
        ("optim.schedule.step_epochs=0", ["optim.schedule.step_epochs=0", "at least 1"]),
        ("optim.schedule.gamma=0", ["optim.schedule.gamma=0.0", "above 0"]),
        ("optim.schedule.name=cosin", ["optim.schedule.name", "cosin", "cyclic"]),
        ("optim.lr_scaling=squared", ["optim.lr_scaling", "squared", "linear"]),
        ("weight_averaging.decay=1", ["weight_averaging.decay=1.0", "below 1"]),
        ("weight_averaging.start=1", ["weight_averaging.start=1.0", "below 1"]),
        ("weight_averaging.statistics_batches=0", ["weight_averaging.statistics_batches=0", "at least 1"]),
        ("weight_averaging.name=polyak", ["weight_averaging.name", "polyak", "swa"]),
    ],
)
def test_a_bad_value_is_named(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_patterns_of_names_are_keys_of_a_mapping() -> None:
    config = load_config(None, ['optim.freeze={"backbone.*": 2, "encoder.*": -1}', "optim.options={amsgrad: true}"])
    assert config.optim.freeze == {"backbone.*": 2, "encoder.*": -1} and config.optim.options == {"amsgrad": True}


def test_adam_is_fused_on_a_gpu_and_others_work_on_lists() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    for name in ("adam", "adamw"):
        assert kernel(known(name), cuda, {}) == {"fused": True} and kernel(known(name), cpu, {}) == {"foreach": True}
    for name in ("sgd", "lion"):
        assert kernel(known(name), cuda, {}) == {"foreach": True}
    assert kernel(known("adamp"), cuda, {}) == {}


@pytest.mark.parametrize("option", ["fused", "foreach"])
def test_how_the_step_is_computed_may_be_said(option: str) -> None:
    """Beside what Inkray would choose torch refused it."""
    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(options={option: True}), lr=0.1)
    (group,) = {(group["fused"] or False, group["foreach"] or False) for group in optimizer.param_groups}
    assert group == (option == "fused", option == "foreach")


def known(name: str) -> type[torch.optim.Optimizer]:
    kind = optimizer_class(name)
    assert kind is not None
    return kind
