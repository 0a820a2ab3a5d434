"""Values of a configuration that come from the environment, `${oc.env:NAME}`: used here, stored as the expression.

What a run stores (its configuration, checkpoints, reports, trackers) never holds the value of an environment variable, and a
run that is resumed looks it up again. Only texts may come from there: paths, names. What a network or a schedule is has to
stand in the file that says so. A variable that holds a secret has no place in a configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from cluster.errors import UserError
from cluster.redaction import is_secret_variable, printable

_ATTRIBUTE = "_expressions"  # of a configuration: {path: (expression, the value that it had)}
_LOOKUP = re.compile(r"\$\{\s*oc\.env\s*:\s*([^},\s]+)\s*\}")  # of a variable, without a default
_ANY_LOOKUP = re.compile(r"\$\{\s*oc\.env\s*:")
_looked_up: list[str] = []  # names of variables, since it was emptied


def _env(*arguments: Any) -> Any:
    _looked_up.append(str(arguments[0]))
    return oc.env(*arguments)


_register = getattr(OmegaConf, "register_resolver", OmegaConf.register_new_resolver)  # its name before OmegaConf 2.4
_register("oc.env", _env, replace=True)


def remember_expressions(merged: DictConfig, config: Any) -> None:
    """Keep with `config`, the object of `merged`, which of its values come from the environment, and how.

    Raises:
        UserError: a value that is no text, or the variable holds a secret; the value is not repeated.
    """
    found: dict[str, tuple[str, Any]] = {}
    for path, expression in _interpolated(OmegaConf.to_container(merged)):
        _looked_up.clear()
        value = OmegaConf.select(merged, path)
        names = list(_looked_up)
        if secret := next((name for name in names if is_secret_variable(name)), None):
            raise UserError(
                f"'{path}' takes the environment variable '{printable(secret)}', which holds a secret: a configuration is "
                "stored and shown. Leave it out: what needs the secret looks it up itself."
            )
        if names and not isinstance(value, str):
            raise UserError(
                f"'{path}' takes the environment variable '{printable(names[0])}': only texts may come from there, such as "
                "paths and names. Write the value."
            )
        if names:
            found[path] = (expression, OmegaConf.select(OmegaConf.structured(config), path))
    setattr(config, _ATTRIBUTE, found)


def with_lookups(resolved: Any, raw: Any) -> Any:
    """Plain values whose `${...}` are resolved, but for those that ask the environment: those are left as they are."""
    if isinstance(raw, dict):
        return {key: with_lookups(resolved[key], value) for key, value in raw.items()}
    if isinstance(raw, list):
        return [with_lookups(one, other) for one, other in zip(resolved, raw, strict=True)]
    return raw if isinstance(raw, str) and _ANY_LOOKUP.search(raw) else resolved


def with_expressions(config: Any) -> DictConfig:
    """The values of `config` for storing, and for merging with others: those from the environment as expressions."""
    values = OmegaConf.structured(config)
    for path, (expression, value) in getattr(config, _ATTRIBUTE, {}).items():
        if OmegaConf.select(values, path) == value:  # else it was changed since
            OmegaConf.update(values, path, expression)
    return values


def stored_values(config: Any) -> dict[str, Any]:
    """All values of `config` as they may be stored and shown: those from the environment as expressions."""
    values = OmegaConf.to_container(with_expressions(config))
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def stored_value(config: Any, path: str) -> Any:
    """The value at `path` as it may be stored and shown: one from the environment as its expression."""
    expression, value = getattr(config, _ATTRIBUTE, {}).get(path, ("", None))
    found = OmegaConf.select(OmegaConf.structured(config), path)
    return expression if expression and found == value else found


def without_missing_variables(values: Any) -> Any:
    """Plain values of a stored configuration in which look-ups of variables that are not set are texts.

    So a checkpoint can be used where the place of its data is not known.
    """
    if isinstance(values, dict):
        return {key: without_missing_variables(value) for key, value in values.items()}
    if isinstance(values, list):
        return [without_missing_variables(value) for value in values]
    if isinstance(values, str) and any(name not in os.environ for name in _LOOKUP.findall(values)):
        return _LOOKUP.sub(r"$\1", values)
    return values


def _interpolated(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The values that contain `${...}`, by path."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _interpolated(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _interpolated(value, f"{path}[{index}]")
    elif isinstance(values, str) and "${" in values:
        yield path, values
