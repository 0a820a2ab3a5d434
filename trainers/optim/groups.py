"""Parameters by what is done to them: whether they are decayed, and at which share of the rate they are trained."""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from trainers.config.optim import OptimConfig

PARTS = ("backbone", "encoder", "decoder")  # from the image to the text
NUMBERED = re.compile(r"(.*?\D)(\d+)(?=\.|$)")  # "backbone.stages.", "2" of backbone.stages.2.blocks.0


def parameter_groups(network: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """All parameters of `network`, frozen or not, each in exactly one group.

    A group holds `params`, their `weight_decay` (0 for vectors and for what `config.no_decay` names) and their `lr_scale`.
    """
    layers = layer_ids(network)
    last = max(layers.values(), default=0)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        scale = config.layer_decay ** (last - layers[name])
        scale *= config.backbone_lr_scale if name.startswith("backbone.") else 1.0
        decayed = parameter.ndim > 1 and not any(fnmatchcase(name, pattern) for pattern in config.no_decay)
        groups.setdefault((scale, decayed), []).append(parameter)
    return [
        {"params": params, "weight_decay": config.weight_decay if decayed else 0.0, "lr_scale": scale}
        for (scale, decayed), params in groups.items()
    ]


def layer_ids(network: nn.Module) -> dict[str, int]:
    """The layer of each parameter by name, counted from the image to the text.

    The layers of the backbone, the encoder and the decoder are the members of the part's largest numbered list of modules
    (`stages.0`, `layer1`, `blocks.3`; the rest of a name does not matter), or the part is one layer. What lies before the
    first of them (stem, embedding, positions) goes with it, what lies behind one (transition, norm, projection) with that
    one. What comes before the backbone is of the first layer, and the heads are of the last.
    """
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    ids: dict[str, int] = {}
    count = 0
    for part in PARTS:
        inside = _layers_of({name: size for name, size in sizes.items() if name.startswith(f"{part}.")})
        ids |= {name: count + layer for name, layer in inside.items()}
        count += 1 + max(inside.values(), default=-1)
    ends = {name: 0 if name.startswith("rectifier.") else max(count - 1, 0) for name in sizes}
    return ends | ids


def _layers_of(sizes: dict[str, int]) -> dict[str, int]:
    """The layer, from 0, of each parameter of a part, of which `sizes` are in order."""
    positions = {name: NUMBERED.match(name.rpartition(".")[0]) for name in sizes}
    lists: Counter[str] = Counter()
    for name, position in positions.items():
        if position is not None:
            lists[position[1]] += sizes[name]
    largest = max(lists, key=lambda prefix: lists[prefix], default=None)
    members: dict[str, int] = {}
    ids: dict[str, int] = {}
    layer = 0
    for name, position in positions.items():
        if position is not None and position[1] == largest:
            layer = members.setdefault(position[2], len(members))
        ids[name] = layer
    return ids


def describe_groups(optimizer: torch.optim.Optimizer, network: nn.Module) -> list[str]:
    """A line for each part of `network` that is trained at another rate than the schedule's."""
    scale_of = {parameter: group["lr_scale"] for group in optimizer.param_groups for parameter in group["params"]}
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        parts.setdefault(name.partition(".")[0], []).append(parameter)
    lines = []
    for part, parameters in parts.items():
        scales = sorted({scale_of[parameter] for parameter in parameters})
        if scales != [1.0]:
            shares = " to ".join(f"{scale:.3g}" for scale in dict.fromkeys((scales[0], scales[-1])))
            lines.append(f"{part}: {shares} of the rate ({sum(p.numel() for p in parameters):,} parameters)")
    return lines
