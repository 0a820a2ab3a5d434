"""Checks of settings that would otherwise fail inside torch, or not at all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from models.errors import ModelConfigError
from models.types import LabelSpec, OutputSpec

MAY_BE_0 = (
    "model.backbone.small_cnn.depth",
    "model.backbone.convnet6.gates",
    "model.encoder.depth",
    "model.decoder.extra_embeddings",
)
# `models.layers.attention` checks these together with the width that they divide.
CHECKED_WITH_OTHERS = ("num_heads", "head_dim")


K = TypeVar("K", bound=str)
T = TypeVar("T")


def lookup(table: Mapping[K, T], name: K, key: str) -> T:
    """Entry of `table` that the config key `key` names; raises ModelConfigError listing the choices."""
    if name not in table:
        raise ModelConfigError(key, f"{name!r} is not one of {', '.join(sorted(table))}")
    return table[name]


def check_at_least(minimum: int, value: int, key: str) -> None:
    """Raises ModelConfigError unless `value` is a whole number of at least `minimum`."""
    if not isinstance(value, int) or value < minimum:
        raise ModelConfigError(key, f"must be a whole number, {minimum} or more, not {value!r}")


def check_rate(value: float, key: str) -> None:
    """Raises ModelConfigError unless `value` is a valid dropout rate."""
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ModelConfigError(key, f"must be 0 or more and less than 1, not {value!r}")


def check_finite(value: float, key: str) -> None:
    """Raises ModelConfigError unless `value` is a finite number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelConfigError(key, f"must be a finite number, not {value!r}")


def check_numbers(section: Any, key: str) -> None:
    """Raises ModelConfigError for sizes below 1, invalid rates and non-boolean switches in the config section `key`.

    Each module checks its further requirements itself.
    """
    for field in fields(section):
        value, name = getattr(section, field.name), f"{key}.{field.name}"
        if is_dataclass(value):
            check_numbers(value, name)
        elif field.name.endswith("_rate") and not (value is None and field.type == float | None):
            check_rate(value, name)
        elif field.type is bool and not isinstance(value, bool):
            raise ModelConfigError(name, f"must be true or false, not {value!r}")
        elif field.name in CHECKED_WITH_OTHERS or (value is None and field.type is not int):
            continue
        elif field.type in (int, int | None):
            check_at_least(0 if name in MAY_BE_0 else 1, value, name)


def check_spec(spec: OutputSpec) -> None:
    """Raises ModelConfigError for special tokens outside the vocabulary or equal to each other, and for a length below 1."""
    key = "output_spec"
    check_at_least(1, spec.max_length, f"{key}.max_length")
    special = {"bos_id": spec.bos_id, "eos_id": spec.eos_id, "pad_id": spec.pad_id}
    for name, token in special.items():
        if not 0 <= token < spec.num_classes:
            raise ModelConfigError(f"{key}.{name}", f"{token} is not in a vocabulary of {spec.num_classes} tokens")
        if list(special.values()).count(token) > 1:
            raise ModelConfigError(f"{key}.{name}", f"{token} is used for several special tokens: {special}")
    for name, tokens in (("open_ids", spec.open_ids), ("close_ids", spec.close_ids)):
        if not all(0 <= token < spec.num_classes for token in tokens):
            raise ModelConfigError(f"{key}.{name}", f"{tokens} are not all in a vocabulary of {spec.num_classes} tokens")


def check_label_spec(spec: LabelSpec) -> None:
    """Raises ModelConfigError unless there are label heads of different names, each with a class or more."""
    key, names = "label_spec", [head.name for head in spec.heads]
    if not names or not all(names):
        raise ModelConfigError(f"{key}.heads", f"must be one or more heads with names, not {names}")
    for head in spec.heads:
        check_at_least(1, head.num_classes, f"{key}.{head.name}.num_classes")
        if names.count(head.name) > 1:
            raise ModelConfigError(f"{key}.heads", f"several heads are named {head.name!r}")


def check_pixels(mean: Sequence[float], std: Sequence[float], in_channels: int, section: str) -> None:
    """Raises ModelConfigError unless each is one finite number or one for each channel, and no `std` is 0.

    `section`: the config section of the network.
    """
    for name, values in (("pixel_mean", mean), ("pixel_std", std)):
        key = f"{section}.{name}"
        if len(values) not in (1, in_channels):
            raise ModelConfigError(
                key, f"{len(values)} values for {section}.in_channels = {in_channels}; give one, or one for each channel"
            )
        for value in values:
            check_finite(value, key)
    if 0 in std:
        raise ModelConfigError(f"{section}.pixel_std", "must not be 0")
