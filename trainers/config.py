"""The configuration of a training run: dataclasses, YAML values, dotted overrides. Merged and typed by OmegaConf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from cluster.errors import UserError
from cluster.redaction import redact
from data_pipeline.stream.config import StreamConfig
from data_pipeline.stream.config import problems as stream_problems
from models import Decoding, ModelConfig, ModelConfigError
from models.named import read_values
from trainers import averaging, checkpointing, early_stopping, forcing, guard, init_config, losses, optim, scaling
from trainers.averaging import AveragingConfig
from trainers.checkpointing import CheckpointConfig
from trainers.early_stopping import EarlyStoppingConfig
from trainers.environment_values import remember_expressions, with_expressions
from trainers.forcing import ForcingConfig
from trainers.guard import GuardConfig
from trainers.init_config import InitConfig
from trainers.losses import LossConfig
from trainers.optim import OptimConfig
from trainers.scaling import ScalingConfig
from trainers.tracking.config import TrackingConfig
from trainers.tracking.config import problems as tracking_problems

YAML = (".yaml", ".yml")


class ConfigError(UserError):
    """A key that does not exist or a value that does not fit, named."""


@dataclass
class DataConfig:
    """Which dataset, and which of its splits are for what. An empty split name leaves that part out."""

    dataset: str = "data/formulas"
    train_split: str = "train"
    val_split: str = "val"
    test_split: str = "test"


@dataclass
class ReportConfig:
    """The folder of pictures at the end of a run."""

    enabled: bool = True
    examples: int = 48


@dataclass
class TrainConfig:
    """A training run."""

    name: str = "formulas"  # a run is stored under runs_dir/name-<date>
    runs_dir: str = "runs"  # any URI
    seed: int = 0
    epochs: int = 10
    validate_every: int = 1  # epochs; always after the last
    global_batch_size: int = 64
    data: DataConfig = field(default_factory=DataConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    forcing: ForcingConfig = field(default_factory=ForcingConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    decoding: Decoding = field(default_factory=Decoding)  # of the test split and of predictions; validation is greedy
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    @property
    def batch_size_per_worker(self) -> int:
        """Each worker's part of the global batch."""
        return max(1, self.global_batch_size // self.scaling.num_train_workers)


def load_config(file: str | Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Defaults, then the YAML `file`, then `key=value` overrides, typed and checked.

    A section may be the name of a YAML file that holds it, the model also one of configs/model: `model=satrn_final`. It then
    takes the place of the whole section: nothing of another model that was named before is left.

    Raises:
        ConfigError: a missing file, an unknown key, an ill-typed or impossible value; the message names it and what is allowed.
    """
    merged = OmegaConf.structured(TrainConfig)
    if file is not None:
        merged = _merge_with_files(merged, _read_yaml(Path(file)), Path(file).parent, f"'{file}'")
    return to_config(_apply(merged, overrides, "the command line"))


def to_config(merged: DictConfig) -> TrainConfig:
    """The dataclass of a merged configuration, its values checked against each other."""
    config = OmegaConf.to_object(merged)
    assert isinstance(config, TrainConfig)
    # Workers and trials work in folders of their own: a path means what it means where it was written.
    config.data.dataset, config.runs_dir = _absolute(config.data.dataset), _absolute(config.runs_dir)
    config.init.checkpoint = config.init.checkpoint and _absolute(config.init.checkpoint)
    remember_expressions(merged, config)
    check(config)
    return config


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).expanduser().resolve())


def config_from_dict(values: dict[str, Any], where: str) -> TrainConfig:
    """A configuration from plain values, as a checkpoint's `config.yaml` holds them."""
    return to_config(_merge(OmegaConf.structured(TrainConfig), OmegaConf.create(values), where))


def merge_overrides(config: TrainConfig, overrides: Sequence[str], where: str) -> TrainConfig:
    """`config` with dotted overrides applied."""
    return to_config(_apply(with_expressions(config), overrides, where))


def _apply(merged: DictConfig, overrides: Sequence[str], where: str) -> DictConfig:
    """Merge `["optim.lr=3e-4"]` one by one, so that a bad one is known by its key.

    Raises:
        ConfigError: an argument without `=`, an unknown key, an ill-typed value.
    """
    for override in overrides:
        if "=" not in override.lstrip("="):
            raise ConfigError(f"'{override}' is not an override. Write key=value, as in optim.lr=3e-4.")
        update = OmegaConf.from_dotlist([override + "''" * override.endswith("=")])  # `data.test_split=` is the empty text
        merged = _merge_with_files(merged, update, Path(), where, override.partition("=")[0])
    return merged


def to_yaml(config: TrainConfig) -> str:
    """Every value of `config` as YAML, as it may be stored: without secrets, those from the environment as expressions."""
    return redact(OmegaConf.to_yaml(with_expressions(config)))


def _read_yaml(file: Path) -> DictConfig:
    if not file.is_file():
        raise ConfigError(f"No configuration file '{file}'. Those of Inkray lie in configs/train/.")
    try:
        loaded = OmegaConf.load(file)
    except Exception as error:
        raise ConfigError(f"'{file}' is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"'{file}' is not a mapping of keys to values.")
    return loaded


def _merge_with_files(merged: DictConfig, update: DictConfig, folder: Path, where: str, key: str = "") -> DictConfig:
    """`merged` with `update`; a file that stands for a section, its name seen from `folder`, takes the section's place."""
    values: dict[str, Any] = OmegaConf.to_container(update)  # type: ignore[assignment]
    for section in [item.name for item in fields(TrainConfig) if is_dataclass(_node(item.name))]:
        name = values.get(section)
        if isinstance(name, str) and (section == "model" or name.endswith(YAML)):
            content = _read_model(name, folder) if section == "model" else _read_yaml(folder / name)
            merged = OmegaConf.merge(merged, {})  # type: ignore[assignment]  # a copy: what was given stays as it is
            merged[section] = OmegaConf.structured(_node(section))
            merged = _merge(merged, OmegaConf.create({section: content}), f"'{name}'", section)
            del values[section]
    return _merge(merged, OmegaConf.create(values), where, key)


def _read_model(name: str, folder: Path) -> dict[str, Any]:
    """What a model's file, seen from `folder`, or a name of configs/model states."""
    file = folder / name
    try:
        values = read_values(file if file.suffix in YAML and file.is_file() else name)
    except ModelConfigError as error:
        raise ConfigError(f"{error}.") from None
    values.pop("reference", None)  # of the summary: the data says what a model is trained for
    return values


def _merge(base: DictConfig, update: DictConfig, where: str, key: str = "") -> DictConfig:
    try:
        merged = OmegaConf.merge(base, update)
        assert isinstance(merged, DictConfig)
        return merged
    except ConfigKeyError as error:
        key = str(error.full_key or key)
        parent = key.rpartition(".")[0]
        raise ConfigError(f"Unknown key '{key}' in {where}. {_valid_keys(parent)}") from None
    except (ValidationError, OmegaConfBaseException) as error:
        reason = str(error).splitlines()[0]
        key = str(error.full_key or key)
        named = f"for '{key}' " if key else ""
        raise ConfigError(f"Bad value {named}in {where}: {reason}. {_expected(key)}".rstrip()) from None


def _node(path: str) -> Any:
    """The dataclass or annotation at a dotted path of TrainConfig, or None."""
    node: Any = TrainConfig
    for name in path.split(".") if path else []:
        if not is_dataclass(node):
            return None
        node = get_type_hints(node).get(name.partition("[")[0])
    return node


def _valid_keys(path: str) -> str:
    node = _node(path)
    if not is_dataclass(node):
        return ""
    return f"Valid{' below ' + repr(path) if path else ''}: {', '.join(f.name for f in fields(node))}."


def _expected(path: str) -> str:
    node = _node(path)
    return "" if node is None else f"Expected: {getattr(node, '__name__', None) if isinstance(node, type) else node}."


def check(config: TrainConfig) -> None:
    """Check values that only make sense together.

    Raises:
        ConfigError: naming the key.
    """
    rules = [
        (config.epochs >= 1, f"epochs={config.epochs}: at least 1"),
        (config.validate_every >= 1, f"validate_every={config.validate_every}: epochs, at least 1"),
        (config.global_batch_size >= 1, f"global_batch_size={config.global_batch_size}: at least 1"),
        (config.seed >= 0, f"seed={config.seed}: not negative"),
        (config.report.examples >= 0, f"report.examples={config.report.examples}: not negative"),
        (bool(config.data.train_split), "data.train_split is empty: name a split to train on"),
        (
            not config.early_stopping.patience or bool(config.data.val_split),
            "early_stopping.patience is above 0, but data.val_split is empty: there is nothing to be patient about",
        ),
        (bool(config.name) and "/" not in config.name, f"name='{config.name}': a name without '/'"),
    ]
    found = [message for good, message in rules if not good]
    found += stream_problems(config.stream) + losses.problems(config.loss) + forcing.problems(config.forcing)
    found += optim.problems(config.optim) + averaging.problems(config.averaging)
    found += scaling.problems(config.scaling, config.global_batch_size) + checkpointing.problems(config.checkpoint)
    found += guard.problems(config.guard) + early_stopping.problems(config.early_stopping)
    found += init_config.problems(config.init) + tracking_problems(config.tracking)
    for message in found:
        raise ConfigError(f"Bad value: {message}.")
