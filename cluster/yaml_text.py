"""YAML as it is written: what a scalar means is left to the field that it is for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import UserError

MAX_DEPTH = 20


class Plain(str):
    """A scalar of YAML that stands without quotes: a text, or whatever its field takes it for."""


class _Loader(yaml.SafeLoader):
    """Leaves scalars as they are written; a key that stands twice is an error."""

    yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile("<<$"))]}  # noqa: RUF012  # as yaml has it

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for name in written:
            if isinstance(name, str) and written.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{name}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> str:
    return Plain(node.value) if node.style is None else str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:str", _scalar)


def load_yaml(text: str | bytes) -> Any:
    """The dicts and lists of a YAML text; scalars are `str`, those without quotes `Plain`.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    try:
        loaded = yaml.load(text, Loader=_Loader)
        _require_end(loaded, 0)
        return loaded
    except (RecursionError, ValueError) as error:  # a tag whose value is none, say
        raise yaml.YAMLError(one_line(error)) from None


def read_mapping(file: Path, kind: str, folder: str) -> dict[Any, Any]:
    """The mapping that a YAML file holds, its scalars as `load_yaml` gives them.

    `kind` says in messages what the file is (configuration, study), `folder` where those of Inkray lie.

    Raises:
        UserError: there is no such file, it is not YAML, or not a mapping.
    """
    try:
        loaded = load_yaml(file.read_bytes())
    except yaml.YAMLError as error:
        raise UserError(f"'{file}' is not valid YAML: {one_line(error)}.") from None
    except (OSError, ValueError) as error:  # a name that no file can have
        reason = "" if isinstance(error, FileNotFoundError) else f" ({getattr(error, 'strerror', None) or error})"
        raise UserError(f"No {kind} file '{shown(file)}'{reason}. Those of Inkray lie in {folder}.") from None
    if not isinstance(loaded, dict):
        raise UserError(f"'{file}' is not a mapping of keys to values.")
    return loaded


def _require_end(value: Any, depth: int) -> None:
    """Refuse what holds itself, by an alias, or is nested as if it did."""
    if depth > MAX_DEPTH:
        raise yaml.YAMLError("nested without end")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _require_end(item, depth + 1)


def one_line(error: BaseException) -> str:
    """What an error says, without the excerpts of YAML's and OmegaConf's."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        mark = error.problem_mark
        return error.problem + (f", line {mark.line + 1}, column {mark.column + 1}" if mark else "")
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def shown(value: Any) -> str:
    """`value` in an error: on one line, not too long, printable whatever its bytes are."""
    text = ("[" + ", ".join(map(shown, value)) + "]") if isinstance(value, list | tuple) else str(value)
    text = text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode("ascii")
    return text if len(text) <= 200 else f"{text[:200]}..."
