"""Files that a command makes beside its main result: nothing that is there is replaced unless that is asked for."""

from __future__ import annotations

from cluster.errors import UserError
from data_pipeline.storage.base import Storage, open_storage
from trainers.prediction.output import require_writable


def new_file(uri: str, overwrite: bool) -> Storage:
    """The file at `uri`, which can be written and is not there yet, unless `overwrite` allows to replace it.

    Raises:
        UserError: it is there, or cannot be written.
    """
    file = open_storage(uri)
    require_writable(file)
    if not overwrite and file.exists():
        raise UserError(f"'{file.shown}' is there already. Choose another place, or pass --overwrite.")
    return file
