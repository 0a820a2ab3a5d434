"""Local paths as users write them."""

from __future__ import annotations

from pathlib import Path

from cluster.errors import UserError


def absolute(text: str) -> Path:
    """The absolute path that `text` means here: `~` is a home, links are followed.

    Raises:
        UserError: there is no such user, or links in a circle.
    """
    try:
        return Path(text).expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"'{text}' is no path on this machine: {str(error).rstrip('.')}. Correct it.") from None
