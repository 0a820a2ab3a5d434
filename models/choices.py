"""Look-up of a configured choice in its literal table."""

from collections.abc import Mapping
from typing import TypeVar

from models.errors import ModelConfigError

K = TypeVar("K", bound=str)
T = TypeVar("T")


def choose(table: Mapping[K, T], name: K, key: str) -> T:
    """The entry of `table` that the config key `key` names; raises ModelConfigError listing the choices."""
    if name not in table:
        raise ModelConfigError(key, f"{name!r} is not one of {', '.join(sorted(table))}")
    return table[name]
