"""YAML with the scalars of YAML 1.2: on, off, yes and no are texts, 010 is ten, 12:30 is no number, dates are texts."""

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
    """Refuses a key that stands twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as yaml has it

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value if isinstance(key.value, str)]
        for name in written:
            if written.count(name) > 1 and name != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"key '{name}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))  # yaml's own takes 010 for eight


def read_yaml(file: Path) -> Any:
    """The contents of a YAML file.

    Raises:
        yaml.YAMLError: it is not YAML; and what opening and decoding a file raises.
    """
    return yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
