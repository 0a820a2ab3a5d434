"""A fresh network that starts from the weights of a checkpoint, all of them or some."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from cluster.errors import UserError
from data_pipeline.storage.base import Storage, storage_errors
from trainers.checkpoint.format import WEIGHTS, CheckpointError
from trainers.checkpoint.load import Checkpoint
from trainers.checkpoint.vocabulary_transfer import carry_rows, shared_rows
from trainers.config.init import InitConfig
from trainers.tasks import Task

REPORT = "warm_start.json"  # in the run's folder
SHOWN = 4  # names in a line of the log; the file has all


@dataclass
class WarmStartReport:
    """What became of every tensor of a network: `loaded` whole, `by_name` in part, or not, with the reason of each.

    `carried` counts the outputs (tokens, say, the three special ones among them) whose rows came from the checkpoint; `new` are
    those that it does not have.
    """

    checkpoint: str
    loaded: list[str] = field(default_factory=list)
    by_name: list[str] = field(default_factory=list)
    not_loaded: dict[str, str] = field(default_factory=dict)
    carried: int = 0
    new: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As it stands in `warm_start.json`."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For the log."""
        total = len(self.loaded) + len(self.by_name) + len(self.not_loaded)
        lines = [f"Warm start from '{self.checkpoint}': {len(self.loaded)} of {total} tensors as they are"]
        if self.by_name:
            lines.append(
                f"  by name: {_some(self.by_name)}: {self.carried} outputs carried over, "
                f"{len(self.new)} new{': ' + _some(self.new, ' ') if self.new else ''}"
            )
        for reason in dict.fromkeys(self.not_loaded.values()):
            lines.append(f"  fresh ({reason}): {_some([name for name, why in self.not_loaded.items() if why == reason])}")
        return lines


def warm_start(network: nn.Module, task: Task, config: InitConfig, source: Checkpoint) -> WarmStartReport:
    """Give `network`, whose outputs are those of `task`, the weights of `source` that `config` names; the rest stays fresh.

    Tensors that have a row for each output (each token of a vocabulary) take over the rows of the outputs that both have, by
    name. On a network on the meta device this only finds out whether it can be done, from the header of the weights.

    Raises:
        UserError: the checkpoint is damaged or of another kind, a pattern matches no name, or nothing would be loaded.
    """
    state = network.state_dict()
    on_meta = any(tensor.is_meta for tensor in state.values())
    weights = _read_shapes(source.storage) if on_meta else _read_weights(source.storage)
    _require_matches(config, [*state, *weights])
    axes, own_axes = source.task.output_axes(), task.output_axes()
    result = WarmStartReport(source.uri)
    carried: dict[str, None] = {}
    for name, target in state.items():
        tensor, axis = weights.get(name), axes.get(name)
        old = [] if axis is None else source.task.tensor_outputs(name)
        new = [] if name not in own_axes else task.tensor_outputs(name)
        rows, sizes = shared_rows(old, new), (len(old), len(new))
        reason = _reason_against(name, tensor, target, axis, sizes, config)
        if not reason and (axis != own_axes.get(name) or not task.shares(name, source.task)):
            reason = "of other outputs in the checkpoint"
        if not reason and axis is not None and not rows:
            reason = "none of its outputs in the checkpoint"
        if reason or tensor is None:
            result.not_loaded[name] = reason
        elif axis is None or (old == new and tensor.shape == target.shape):
            target.copy_(tensor)
            result.loaded.append(name)
        else:
            carry_rows(tensor, target, axis, rows, sizes)
            result.by_name.append(name)
            carried |= dict.fromkeys(new[row] for _, row in rows)
    if not result.loaded and not result.by_name:
        other = f", of task '{source.task.name}'," if source.task.name != task.name else ""
        raise UserError(f"Nothing of '{source.uri}'{other} fits this network. {_nothing(result)}")
    if result.by_name:
        result.carried = len(carried)
        outputs = dict.fromkeys(output for name in result.by_name for output in task.tensor_outputs(name))
        result.new = [output for output in outputs if output not in carried]
    return result


def _read_weights(storage: Storage) -> dict[str, Tensor]:
    data = storage.child(WEIGHTS).read_bytes()
    try:
        return load(data)
    except SafetensorError as error:
        raise CheckpointError(f"Checkpoint '{storage.uri}' is damaged: {WEIGHTS}: {error}") from None


def _read_shapes(storage: Storage) -> dict[str, Tensor]:
    """The tensors of a checkpoint without their values, from the header of the file: its length in 8 bytes, then JSON."""
    file = storage.child(WEIGHTS)
    with storage_errors(file), file.filesystem.open_input_file(file.path) as stream:
        try:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            shapes = {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
            return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
            raise CheckpointError(f"Checkpoint '{storage.uri}' is damaged: {WEIGHTS}: {error}") from None


def _require_matches(config: InitConfig, names: Iterable[str]) -> None:
    """Raise UserError for a pattern that matches none of `names`: it is a mistake."""
    for key in ("include", "exclude"):
        for pattern in getattr(config, key):
            if not any(fnmatchcase(name, pattern) for name in names):
                parts = ", ".join(sorted({f"{name.partition('.')[0]}.*" for name in names}))
                raise UserError(f"init.{key}: '{pattern}' matches no weight. They begin with {parts}.")


def _reason_against(
    name: str, source: Tensor | None, target: Tensor, axis: int | None, sizes: tuple[int, int], config: InitConfig
) -> str:
    """Why a tensor is not loaded; empty if it can be."""
    if not any(fnmatchcase(name, pattern) for pattern in config.include):
        return "not included"
    if any(fnmatchcase(name, pattern) for pattern in config.exclude):
        return "excluded"
    if source is None:
        return "not in the checkpoint"
    ours, theirs = list(target.shape), list(source.shape)
    if axis is not None and len(ours) == len(theirs) and ours[axis] >= sizes[1]:
        ours[axis] = theirs[axis] = 0  # as many as there are tokens
    return "" if ours == theirs else f"shape {_shape(source)} in the checkpoint, {_shape(target)} here"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _nothing(result: WarmStartReport) -> str:
    reasons = list(dict.fromkeys(result.not_loaded.values()))
    return f"Its weights are {'; '.join(reasons[:3])}{' ...' if len(reasons) > 3 else ''}."


def _some(names: list[str], separator: str = ", ") -> str:
    more = len(names) - SHOWN
    return separator.join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
