"""How a configuration comes about: defaults, YAML files over their bases, `key=value` overrides; typed, merged and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cluster.errors import UserError
from cluster.paths import absolute
from cluster.redaction import redacted_values
from cluster.values import Typing, field_types
from cluster.yaml_text import read_mapping, shown
from models import ModelConfigError
from models.presets import read_values
from trainers.config.environment_values import remember_expressions, stored_values, with_expressions
from trainers.config.renamed import RENAMED, with_new_names
from trainers.config.train import TrainConfig

YAML = (".yaml", ".yml")
BASE = "base"  # of a file: the file that it builds on


class ConfigError(UserError):
    """A key that does not exist or a value that does not fit, named."""


def load_config(file: str | Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Defaults, then the YAML `file` over its bases, then `key=value` overrides, typed by their fields and checked.

    A file may name another as its `base` and state only what differs. A section may be the name of a YAML file that holds it,
    the model also one of configs/model: `model=satrn_final`. It then takes the place of the whole section: nothing of another
    model that was named before is left. Names of files in a file are seen from its folder.

    Raises:
        ConfigError: a missing file; or unknown keys, ill-typed and impossible values, all of them with what is allowed.
    """
    return load_layers(file, {"the command line": overrides})


def load_layers(file: str | Path | None, overrides: Mapping[str, Sequence[str]]) -> TrainConfig:
    """As `load_config`; `overrides` stand by where they are written, which messages name, and later ones win."""
    merging = _Merging({})
    if file is not None:
        merging.add_file(Path(file))
    for where, lines in overrides.items():
        merging.add_overrides(lines, where)
    return merging.config()


def config_from_dict(values: dict[str, Any], where: str) -> TrainConfig:
    """A configuration from plain values, as a checkpoint's `config.yaml` holds them; old names are translated."""
    merging = _Merging({})
    typing = _typing(where)
    merging.add(typing.mapping(with_new_names(values, TrainConfig)), typing)
    return merging.config()


def require_unset(overrides: Sequence[str], fixed: Sequence[str], who: str) -> None:
    """Check that no override gives another value to a key that `who` sets, by the overrides `fixed`.

    Raises:
        ConfigError: with the override, and what the key is set to.
    """
    values = dict(line.split("=", 1) for line in fixed)
    for line in overrides:
        key, _, value = line.partition("=")
        if values.get(key.strip(), value) != value:
            raise ConfigError(f"'{shown(line)}': {who} sets {key.strip()}={values[key.strip()]}. Leave it out.")


def merge_overrides(config: TrainConfig, overrides: Sequence[str], where: str) -> TrainConfig:
    """`config` with dotted overrides applied."""
    merging = _Merging(_plain(with_expressions(config)))
    merging.add_overrides(overrides, where)
    return merging.config()


def to_yaml(config: TrainConfig) -> str:
    """Every value of `config` as YAML, as it may be stored: without secrets, those from the environment as expressions."""
    # Value by value: what hides a secret in a text could make the text no YAML.
    return OmegaConf.to_yaml(OmegaConf.create(redacted_values(stored_values(config))))


def _typing(where: str) -> Typing:
    return Typing(TrainConfig, where, renames=RENAMED)


class _Merging:
    """A configuration in the making, as plain values over the defaults, and all that was found wrong with what went into it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self._problems: list[str] = []
        self._left_out: list[str] = []  # keys of values that were wrong

    def add_file(self, file: Path) -> None:
        """Merge a YAML file over its bases."""
        for each, values in _with_bases(file):
            typing = _typing(f"'{each}'")
            self.add(typing.mapping(values), typing, each.parent)

    def add_overrides(self, overrides: Sequence[str], where: str) -> None:
        """Merge `["optim.lr=3e-4"]`, one by one."""
        for override in overrides:
            typing = _typing(where)
            self.add(typing.override(override), typing)

    def add(self, values: dict[str, Any], typing: Typing, folder: Path = Path()) -> None:
        """Merge typed `values`; a file that stands for a section, its name seen from `folder`, takes the section's place."""
        for section, kind in field_types(TrainConfig).items():
            name = values.get(section)
            if is_dataclass(kind) and isinstance(name, str) and (section == "model" or name.endswith(YAML)):
                del values[section]
                self._add_section(section, name, typing, folder)
        self._values = _over(self._values, _without_names(values, TrainConfig, "", typing), TrainConfig)
        self._collect(typing)

    def _add_section(self, section: str, name: str, typing: Typing, folder: Path) -> None:
        try:
            content = _read_model(name, folder) if section == "model" else _read_yaml(folder / name)
        except ConfigError as error:
            typing.problems.append(str(error))
            typing.left_out.append(section)
            return
        within = Typing(TrainConfig, f"'{name}'", typing.problems, typing.left_out, RENAMED)
        self._values = {**self._values, section: within.mapping(content, section, field_types(TrainConfig)[section])}

    def _collect(self, typing: Typing) -> None:
        self._problems += [problem for problem in typing.problems if problem not in self._problems]
        self._left_out += typing.left_out

    def config(self) -> TrainConfig:
        """The dataclass, its values checked against each other.

        Raises:
            ConfigError: with everything that is wrong.
        """
        typing = _typing("the configuration")
        merged = self._merged(typing)
        config = None if merged is None else typing.finish(merged)  # what ${...} stands for is known only now
        self._collect(typing)
        if config is None:
            raise ConfigError(" ".join(self._problems))
        assert isinstance(config, TrainConfig) and merged is not None
        found = _made_absolute(config) + config.validate()
        remember_expressions(merged, config)
        # A rule about a value that was wrong applies to the default in its place.
        found = [problem for problem in found if not any(_is_named(key, problem) for key in self._left_out)]
        if found:
            self._problems.append(f"Bad value{'s' * (len(found) > 1)}: {'; '.join(found)}.")
        if self._problems:
            raise ConfigError(" ".join(self._problems))
        return config

    def _merged(self, typing: Typing) -> DictConfig | None:
        """All values over the defaults, without those that OmegaConf refuses; None if it does not say which."""
        values = self._values
        while True:
            known = len(typing.problems)
            merged = typing.merge(OmegaConf.structured(TrainConfig), values)
            if len(typing.problems) == known:
                return merged
            rest = _without(values, typing.left_out[-1].split("."))
            if rest == values:
                return None
            values = rest


def _without_names(values: dict[str, Any], kind: type, above: str, typing: Typing) -> dict[str, Any]:
    """`values` without texts in the places of sections, which are problems of `typing`: no section's file has such a name."""
    kinds, kept = field_types(kind), {}
    for name, value in values.items():
        key = f"{above}{name}"
        section = is_dataclass(kinds.get(name))
        if section and isinstance(value, str) and "${" not in value:
            typing.problems.append(
                f"Bad value for '{key}' in {typing.where}: '{shown(value)}' is no section. Write {key}.KEY=VALUE"
                f"{'' if above else f', or {key}=FILE.yaml, a file that holds it'}."
            )
            typing.left_out.append(key)
        else:
            kept[name] = _without_names(value, kinds[name], f"{key}.", typing) if section and isinstance(value, dict) else value
    return kept


def _plain(config: DictConfig) -> dict[str, Any]:
    return {str(key): value for key, value in OmegaConf.to_container(config).items()}  # type: ignore[union-attr]


def _over(values: dict[str, Any], others: dict[str, Any], kind: Any) -> dict[str, Any]:
    """`values` of a section of this kind with `others` over them, mappings merged; {} in the place of names empties them."""
    kinds = field_types(kind)
    merged = dict(values)
    for key, value in others.items():
        below, of = merged.get(key), kinds.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and (value or is_dataclass(of)):
            value = _over(below, value, of)
        merged[key] = value
    return merged


def _without(values: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """`values` without what lies at `path`."""
    name, *rest = path
    if name not in values:
        return values
    if rest and isinstance(values[name], dict):
        return {**values, name: _without(values[name], rest)}
    return {key: value for key, value in values.items() if key != name}


def _is_named(key: str, problem: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(key)}(=|:| is )", problem) is not None


def _made_absolute(config: TrainConfig) -> list[str]:
    """Make local paths absolute, and say which are none.

    Workers and trials work in folders of their own: a path means what it means where it was written.
    """
    wrong = []
    for section, key, name in (
        (config.data, "dataset", "data.dataset"),
        (config, "runs_dir", "runs_dir"),
        (config.init, "checkpoint", "init.checkpoint"),
    ):
        uri = getattr(section, key)
        if not uri and key != "checkpoint":
            wrong.append(f"{name} is empty: name a folder or a URI")
        elif uri and "://" not in uri:
            try:
                setattr(section, key, str(absolute(uri)))
            except UserError as error:
                wrong.append(f"{name}={shown(uri)}: {str(error).rstrip('.')}")
    return wrong


def _with_bases(file: Path) -> list[tuple[Path, dict[Any, Any]]]:
    """The files that `file` builds on, farthest first, and itself, each with its own values.

    Raises:
        ConfigError: one of them cannot be read, names no path as its `base`, or builds on itself.
    """
    chain: list[tuple[Path, dict[Any, Any]]] = []
    while True:
        values = _read_yaml(file, chain[-1][0] if chain else None)
        files = [each for each, _ in chain]
        if file.resolve() in [each.resolve() for each in files]:
            circle = " -> ".join(f"'{shown(each)}'" for each in [*files, file])
            raise ConfigError(f"base: a file builds on itself: {circle}. Leave one of these bases out.")
        base = values.pop(BASE, None)
        chain.append((file, values))
        if base is None:
            return chain[::-1]
        if not isinstance(base, str) or not base.endswith(YAML):
            raise ConfigError(f"base={shown(base)} in '{shown(file)}': the path of a YAML file, as in base: formulas.yaml.")
        file = file.parent / Path(base).expanduser()


def _read_yaml(file: Path, builds_on: Path | None = None) -> dict[Any, Any]:
    try:
        return read_mapping(file, "configuration", "configs/train/")
    except UserError as error:
        raise ConfigError(f"{error}{f' It is the base of {shown(builds_on)!r}.' if builds_on else ''}") from None


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
