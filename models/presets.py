"""Model configurations by name: the YAML files of configs/model, each with its reference sizes.

A file may name another as its `base` and state only what differs, and has a `reference`, its own or its base's.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from models.config import ModelConfig
from models.errors import ModelConfigError
from models.types import OutputSpec
from models.yaml_file import read_yaml

FOLDER = Path(__file__).parents[1] / "configs" / "model"


@dataclass
class Reference:
    """Reference sizes of a configuration: vocabulary, longest output and image size in pixels."""

    num_classes: int = 112
    max_length: int = 128
    height: int = 64
    width: int = 256

    def output_spec(self) -> OutputSpec:
        """Output spec of such a vocabulary, with the special ids first."""
        return OutputSpec(self.num_classes, bos_id=0, eos_id=1, pad_id=2, max_length=self.max_length)


@dataclass(frozen=True)
class NamedConfig:
    """Configuration of a recognizer with its reference sizes."""

    name: str
    config: ModelConfig
    reference: Reference


def names() -> list[str]:
    """Names of the configurations that Inkray ships."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load_named(name: str | Path) -> NamedConfig:
    """Loads the configuration of a shipped name or of a YAML file.

    Raises:
        ModelConfigError: no such name or file, invalid YAML, an unknown key or a value of the wrong type.
    """
    values = read_values(name)
    reference = _typed(Reference, values.pop("reference", {}), "reference", name)
    return NamedConfig(Path(name).stem, _typed(ModelConfig, values, "model", name), reference)


def read_values(name: str | Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Reads the values of a configuration, merged over its bases, with the `reference`; they are not checked yet.

    Raises:
        ModelConfigError: no such name or file, invalid YAML, or circular bases.
    """
    file = _find(name)
    if file in seen:
        raise ModelConfigError("base", f"'{file}' is its own base")
    try:
        loaded = read_yaml(file)
        if isinstance(loaded, dict):
            OmegaConf.create(loaded)  # rejects broken interpolations and recursive structures
    except Exception as error:  # YAML raises errors of many classes
        raise ModelConfigError("model", f"'{file}' is not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(loaded, dict):
        raise ModelConfigError("model", f"'{file}' is not a mapping of keys to values")
    values = {str(key): value for key, value in loaded.items()}
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ModelConfigError("base", f"'{base}' in '{file}' is not the name of a configuration")
    siblings = [path for path in (file.parent / f"{base}", file.parent / f"{base}.yaml") if path.is_file()]
    merged = OmegaConf.merge(read_values(siblings[0] if siblings else base, (*seen, file)), values)
    return {str(key): value for key, value in OmegaConf.to_container(merged).items()}  # type: ignore[union-attr]


def _find(name: str | Path) -> Path:
    """File of a shipped name, or the file at path `name`."""
    shipped = FOLDER / f"{name}.yaml"
    file = shipped if _is_file(shipped) else Path(name)
    if file.suffix in (".yaml", ".yml") and _is_file(file):
        return file.resolve()
    close = difflib.get_close_matches(Path(name).stem, names(), n=3, cutoff=0.4)
    nearest = f"the nearest are {', '.join(close)}" if close else f"there are {', '.join(names())}"
    raise ModelConfigError("model", f"'{name}' is neither a YAML file nor a configuration of configs/model; {nearest}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _typed(kind: type, values: Any, key: str, name: str | Path) -> Any:
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except OmegaConfBaseException as error:
        where = f"{key}.{error.full_key}" if error.full_key else key
        raise ModelConfigError(where, f"in '{name}': {str(error).splitlines()[0]}") from error
