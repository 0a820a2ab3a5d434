"""YAML reader with the scalars of YAML 1.2: on, off, yes, no, 12:30 and dates are strings, 010 is ten."""

import re
from pathlib import Path
from typing import Any

import yaml

_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    "merge": (r"<<", ["<"]),
}


class _Loader(yaml.SafeLoader):
    """Loader that rejects duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # declared by PyYAML

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value if isinstance(key.value, str)]
        for name in written:
            if written.count(name) > 1 and name != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{name}'", node.start_mark)
        return super().construct_mapping(node, deep=deep)


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))  # PyYAML reads 010 as eight


def read_yaml(file: Path) -> Any:
    """Reads a YAML file.

    Raises:
        yaml.YAMLError: invalid YAML.
        OSError, UnicodeDecodeError: an unreadable file.
    """
    return yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
