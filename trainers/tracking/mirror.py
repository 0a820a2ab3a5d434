"""Writers that know disks alone, in runs that are stored elsewhere."""

from __future__ import annotations

from pathlib import Path

from cluster.scratch import lasting_scratch
from data_pipeline.storage.base import Storage


class Mirror:
    """A folder on this machine's disk that stands for a run's: that folder itself, or one that is copied to it.

    `remote` is the run's folder where the copy goes, None where there is none to be made. The one here ends with the process.
    """

    def __init__(self, run: Storage) -> None:
        self.remote = None if run.is_local else run
        self.path = Path(run.path) if run.is_local else lasting_scratch("mirror")

    def publish(self) -> None:
        """Copy what is new to the run, where that is elsewhere.

        Raises:
            StorageError: the run cannot be written to.
        """
        if self.remote is not None:
            self.remote.copy_from(self.path)
