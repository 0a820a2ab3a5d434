"""Print docs/configuration.md: a table of keys for each section, from the dataclasses and the comments behind their fields.

python -m trainers.config.document > docs/configuration.md
python -m trainers.config.document --check docs/configuration.md
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf

from cluster.errors import UserError, run_command
from trainers.config.train import TrainConfig

COMMAND = "python -m trainers.config.document"
HEAD = f"""# Configuration

<!-- Written by `{COMMAND}`: change the comments of the dataclasses in trainers/config/, not this file. -->

A training run is described by YAML and by `key=value` on the command line, over the defaults below:

    python -m trainers.train configs/train/formulas.yaml optim.lr=3e-4 model=satrn_final scaling.num_train_workers=4

- A file may name another one as its `base`, seen from its own folder, and then states only what differs.
- A section may be the name of a YAML file that holds it (`decoding: beam.yaml`), `model` also one of configs/model.
- `${{oc.env:NAME}}` stands for an environment variable, in texts only. What a run stores holds the expression, not the value.
- A mapping over names (`label_loss.weights`) is merged with what is there already; `{{}}` empties it.
- All mistakes are reported at once, each with its key. A key that was renamed says its new name.
"""


def document() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_section("A training run", "", TrainConfig())])


def _section(title: str, key: str, values: Any) -> Iterator[str]:
    """A section's heading, docstring and table, and the same of the sections in it."""
    comments, hints = field_comments(type(values)), get_type_hints(type(values))
    items = [(item.name, getattr(values, item.name)) for item in dataclasses.fields(values)]
    inner = [(name, value) for name, value in items if dataclasses.is_dataclass(value)]
    rows = [(name, value) for name, value in items if not dataclasses.is_dataclass(value)]
    yield f"{'#' * (2 + key.count('.'))} {title}\n"
    yield f"{_one_line(inspect.getdoc(type(values)) or '')}\n"
    if rows:
        yield "| key | type | default | description |\n|---|---|---|---|"
        for name, value in rows:
            path = f"{key}.{name}" if key else name
            yield f"| `{path}` | {_cell(_type(hints[name]))} | {_cell(_default(value))} | {_cell(comments.get(name, ''))} |"
        yield ""
    for name, value in inner:
        path = f"{key}.{name}" if key else name
        yield from _section(f"`{path}`", path, value)


def field_comments(kind: type) -> dict[str, str]:
    """The comments of a dataclass's fields, those in the lines above a field and those behind it, by its name."""
    source = textwrap.dedent(inspect.getsource(kind))
    (body,) = [node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    comments = {
        token.start[0]: (token.string.lstrip("# "), token.line.lstrip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.end_lineno:
            first = node.lineno
            while first - 1 in comments and comments[first - 1][1]:
                first -= 1
            found[node.target.id] = " ".join(
                comments[line][0] for line in range(first, node.end_lineno + 1) if line in comments
            )
    return found


def _type(kind: Any) -> str:
    """A type in the words of YAML."""
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_type(member) for member in get_args(kind))
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) in (list, tuple):
        inner = get_args(kind)
        return f"list of {_type(inner[0])}" if get_origin(kind) is list else f"[{', '.join(map(_type, inner))}]"
    if get_origin(kind) is dict:
        return f"mapping to {_type(get_args(kind)[1])}"
    return {type(None): "null", str: "text", Any: "any value"}.get(kind) or kind.__name__


def _default(value: Any) -> str:
    """A default as YAML has it, on one line."""
    if isinstance(value, list | tuple):
        return f"`[{', '.join(str(item) for item in value)}]`"
    if isinstance(value, dict):
        return "`{}`" if not value else f"`{value}`"
    return f"`{OmegaConf.to_yaml({'x': value}).removeprefix('x: ').strip()}`"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Print the page, or compare it with a file."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="FILE", type=Path, help="fail if this file is not what would be printed")
    file = parser.parse_args().check
    if file is None:
        print(document(), end="")
    elif not file.is_file() or file.read_text(encoding="utf-8") != document():
        raise UserError(f"'{file}' is stale: run {COMMAND} > {file}.")


if __name__ == "__main__":
    run_command(main)
