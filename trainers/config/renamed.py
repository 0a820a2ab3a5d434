"""Keys and values of configurations that had another name before, and what they are called now.

On a command line, in a file and in a study an old name is an error that says the new one. The configuration that an older
run or checkpoint carries is read through the table.
"""

from __future__ import annotations

import copy
from typing import Any

from cluster.values import Renames, is_key
from data_pipeline.stream.config import RENAMED as STREAM

_COMPUTE = (
    *("precision", "micro_batch_size", "find_micro_batch", "gradient_checkpointing", "compile", "sync_batch_norm"),
    *("threads_per_worker", "ddp"),
)

RENAMED = Renames(
    # Old key to new key; a section stands for all of its keys.
    keys={
        "forcing": "scheduled_sampling",
        "guard": "loss_guard",
        "averaging": "weight_averaging",
        "loss.pad": "loss.ignore_padding",
        "optim.schedule.floor": "optim.schedule.min_lr_ratio",
        "optim.schedule.warmup": "optim.schedule.warmup_ratio",
        "tracking.pictures": "tracking.images",
        **{f"stream.{old}": f"stream.{new}" for old, new in STREAM.keys.items()},
        **{f"scaling.{key}": f"failure.{key}" for key in ("max_failures", "hang_timeout_s", "on_out_of_memory")},
        **{f"scaling.{key}": f"compute.{key}" for key in _COMPUTE},
    },
    # Of a key, by its new name: old value to new value.
    values={
        "loss.ignore_padding": {"ignored": "true", "counted": "false"},
        "optim.schedule.name": {"circular": "cyclic"},
    },
)


def with_new_names(values: dict[str, Any], root: type) -> dict[str, Any]:
    """The values of an older configuration for the dataclass `root`, under the names of today."""
    values = copy.deepcopy(values)
    for old, new in RENAMED.keys.items():
        if not is_key(root, old):
            values = _moved(values, old.split("."), new.split("."))
    for key, renamed in RENAMED.values.items():
        *above, name = key.split(".")
        section: Any = values
        for part in above:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and isinstance(section.get(name), str) and section[name] in renamed:
            section[name] = renamed[section[name]]
    return values


def _moved(values: dict[str, Any], old: list[str], new: list[str]) -> dict[str, Any]:
    """`values` with what lies at the path `old`, if anything does, at the path `new`, unless there is something already."""
    source: Any = values
    for part in old[:-1]:
        source = source.get(part) if isinstance(source, dict) else None
    if not isinstance(source, dict) or old[-1] not in source:
        return values
    target = values
    for part in new[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            return values
    if new[-1] not in target:
        target[new[-1]] = source.pop(old[-1])
    return values
