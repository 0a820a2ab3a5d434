"""Names of classes and heads in a configuration, which the dataset must have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.errors import UserError
from cluster.yaml_text import shown


def require_known(key: str, given: Iterable[str], known: Sequence[str], kind: str) -> None:
    """Check that the names `given` in section `key` are among the `known` ones of a `kind` (class, head).

    Raises:
        UserError: one is not, by key.
    """
    unknown = next((name for name in given if name not in known), None)
    if unknown is None:
        return
    if not known:
        raise UserError(f"{key}.{shown(unknown)}: the task of this dataset has no {kind}s to name. Leave it out.")
    raise UserError(
        f"{key}.{shown(unknown)}: the dataset has no such {kind}. It has {shown(list(known))}. "
        "Write one of them, or leave it out."
    )
