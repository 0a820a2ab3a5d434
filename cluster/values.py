"""Values as users write them, in YAML and as `key=value` on a command line, typed by the dataclass that they fill.

What a text means follows from the field that it is for, not from how it looks: `name=on` is the text "on", `epochs=010` is ten.
YAML is read with that in mind: its own guesses (on is true, 010 is eight, 12:30:00 is 45,000) are not made.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cluster.yaml_text import Plain, load_yaml, one_line, shown

_NULL = ("", "~", "null", "Null", "NULL", "None")
_BOOLS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_INT = re.compile(r"[+-]?[0-9]+(_[0-9]+)*")
_NUMBER = re.compile(r"[+-]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][+-]?[0-9]+)?")


_UNSET = re.compile(r"Environment variable '([^']+)' not found")  # as OmegaConf says it
_LEFT_OUT = object()


@dataclasses.dataclass(frozen=True)
class Renames:
    """Names that were given up, each with what it is called now.

    `keys`: old dotted key to new one, a section standing for all keys below it. `values`: of a key, by its new name, old value
    to new value.
    """

    keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    def new_key(self, key: str) -> str | None:
        """What `key` is called now; None for one that was not renamed."""
        names = key.split(".")
        for count in range(len(names), 0, -1):
            new = self.keys.get(".".join(names[:count]))
            if new is not None:
                return ".".join([new, *names[count:]])
        return None


@dataclasses.dataclass
class Typing:
    """Types what is written `where` (a file, the command line) for the dataclass `root`, and collects what is wrong with it.

    `problems` are whole sentences that name key and value. A value that is wrong is left out of what comes back, its key is
    in `left_out`.
    """

    root: type
    where: str
    problems: list[str] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    renames: Renames = Renames()  # what an unknown key may have been called

    def override(self, text: str) -> dict[str, Any]:
        """The nest of dicts that `key=value` stands for."""
        if "=" not in text.lstrip("="):
            self.problems.append(f"'{shown(text)}' is not an override. Write key=value, as in optim.lr=3e-4.")
            return {}
        key, _, written = text.partition("=")
        found = self._path(key)
        if found is None:
            return {}
        names, kind = found
        value: Any = Plain(written.strip())
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        if quoted or not _is_scalar(kind):
            try:
                value = _without_spaces(load_yaml(written))
            except yaml.YAMLError as error:
                self._bad(key, written, f"is not valid YAML ({one_line(error)}); a text that begins with * needs quotes", kind)
                return {}
        before = len(self.problems)
        nest = self.value(Plain() if value is None else value, kind, key)
        if len(self.problems) > before:
            return {}
        for name in reversed(names):
            nest = {name: nest}
        return nest

    def mapping(self, values: dict[Any, Any], below: str = "", kind: type | None = None) -> dict[str, Any]:
        """`values` for `root`, or for the dataclass `kind` at the key `below`."""
        found: dict[str, Any] = self._dataclass(values, kind or self.root, below)
        return found

    def merge(self, merged: DictConfig, values: dict[str, Any]) -> DictConfig:
        """`merged` with typed `values` over it; where that cannot be, `merged` as it is, and a problem."""
        try:
            both = OmegaConf.merge(merged, OmegaConf.create(values))
        except (OmegaConfBaseException, TypeError, ValueError) as error:
            key = str(getattr(error, "full_key", "") or next(iter(values), ""))
            self.problems.append(f"Bad value for '{key}' in {self.where}: {one_line(error)}.")
            self.left_out.append(key)
            return merged
        assert isinstance(both, DictConfig)
        return both

    def finish(self, merged: DictConfig) -> Any:
        """The dataclass that `merged` holds, every `${...}` resolved; None, and a problem, where one cannot be."""
        try:
            return OmegaConf.to_object(merged)
        except OmegaConfBaseException as error:
            # What stands behind `${...}` may come from the environment: it is not repeated.
            raw = _at(OmegaConf.to_container(merged), str(error.full_key))
            reason = f"what {raw} stands for does not fit" if isinstance(raw, str) and "${" in raw else one_line(error)
            if unset := _UNSET.search(str(error)):
                reason = f"the environment variable '{shown(unset[1])}' is not set. Set it, or write a value in its place"
            self.problems.append(f"Bad value for '{error.full_key}' in {self.where}: {reason}.")
            return None

    def value(self, value: Any, kind: Any, key: str) -> Any:
        """`value`, as it is written, for a field of type `kind`; what is typed already and interpolations stay as they are."""
        kind, optional = _without_none(kind)
        if isinstance(value, str):
            return self._text(value, kind, optional, key)
        if isinstance(value, dict):
            if _is_section(kind):
                return self._dataclass(value, kind, key)
            if kind is not Any and get_origin(kind) is not dict:
                return self._bad(key, value, "is a mapping", kind)
            inner = Any if kind is Any else get_args(kind)[1]
            items = {str(name): self.value(item, inner, f"{key}.{name}") for name, item in value.items()}
            return {name: item for name, item in items.items() if item is not _LEFT_OUT}
        if isinstance(value, list):
            return self._list(value, kind, key)
        return value

    def _list(self, value: list[Any], kind: Any, key: str) -> Any:
        inner: list[Any]
        if kind is Any:
            inner = [Any] * len(value)
        elif get_origin(kind) is list:
            inner = [get_args(kind)[0]] * len(value)
        elif get_origin(kind) is tuple:
            inner = list(get_args(kind))
        else:
            return self._bad(key, value, "is a list", kind)
        if len(inner) != len(value):
            return self._bad(key, value, f"has {len(value)} values, not {len(inner)}", kind)
        items = [self.value(item, each, f"{key}[{index}]") for index, (item, each) in enumerate(zip(value, inner, strict=True))]
        return _LEFT_OUT if any(item is _LEFT_OUT for item in items) else items

    def _dataclass(self, values: dict[Any, Any], kind: type, key: str) -> Any:
        kinds, found = field_types(kind), {}
        for name, value in values.items():
            path = f"{key}.{name}" if key else str(name)
            if name not in kinds:
                self._unknown(path, key, kind)
                continue
            item = self.value(value, kinds[name], path)
            if item is not _LEFT_OUT:
                found[str(name)] = item
        return found

    def _text(self, text: str, kind: Any, optional: bool, key: str) -> Any:
        if not text.isprintable() and not _is_clean(text):
            return self._bad(key, text, "has bytes that are not UTF-8 text, or control characters", kind)
        if text == "???":
            return self._bad(key, text, "is no value", kind)
        if "${" in text:
            return str(text)
        if optional and isinstance(text, Plain) and text in _NULL:
            return None
        if new := self.renames.values.get(key, {}).get(text):
            return self._bad(key, text, f"was renamed to '{new}'", None)
        if kind is Any:
            return _guessed(text) if isinstance(text, Plain) else text
        if kind is bool:
            known = _BOOLS.get(text.lower())
            return self._bad(key, text, "is neither true nor false", kind) if known is None else known
        if kind is int:
            return int(text) if _INT.fullmatch(text) and len(text) < 100 else self._bad(key, text, "is no whole number", kind)
        if kind is float:
            number = _float(text)
            return self._bad(key, text, "is not a number", kind) if number is None else number
        if get_origin(kind) is Literal:
            allowed = ", ".join(map(str, get_args(kind)))
            return str(text) if text in get_args(kind) else self._bad(key, text, f"is none of {allowed}", None)
        if kind is str or dataclasses.is_dataclass(kind):  # a section may be named by the file that holds it
            return str(text)
        return self._bad(key, text, "stands alone, a list stands in brackets and a mapping in braces", kind)

    def _path(self, key: str) -> tuple[list[str], Any] | None:
        """The names in a dotted key and the type of what it leads to; None, and a problem, if there is no such key."""
        names, kind, above = key.split("."), self.root, ""
        for index, name in enumerate(names):
            if "[" in name and name.partition("[")[0] in field_types(kind):
                whole = ".".join([*names[:index], name.partition("[")[0]])
                self.problems.append(f"'{shown(key)}' in {self.where}: a list is given as a whole, as in {whole}=[a, b].")
                self.left_out.append(whole)
                return None
            if name not in field_types(kind):
                self._unknown(".".join(names[: index + 1]), above, kind, key)
                return None
            kind, above = _without_none(field_types(kind)[name])[0], ".".join(names[: index + 1])
            if get_origin(kind) is dict and index + 1 < len(names):
                inner = get_args(kind)[1]
                rest = names[index + 1 :] if inner is Any else [".".join(names[index + 1 :])]  # freeze.backbone.*: one pattern
                return [*names[: index + 1], *rest], inner
        return names, _kinds_at(self.root, names)

    def _unknown(self, path: str, above: str, kind: Any, key: str = "") -> None:
        """Report `path`, of the whole `key`, which `kind` at the key `above` does not have."""
        if new := self.renames.new_key(key or path):
            self.problems.append(f"'{shown(key or path)}' in {self.where} was renamed to '{shown(new)}'.")
            self.left_out += [path, new]
            return
        valid = ", ".join(field_types(kind))
        below = f" below '{above}'" if above else ""
        allowed = f"Valid{below}: {valid}." if valid else f"There is nothing{below}."
        self.problems.append(f"Unknown key '{shown(path)}' in {self.where}. {allowed}")
        self.left_out.append(path)

    def _bad(self, key: str, value: Any, reason: str, kind: Any) -> Any:
        expected = f" Expected: {type_name(kind)}." if kind is not None else ""
        self.problems.append(f"Bad value for '{shown(key)}' in {self.where}: '{shown(value)}' {reason}.{expected}")
        self.left_out.append(key)
        return _LEFT_OUT


def _without_spaces(value: Any) -> Any:
    """`value` with `{size:0.3}` read as `{size: 0.3}`, which a shell takes without quotes; YAML reads a key with no value.

    Raises:
        yaml.YAMLError: a key stands twice.
    """
    if isinstance(value, list):
        return [_without_spaces(item) for item in value]
    if not isinstance(value, dict):
        return value
    found: dict[Any, Any] = {}
    for key, item in value.items():
        name, colon, rest = key.partition(":") if isinstance(key, Plain) and item == "" else (key, "", "")
        if name in found:
            raise yaml.YAMLError(f"key '{name}' stands twice")
        found[name] = Plain(rest) if colon else _without_spaces(item)
    return found


def type_name(kind: Any) -> str:
    """A type as it is written in a configuration's dataclass."""
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def field_types(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass and their types; nothing for another type."""
    return {field.name: _hints(kind)[field.name] for field in dataclasses.fields(kind)} if _is_section(kind) else {}


def is_key(root: type, key: str) -> bool:
    """Whether the dataclass `root` has the dotted `key`."""
    kind: Any = root
    for name in key.split("."):
        kinds = field_types(_without_none(kind)[0])
        if name not in kinds:
            return False
        kind = kinds[name]
    return True


def _kinds_at(kind: Any, names: list[str]) -> Any:
    for name in names:
        kind = field_types(_without_none(kind)[0])[name]
    return kind


def _without_none(kind: Any) -> tuple[Any, bool]:
    """The type without None, and whether None was among what is allowed."""
    if get_origin(kind) in (Union, types.UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        if len(members) == 1:
            return members[0], True
    return kind, False


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _is_scalar(kind: Any) -> bool:
    plain = _without_none(kind)[0]
    return plain in (str, int, float, bool) or get_origin(plain) is Literal


def _is_clean(text: str) -> bool:
    """Whether it is Unicode text without control characters, but for line ends and tabs."""
    return all(char.isprintable() or char.isspace() for char in text) and not any("\ud800" <= char <= "\udfff" for char in text)


def _float(text: str) -> float | None:
    name = text.lstrip("+-").lower().removeprefix(".")
    if name in ("inf", "infinity", "nan"):
        return float(("-" if text.startswith("-") else "") + name)
    return float(text) if _NUMBER.fullmatch(text) else None


def _guessed(text: str) -> Any:
    """A plain scalar for a field that takes anything, read as YAML 1.2 does."""
    if text in _NULL[:-1]:
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _INT.fullmatch(text) and len(text) < 100:
        return int(text)
    number = _float(text)
    return str(text) if number is None else number


def _at(values: Any, key: str) -> Any:
    """The plain value at a dotted key, None where there is none."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values
