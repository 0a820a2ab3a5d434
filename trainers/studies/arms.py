"""What a study is: a base configuration, arms that change it, seeds. YAML in configs/tune/."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cluster.errors import UserError
from cluster.values import Typing
from cluster.yaml_text import read_mapping, shown
from trainers.config.criterion import Mode
from trainers.config.environment_values import with_lookups
from trainers.config.load import load_layers, require_unset
from trainers.config.train import TrainConfig


@dataclass
class StudyConfig:
    """Arms x seeds, each a training run of its own."""

    name: str = "study"
    config: str = ""  # a YAML of configs/train/, seen from the study's folder or from here
    overrides: list[str] = field(default_factory=list)  # for every arm
    arms: dict[str, list[str]] = field(default_factory=dict)  # name -> overrides
    grid: dict[str, list[Any]] = field(default_factory=dict)  # key -> values: their product are arms, too
    seeds: list[int] = field(default_factory=lambda: [0])
    metric: str = "auto"  # of the validation: arms are ranked by the best that they came to
    mode: Mode = "auto"  # the metric's own direction
    max_concurrent: int = 2
    runs_dir: str = "runs"


@dataclass(frozen=True)
class Arm:
    """One training run of a study."""

    name: str
    seed: int
    overrides: list[str]

    @property
    def key(self) -> str:
        """Its folder below the study's."""
        return f"{self.name}-seed{self.seed}"


def load_study(file: Path) -> StudyConfig:
    """Read a study.

    Raises:
        UserError: the file or a key of it is wrong, by name.
    """
    typing = Typing(StudyConfig, f"'{file}'")
    values = typing.mapping(read_mapping(file, "study", "configs/tune/"))
    merged = typing.merge(OmegaConf.structured(StudyConfig), values)
    study = typing.finish(merged)
    if typing.problems:
        raise UserError(" ".join(typing.problems))
    raw = OmegaConf.to_container(merged)
    assert isinstance(study, StudyConfig) and isinstance(raw, dict)
    for key in ("overrides", "arms", "grid"):  # each run looks up itself what the environment says: its configuration is stored
        setattr(study, key, with_lookups(getattr(study, key), raw[key]))
    if study.config and not Path(study.config).is_file() and (file.parent / study.config).is_file():
        study.config = str(file.parent / study.config)
    if not study.arms and not study.grid:
        raise UserError(f"'{file}' names neither arms nor a grid: there is nothing to compare.")
    if empty := [key for key, values in study.grid.items() if not values]:
        raise UserError(f"'{file}': grid.{empty[0]} has no values. Write one at least, as in grid: {{{empty[0]}: [0.1, 0.2]}}.")
    if not study.seeds or study.max_concurrent < 1:
        raise UserError(f"'{file}': seeds needs one number at least, max_concurrent is at least 1.")
    return study


def arms_of(study: StudyConfig) -> list[Arm]:
    """All runs of a study, in order.

    Raises:
        UserError: two of them would have one name.
    """
    named = dict(study.arms)
    for values in itertools.product(*study.grid.values()) if study.grid else []:
        pairs = list(zip(study.grid, values, strict=True))
        name = "+".join(f"{key.rpartition('.')[2]}={re.sub(r'[${}]', '', str(value))}" for key, value in pairs)
        named[name] = [f"{key}={value}" for key, value in pairs]
    arms = [Arm(name.replace("/", "_"), seed, overrides) for name, overrides in named.items() for seed in study.seeds]
    if len({arm.key for arm in arms}) < len(arms):
        raise UserError(
            f"Study '{study.name}' has two arms of one name, or a seed twice: {', '.join(arm.key for arm in arms)}."
        )
    return arms


def arm_config(study: StudyConfig, arm: Arm, runs_dir: str) -> TrainConfig:
    """The configuration of one run; its overrides are checked like those of a command line.

    Raises:
        ConfigError: with all mistakes in the file, the study's overrides and the arm's, or a key that the study sets itself.
    """
    own = [f"seed={arm.seed}", f"name={arm.key}", f"runs_dir={runs_dir}", "tracking.wandb=false", "report.enabled=false"]
    require_unset([*study.overrides, *arm.overrides], own, "a study")
    layers = {"the study's overrides": study.overrides, f"arm '{shown(arm.name)}'": arm.overrides, "the study": own}
    return load_layers(study.config or None, layers)
