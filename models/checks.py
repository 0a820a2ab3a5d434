"""Checks of settings that a network would otherwise meet as an error of torch, or not at all."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

from models.errors import ModelConfigError
from models.spec import OutputSpec

MAY_BE_0 = (
    "model.backbone.small_cnn.depth",
    "model.backbone.convnet6.gates",
    "model.encoder.depth",
    "model.decoder.extra_embeddings",
)
# `models.layers.attention` checks these together with the width that they share.
CHECKED_WITH_OTHERS = ("num_heads", "head_dim")


def at_least(minimum: int, value: int, key: str) -> None:
    """Refuses a `value` that is no whole number, or one below `minimum`."""
    if not isinstance(value, int) or value < minimum:
        raise ModelConfigError(key, f"must be a whole number, {minimum} or more, not {value!r}")


def is_rate(value: float, key: str) -> None:
    """Refuses a `value` that is no share for dropout."""
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ModelConfigError(key, f"must be 0 or more and less than 1, not {value!r}")


def is_finite(value: float, key: str) -> None:
    """Refuses a `value` that is no number, or not a finite one."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelConfigError(key, f"must be a finite number, not {value!r}")


def check_numbers(section: Any, key: str) -> None:
    """Refuses sizes below 1, rates that are none and switches that are neither true nor false, in a section of the config.

    `key` is the section's. What a part wants beyond that it checks itself.
    """
    for field in fields(section):
        value, name = getattr(section, field.name), f"{key}.{field.name}"
        if is_dataclass(value):
            check_numbers(value, name)
        elif field.name.endswith("_rate"):
            is_rate(value, name)
        elif field.type is bool and not isinstance(value, bool):
            raise ModelConfigError(name, f"must be true or false, not {value!r}")
        elif field.name in CHECKED_WITH_OTHERS or (value is None and field.type is not int):
            continue
        elif field.type in (int, int | None):
            at_least(0 if name in MAY_BE_0 else 1, value, name)


def check_spec(spec: OutputSpec) -> None:
    """Refuses a vocabulary without room for its special tokens, and outputs of no length."""
    key = "output_spec"
    at_least(1, spec.max_length, f"{key}.max_length")
    special = {"bos_id": spec.bos_id, "eos_id": spec.eos_id, "pad_id": spec.pad_id}
    for name, token in special.items():
        if not 0 <= token < spec.num_classes:
            raise ModelConfigError(f"{key}.{name}", f"{token} is no token of a vocabulary of {spec.num_classes}")
        if list(special.values()).count(token) > 1:
            raise ModelConfigError(f"{key}.{name}", f"{token} is another special token, too: {special}")
    for name, tokens in (("open_ids", spec.open_ids), ("close_ids", spec.close_ids)):
        if not all(0 <= token < spec.num_classes for token in tokens):
            raise ModelConfigError(f"{key}.{name}", f"{tokens} are not all tokens of a vocabulary of {spec.num_classes}")
