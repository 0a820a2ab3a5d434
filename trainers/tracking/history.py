"""All rows of a run, in a file of its folder."""

from __future__ import annotations

import json
from pathlib import Path

from data_pipeline.storage.base import Storage, storage_errors
from trainers.tracking.sink import Sink

HISTORY = "metrics.jsonl"


class History(Sink):
    """All rows of a run, kept in `metrics.jsonl` of its folder; a resumed run continues in the same file.

    On a disk each row is appended as it comes, in one write, so that saving costs what is new and a run that is killed
    has all of its rows; a line that was cut off nevertheless, or damaged, is left out when the file is read. Elsewhere, and
    whenever rows are taken back, the whole file is written and appears whole.
    """

    def __init__(self, run: Storage) -> None:
        self._file = run.child(HISTORY)
        self.rows: list[dict[str, float]] = []
        self._saved = 0  # rows that stand in the file, behind which others can be appended
        if self._file.exists():
            lines = self._file.read_bytes().split(b"\n")
            self.rows = [row for line in lines[:-1] if (row := _row_of(line)) is not None]
            whole = not lines[-1] and len(self.rows) == len(lines) - 1
            self._saved = len(self.rows) if whole else 0

    def rewind(self, step: int) -> None:
        """Forget rows after `step`: they will come again from a run that resumed there."""
        kept = [row for row in self.rows if row["step"] <= step]
        if len(kept) < len(self.rows):
            self.rows, self._saved = kept, 0

    def metrics(self, row: dict[str, float]) -> None:
        """Keep a row. A file that is not on a disk is written at the ends of epochs."""
        self.rows.append(row)
        if self._file.is_local or any(key.startswith("time/") for key in row):
            self.save()

    def save(self) -> None:
        """Bring the file up to date.

        Raises:
            StorageError: it cannot be written; the next time all of it will be.
        """
        appends = self._file.is_local and self._saved > 0
        text = "".join(json.dumps(row) + "\n" for row in self.rows[self._saved if appends else 0 :]).encode()
        self._saved = 0
        if appends:
            with storage_errors(self._file), Path(self._file.path).open("ab") as file:
                file.write(text)
        else:
            self._file.write_bytes(text)
        self._saved = len(self.rows)

    def close(self) -> None:
        """Bring the file up to date a last time."""
        self.save()


def _row_of(line: bytes) -> dict[str, float] | None:
    """The row that a line holds; None if it holds none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    fine = isinstance(row, dict) and "step" in row and all(isinstance(value, int | float) for value in row.values())
    return row if fine else None
