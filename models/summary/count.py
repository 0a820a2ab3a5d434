"""Parameter and operation counts of a recognizer, from a network on the meta device.

Legend: C channels, H W height and width in pixels, h w height and width of the feature map, T target positions, S source
positions, M width of the memory.
"""

import logging
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.presets import NamedConfig
from models.recognizer import Recognizer, build_model

PARTS = ("rectifier", "backbone", "encoder", "decoder", "ctc", "counting", "structure")


@dataclass(frozen=True)
class PartCount:
    """Counts of a part: parameters, elements of its state dict (running statistics included), multiply-adds."""

    parameters: int
    state_dict_elements: int
    multiply_adds: int


@dataclass(frozen=True)
class Counts:
    """Counts of a recognizer and its parts, and the cost of one image.

    `multiply_adds`: of the teacher-forced pass of one image of `image` (C, H, W) with `tokens` tokens, matrix products and
    convolutions only. `feature_map` (D, h, w), `memory` (S, M), `logits` by head.
    """

    name: str
    parameters: int
    state_dict_elements: int
    multiply_adds: int
    tokens: int
    image: tuple[int, int, int]
    feature_map: tuple[int, ...]
    memory: tuple[int, ...]
    logits: dict[str, tuple[int, ...]]
    parts: dict[str, PartCount] = field(default_factory=dict)


def count(named: NamedConfig, tokens: int) -> Counts:
    """Builds the recognizer of a configuration for its reference, runs one image through it, both on the meta device.

    Raises:
        ModelConfigError: the configuration cannot be built, or cannot process its reference sizes.
    """
    return count_model(build_on_meta(named), named, tokens)


def build_on_meta(named: NamedConfig) -> Recognizer:
    """Builds the recognizer of a configuration without memory for its weights. Raises ModelConfigError if it is invalid."""
    logging.getLogger("timm").setLevel(logging.ERROR)  # hides timm's warnings about image sizes
    with torch.device("meta"):
        # The counter hooks into the graph of parameters with gradients, under no_grad as well.
        return build_model(named.config, named.reference.output_spec()).eval().requires_grad_(False)


def count_model(model: Recognizer, named: NamedConfig, tokens: int) -> Counts:
    """Counts a recognizer that `build_on_meta` built; adds hooks to it.

    Raises:
        ModelConfigError: the configuration cannot process its reference sizes.
    """
    reference = named.reference
    with torch.device("meta"):
        images = torch.zeros(1, named.config.in_channels, reference.height, reference.width, dtype=torch.uint8)
        tgt_in = torch.zeros(1, tokens, dtype=torch.long)
    shapes: dict[str, tuple[int, ...]] = {}
    model.backbone.register_forward_hook(lambda module, inputs, features: shapes.update(map=tuple(features.shape[1:])))
    model.encoder.register_forward_hook(lambda module, inputs, memory: shapes.update(memory=tuple(memory.tokens.shape[1:])))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = model(images, tgt_in)
    heads = {"decoder": output.logits, "right to left": output.reverse_logits, "ctc": output.ctc_logits}
    flops = {name.removeprefix("Recognizer."): sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    # The counter only sees modules that are called; `decode_hidden` of the decoder is not, so it gets the remainder.
    flops["decoder"] = counter.get_total_flops() - sum(flops.get(name, 0) for name in PARTS if name != "decoder")
    return Counts(
        name=named.name,
        parameters=parameters(model),
        state_dict_elements=state_dict_elements(model),
        multiply_adds=counter.get_total_flops() // 2,
        tokens=tokens,
        image=(named.config.in_channels, reference.height, reference.width),
        feature_map=shapes["map"],
        memory=shapes["memory"],
        logits={head: tuple(logits.shape[1:]) for head, logits in heads.items() if logits is not None},
        parts=_parts(model, flops),
    )


def parameters(module: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def state_dict_elements(module: nn.Module) -> int:
    """Number of elements of the state dict: parameters, running statistics and their counters."""
    return sum(tensor.numel() for tensor in module.state_dict().values())


def _parts(model: Recognizer, flops: dict[str, int]) -> dict[str, PartCount]:
    parts = {name: getattr(model, name) for name in PARTS}
    return {
        name: PartCount(parameters(part), state_dict_elements(part), flops.get(name, 0) // 2)
        for name, part in parts.items()
        if parameters(part) or flops.get(name, 0)
    }
