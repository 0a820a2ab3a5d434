"""Every value of every switch of a recognizer, alone against a small configuration in which it acts."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, get_args, get_type_hints

from models import ModelConfig
from tests.support.configurations import TINY, load_config, shrink

# Numbers and booleans that are switches, too.
VALUES: dict[str, tuple[Any, ...]] = {
    "in_channels": (1, 3),
    "backbone.densenet.blocks": (1, 2, 3),
    "backbone.convnet6.gates": (0, 1, 2, 3),
    "backbone.convnet6.multiplier": (1, 2, 3, 4),
    "backbone.small_cnn.depth": (0, 1, 2),
    "backbone.small_cnn.stride": (4, 8),
    "backbone.timm.stride": (None, 8, 16, 32),
    "backbone.timm.neck_channels": (None, 24),
    "backbone.resnetv2.depths": ([1], [1, 1], [1, 1, 1]),
    "rectifier.control_points": (4, 20),
    "encoder.bilstm.depth": (1, 2),
    "encoder.depth": (1, 3),
    "encoder.head_dim": (None, 3),
    "encoder.class_token": (False, True),
    "decoder.depth": (1, 2, 3),
    "decoder.extra_embeddings": (0, 1),
    "decoder.head_dim": (None, 5),
    "decoder.embedding_scale": (False, True),
    "decoder.qkv_bias": (False, True),
    "decoder.rnn.attention_bias": (False, True),
}
# In which structure of TINY a switch acts: the longest prefix of its path counts. Others are tried in "small".
STRUCTURE = {
    "backbone.timm": "final",
    "backbone.densenet": "comer",
    "backbone.convnet6": "seq2seq_light",
    "encoder.bilstm": "aster_blstm",
    "decoder.rnn": "aster",
}
# What a value needs beside it.
COMPANIONS: dict[str, dict[str, Any]] = {
    "decoder.name=none": {"ctc.head": "linear"},
    "backbone.name=aster_cnn": {"encoder.embed_dim": 512},
}
PREFIX_COMPANIONS: dict[str, dict[str, Any]] = {
    "backbone.aster_cnn": {"backbone.name": "aster_cnn", "encoder.embed_dim": 512},
    "backbone.resnetv2": {"backbone.name": "resnetv2"},
    "backbone.convnet6.multiplier": {"backbone.convnet6.convolution": "separable"},
    "rectifier.control_points": {"rectifier.name": "tps"},
    # A layer whose parts differ shows more than the default, where all of them are at work.
    "encoder.position_projection": {"encoder.position": "sinusoid_2d"},
}


def literals(part: type = ModelConfig, path: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every Literal field below a config class: its path and its values."""
    hints = get_type_hints(part)
    for item in fields(part):
        hint = hints[item.name]
        if is_dataclass(hint):
            yield from literals(hint, f"{path}{item.name}.")  # type: ignore[arg-type]
        elif isinstance(get_args(hint)[0] if get_args(hint) else None, str):
            yield f"{path}{item.name}", get_args(hint)


def set_value(config: Any, path: str, value: Any) -> None:
    """Sets the field at a dotted path."""
    *parents, name = path.split(".")
    for parent in parents:
        config = getattr(config, parent)
    setattr(config, name, value)


def longest(table: dict[str, Any], path: str, default: Any) -> Any:
    """The entry of the longest key that `path` begins with."""
    keys = [key for key in table if path.startswith(key)]
    return table[max(keys, key=len)] if keys else default


def make(path: str, value: Any) -> ModelConfig:
    """The configuration in which the switch at `path` has `value`."""
    config = copy.deepcopy(TINY[longest(STRUCTURE, path, "small")]())
    settings = longest(PREFIX_COMPANIONS, path, {}) | COMPANIONS.get(f"{path}={value}", {}) | {path: value}
    for key, setting in settings.items():
        set_value(config, key, setting)
    return config


def ctc() -> ModelConfig:
    """Without a decoder."""
    return shrink(load_config("ctc"))


def variants() -> dict[str, Callable[[], ModelConfig]]:
    """All structures, and every value of every switch."""
    found: dict[str, Callable[[], ModelConfig]] = {**TINY, "ctc": ctc}
    for path, values in [*literals(), *VALUES.items()]:
        found |= {f"{path}={value}": partial(make, path, value) for value in values}
    return found


def unique(variants: dict[str, Callable[[], ModelConfig]]) -> dict[str, list[str]]:
    """The names of equal configurations by the first of them: every switch has a value that is its default."""
    found: list[tuple[ModelConfig, list[str]]] = []
    for name, make_config in variants.items():
        config = make_config()
        equal = next((names for other, names in found if other == config), None)
        if equal is None:
            found.append((config, [name]))
        else:
            equal.append(name)
    return {names[0]: names for _, names in found}


VARIANTS = variants()
UNIQUE = unique(VARIANTS)
