"""Writers that know disks alone, in runs that are stored elsewhere."""

from __future__ import annotations

import tempfile
from pathlib import Path

from data_pipeline.storage import Storage


class Mirror:
    """A folder on this machine's disk that stands for a run's: that folder itself, or one that is copied to it."""

    def __init__(self, run: Storage) -> None:
        self._remote = None if run.is_local else run
        self.path = Path(run.path) if run.is_local else Path(tempfile.mkdtemp(prefix=f"inkray-{run.name}-"))

    def publish(self) -> None:
        """Copy what is new to the run, where that is elsewhere.

        Raises:
            StorageError: the run cannot be written to.
        """
        if self._remote is not None:
            self._remote.copy_from(self.path)
