"""The configuration of a training run: dataclasses, YAML values, dotted overrides; typed by field, merged by OmegaConf."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cluster.errors import UserError
from cluster.numbers import number_problems
from cluster.paths import absolute
from cluster.redaction import redact
from cluster.values import Typing, shown
from cluster.yaml_text import load_yaml, one_line
from data_pipeline.stream.config import StreamConfig
from data_pipeline.stream.config import problems as stream_problems
from models import Decoding, ModelConfig, ModelConfigError
from models.decoding.settings import check_settings
from models.presets import read_values
from trainers import optim
from trainers.config import checkpoint as checkpointing
from trainers.config import init as init_config
from trainers.config import scaling
from trainers.config.checkpoint import CheckpointConfig
from trainers.config.environment_values import remember_expressions, with_expressions
from trainers.config.init import InitConfig
from trainers.config.scaling import ScalingConfig
from trainers.engine import early_stopping
from trainers.engine import loss_guard as guard
from trainers.engine.early_stopping import EarlyStoppingConfig
from trainers.engine.loss_guard import GuardConfig
from trainers.optim import OptimConfig
from trainers.optim import weight_averaging as averaging
from trainers.optim.weight_averaging import AveragingConfig
from trainers.tasks import losses
from trainers.tasks import scheduled_sampling as forcing
from trainers.tasks.losses import LossConfig
from trainers.tasks.scheduled_sampling import ForcingConfig
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
    """Defaults, then the YAML `file`, then `key=value` overrides, typed by their fields and checked.

    A section may be the name of a YAML file that holds it, the model also one of configs/model: `model=satrn_final`. It then
    takes the place of the whole section: nothing of another model that was named before is left.

    Raises:
        ConfigError: a missing file; or unknown keys, ill-typed and impossible values, all of them with what is allowed.
    """
    merging = _Merging(OmegaConf.structured(TrainConfig))
    if file is not None:
        merging.add_file(Path(file))
    merging.add_overrides(overrides, "the command line")
    return merging.config()


def config_from_dict(values: dict[str, Any], where: str) -> TrainConfig:
    """A configuration from plain values, as a checkpoint's `config.yaml` holds them."""
    merging = _Merging(OmegaConf.structured(TrainConfig))
    typing = Typing(TrainConfig, where)
    merging.add(typing.mapping(values), typing)
    return merging.config()


def merge_overrides(config: TrainConfig, overrides: Sequence[str], where: str) -> TrainConfig:
    """`config` with dotted overrides applied."""
    merging = _Merging(with_expressions(config))
    merging.add_overrides(overrides, where)
    return merging.config()


def to_yaml(config: TrainConfig) -> str:
    """Every value of `config` as YAML, as it may be stored: without secrets, those from the environment as expressions."""
    return redact(OmegaConf.to_yaml(with_expressions(config)))


class _Merging:
    """A configuration in the making, and all that was found to be wrong with what went into it."""

    def __init__(self, start: DictConfig) -> None:
        self._merged = start
        self._problems: list[str] = []
        self._left_out: list[str] = []  # keys of values that were wrong

    def add_file(self, file: Path) -> None:
        """Merge a YAML file; the names of files in it are seen from its folder."""
        typing = Typing(TrainConfig, f"'{file}'")
        self.add(typing.mapping(_read_yaml(file)), typing, file.parent)

    def add_overrides(self, overrides: Sequence[str], where: str) -> None:
        """Merge `["optim.lr=3e-4"]`, one by one."""
        for override in overrides:
            typing = Typing(TrainConfig, where)
            self.add(typing.override(override), typing)

    def add(self, values: dict[str, Any], typing: Typing, folder: Path = Path()) -> None:
        """Merge typed `values`; a file that stands for a section, its name seen from `folder`, takes the section's place."""
        for section in [name for name, kind in get_type_hints(TrainConfig).items() if is_dataclass(kind)]:
            name = values.get(section)
            if isinstance(name, str) and (section == "model" or name.endswith(YAML)):
                del values[section]
                try:
                    content = _read_model(name, folder) if section == "model" else _read_yaml(folder / name)
                except ConfigError as error:
                    typing.problems.append(str(error))
                    typing.left_out.append(section)
                    continue
                kind = get_type_hints(TrainConfig)[section]
                within = Typing(TrainConfig, f"'{name}'", typing.problems, typing.left_out)
                merged: Any = OmegaConf.merge(self._merged, {})  # a copy: what was given stays as it is
                merged[section] = OmegaConf.structured(kind)
                self._merged = merged
                self._merge({section: within.mapping(content, section, kind)}, within)
        self._merge(values, typing)
        self._problems += [problem for problem in typing.problems if problem not in self._problems]
        self._left_out += typing.left_out

    def _merge(self, values: dict[str, Any], typing: Typing) -> None:
        try:
            self._merged = OmegaConf.merge(self._merged, OmegaConf.create(values))  # type: ignore[assignment]
        except (OmegaConfBaseException, TypeError, ValueError) as error:
            key = str(getattr(error, "full_key", "") or next(iter(values), ""))
            typing.problems.append(f"Bad value for '{key}' in {typing.where}: {one_line(error)}.")
            typing.left_out.append(key)

    def config(self) -> TrainConfig:
        """The dataclass, its values checked against each other.

        Raises:
            ConfigError: with everything that is wrong.
        """
        try:
            config = OmegaConf.to_object(self._merged)
        except OmegaConfBaseException as error:  # what ${...} stands for is known only now
            raise ConfigError(" ".join([*self._problems, f"Bad value for '{error.full_key}': {one_line(error)}."])) from None
        assert isinstance(config, TrainConfig)
        found = _made_absolute(config) + problems(config)
        remember_expressions(self._merged, config)
        # A rule about a value that was wrong judges the default in its place.
        found = [problem for problem in found if not any(_is_named(key, problem) for key in self._left_out)]
        if found:
            self._problems.append(f"Bad value{'s' * (len(found) > 1)}: {'; '.join(found)}.")
        if self._problems:
            raise ConfigError(" ".join(self._problems))
        return config


def _is_named(key: str, problem: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(key)}(=|:| is )", problem) is not None


def _made_absolute(config: TrainConfig) -> list[str]:
    """Make local paths absolute, and say which are none.

    Workers and trials work in folders of their own: a path means what it means where it was written.
    """
    wrong = []
    for section, key in ((config.data, "dataset"), (config, "runs_dir"), (config.init, "checkpoint")):
        uri, name = getattr(section, key), {"dataset": "data.dataset", "checkpoint": "init.checkpoint"}.get(key, key)
        if not uri and key != "checkpoint":
            wrong.append(f"{name} is empty: name a folder or a URI")
        elif uri and "://" not in uri:
            try:
                setattr(section, key, str(absolute(uri)))
            except UserError as error:
                wrong.append(f"{name}={shown(uri)}: {str(error).rstrip('.')}")
    return wrong


def _read_yaml(file: Path) -> dict[Any, Any]:
    try:
        text = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = "" if isinstance(error, FileNotFoundError) else f" ({getattr(error, 'strerror', None) or error})"
        raise ConfigError(f"No configuration file '{shown(file)}'{reason}. Those of Inkray lie in configs/train/.") from None
    try:
        loaded = load_yaml(text)
    except YAMLError as error:
        raise ConfigError(f"'{file}' is not valid YAML: {one_line(error)}.") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"'{file}' is not a mapping of keys to values.")
    return loaded


def _read_model(name: str, folder: Path) -> dict[str, Any]:
    """What a model's file, seen from `folder`, or a name of configs/model states."""
    file = folder / name
    try:
        values = read_values(file if file.suffix in YAML and file.is_file() else name)
    except ModelConfigError as error:
        raise ConfigError(f"{error}.") from None
    except OSError as error:
        raise ConfigError(f"model={shown(name)}: {error.strerror}.") from None
    values.pop("reference", None)  # of the summary: the data says what a model is trained for
    return values


def problems(config: TrainConfig) -> list[str]:
    """What is wrong with the values, by key, those that only make sense together included; nothing, if all is well."""
    numbers = number_problems(config)
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
    with_decoding = _decoding_problem(config.decoding)
    found += [with_decoding] if with_decoding else []
    return [*numbers.values(), *(message for message in found if not message.startswith(tuple(f"{key}=" for key in numbers)))]


def _decoding_problem(decoding: Decoding) -> str:
    try:
        check_settings(decoding)
    except ModelConfigError as error:
        return str(error)
    return ""
