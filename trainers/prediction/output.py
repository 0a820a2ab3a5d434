"""Places for results, tried before hours of work go into them."""

from __future__ import annotations

import os
import uuid

from cluster.errors import UserError
from data_pipeline.storage.base import Storage, StorageError


def require_writable(file: Storage) -> None:
    """Check that `file` can be written, its folder being made, by a small file beside it that goes again.

    Raises:
        UserError: it cannot, and why.
    """
    if any("\ud800" <= character <= "\udfff" for character in file.path):
        raise UserError(f"Cannot write to {file.path!r}: its name is not UTF-8. Choose another place.")
    folder = file.parent
    try:
        if file.is_local and (not file.name or os.path.isdir(file.path)):
            raise UserError(f"Cannot write to '{file.uri}': it is a folder. Give a file.")
        trial = folder.child(f".{uuid.uuid4().hex[:12]}")
        trial.write_bytes(b"")
        trial.delete()
    except StorageError as error:
        raise UserError(f"Cannot write to '{file.uri}': {error}") from None
