"""Names of classes and heads as they are declared on the command line, and the order of those that are not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.label_columns import check_target, joint_names

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def ordered(names: Iterable[str]) -> list[str]:
    """Names of classes in the order that they get where none is declared: numbers by value, so 2 before 10; else sorted."""
    found = sorted(set(names))
    return sorted(found, key=Decimal) if all(_NUMBER.fullmatch(name) for name in found) else found


def read_classes(declared: str) -> list[str]:
    """The names that `--classes` declares: `a,b,c`, or a file with one name a line.

    Raises:
        UserError: the file cannot be read, or a name is missing, empty or doubled.
    """
    if "," not in declared and Path(declared).is_file():
        try:
            text = Path(declared).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--classes: cannot read '{declared}': {error}. It has one name a line, in UTF-8.") from None
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        names = [name.strip() for name in declared.split(",")]
    require_target("multiclass", {"classes": names}, f"--classes {declared}")
    return names


def read_heads(declared: Sequence[str]) -> dict[str, list[str] | None]:
    """The heads that `--heads` names, in order: `mask,gender`, or `mask=worn,none gender=male,female` with their classes.

    Raises:
        UserError: a head is named twice.
    """
    heads: dict[str, list[str] | None] = {}
    for part in declared:
        name, equals, classes = part.partition("=")
        names = [name.strip()] if equals else [name.strip() for name in part.split(",") if name.strip()]
        for head in names:
            if head in heads:
                raise UserError(f"--heads names '{head}' twice.")
            heads[head] = [value.strip() for value in classes.split(",")] if equals else None
    return heads


def heads_target(heads: Mapping[str, Sequence[str]], joint: str = "", joint_classes: Sequence[str] = ()) -> dict[str, Any]:
    """The target of a multitask dataset; with the name of a joint class over all heads, that as well."""
    target: dict[str, Any] = {"heads": {name: list(classes) for name, classes in heads.items()}}
    if joint:
        target["joint"] = {"name": joint, "classes": list(joint_classes or joint_names(heads))}
    return target


def require_target(task: str, target: Mapping[str, Any], where: str) -> None:
    """Check the classes and heads of a dataset that is to be made.

    Raises:
        UserError: a name is missing, empty, doubled or taken.
    """
    try:
        check_target(task, target)
    except ValueError as error:
        raise UserError(f"{printable(where)}: {printable(str(error))}.") from None


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first of `names`, as a message shows them."""
    return ", ".join(map(printable, names[:most])) + (f", ... ({len(names):,} in all)" if len(names) > most else "")
