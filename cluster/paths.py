"""Local paths as users write them."""

from __future__ import annotations

from pathlib import Path

from cluster.errors import UserError
from cluster.redaction import printable


def absolute(text: str, home: bool = True) -> Path:
    """The absolute path that `text` means here; `~` is a home, if `home` allows it.

    Symbolic links stay as they are written, so that an entry is called alike however it is reached.

    Raises:
        UserError: there is no such user, or links in a circle.
    """
    try:
        path = Path(text).expanduser() if home else Path(text)
    except RuntimeError:
        raise UserError(f"'{printable(text)}' is no path on this machine: there is no such user. Correct it.") from None
    try:
        return path.resolve() if ".." in path.parts else path.absolute()
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"'{printable(text)}' is no path on this machine: {str(error).rstrip('.')}. Correct it.") from None
