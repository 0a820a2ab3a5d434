"""A fresh network that starts from the weights of a checkpoint, all of them or some."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from cluster.errors import UserError
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.storage.base import Storage
from models import Recognizer
from trainers.checkpoint.format import WEIGHTS, CheckpointError, find_checkpoint, read_description, without_pretrained
from trainers.checkpoint.vocabulary_transfer import carry_rows, shared_ids, vocabulary_axes
from trainers.config.init import InitConfig
from trainers.tasks.sequence import SequenceTask

REPORT = "initialised.json"  # in the run's folder
SHOWN = 4  # names in a line of the log; the file has all


@dataclass
class Initialised:
    """What became of every tensor of a network: `loaded` whole, `by_token` in part, or not, with the reason of each.

    `carried` counts the tokens whose rows came from the checkpoint, the three special ones among them; `new` are those
    that it does not know.
    """

    checkpoint: str
    loaded: list[str] = field(default_factory=list)
    by_token: list[str] = field(default_factory=list)
    not_loaded: dict[str, str] = field(default_factory=dict)
    carried: int = 0
    new: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As it stands in `initialised.json`."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For the log."""
        total = len(self.loaded) + len(self.by_token) + len(self.not_loaded)
        lines = [f"Initialised from '{self.checkpoint}': {len(self.loaded)} of {total} tensors as they are"]
        if self.by_token:
            lines.append(
                f"  by token: {_some(self.by_token)}: {self.carried} tokens carried over, "
                f"{len(self.new)} new{': ' + _some(self.new, ' ') if self.new else ''}"
            )
        for reason in dict.fromkeys(self.not_loaded.values()):
            lines.append(f"  fresh ({reason}): {_some([name for name, why in self.not_loaded.items() if why == reason])}")
        return lines


def initialise(network: Recognizer, tokenizer: Tokenizer, config: InitConfig) -> Initialised:
    """Give `network`, which reads the vocabulary of `tokenizer`, the weights that `config` names; the rest stays fresh.

    Tensors that have a row for each token take over the rows of the tokens that both vocabularies have, wherever they
    stand. `network` may lie on the meta device: then this only finds out whether it can be done.

    Raises:
        UserError: there is no such checkpoint, it is damaged or of another kind, a pattern matches no name, or nothing
            would be loaded.
    """
    storage = find_checkpoint(config.checkpoint)
    theirs, old, data = read_description(storage)
    weights = _read_weights(storage)
    state = network.state_dict()
    _require_matches(config, [*state, *weights])
    axes = vocabulary_axes(without_pretrained(theirs.model), SequenceTask(old).output_spec(data.max_length))
    ids, sizes = shared_ids(old, tokenizer), (len(old), len(tokenizer))
    result = Initialised(storage.uri)
    for name, target in state.items():
        source, axis = weights.get(name), axes.get(name)
        reason = _reason_against(name, source, target, axis, sizes, config)
        if reason or source is None:
            result.not_loaded[name] = reason
        elif axis is None or (old.charset == tokenizer.charset and source.shape == target.shape):
            target.copy_(source)
            result.loaded.append(name)
        else:
            carry_rows(source, target, axis, ids, sizes)
            result.by_token.append(name)
    if not result.loaded and not result.by_token:
        raise UserError(f"Nothing of '{storage.uri}' fits this network. {_nothing(result)}")
    if result.by_token:
        result.carried = len(ids)
        result.new = [token for token in tokenizer.charset if token not in set(old.charset)]
    return result


def _read_weights(storage: Storage) -> dict[str, Tensor]:
    data = storage.child(WEIGHTS).read_bytes()
    try:
        return load(data)
    except SafetensorError as error:
        raise CheckpointError(f"Checkpoint '{storage.uri}' is damaged: {WEIGHTS}: {error}") from None


def _require_matches(config: InitConfig, names: Iterable[str]) -> None:
    """Raise UserError for a pattern that matches none of `names`: it is a mistake, not a wish."""
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


def _nothing(result: Initialised) -> str:
    reasons = list(dict.fromkeys(result.not_loaded.values()))
    return f"Its weights are {'; '.join(reasons[:3])}{' ...' if len(reasons) > 3 else ''}."


def _some(names: list[str], separator: str = ", ") -> str:
    more = len(names) - SHOWN
    return separator.join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
