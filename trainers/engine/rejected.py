"""Images that a run could not use: each is a row of `rejected.parquet` in its folder, and too many of them end it."""

from __future__ import annotations

import io
import math

import pyarrow.parquet as pq

from cluster.errors import UserError
from cluster.redaction import redact
from data_pipeline.dataset.manifest import REJECTED
from data_pipeline.dataset.shards import Rejected, write_rejected
from data_pipeline.storage.base import Storage

SHOWN = 5  # images that are named when they are rejected


class RejectedImages:
    """Collects what was rejected, each image of a split once; a resumed run adds to the list that exists."""

    def __init__(self, run: Storage, dataset: str) -> None:
        self._file, self._dataset = run.child(REJECTED), dataset
        self._rows: dict[tuple[str, str], Rejected] = {}
        self._saved = 0
        if self._file.exists():
            for row in pq.read_table(io.BytesIO(self._file.read_bytes())).to_pylist():
                self._rows[row["split"], row["id"]] = Rejected(**row)
            self._saved = len(self._rows)

    def add(self, split: str, errors: dict[str, str]) -> dict[str, str]:
        """Take `errors` (id -> reason); gives those that are new."""
        new = {name: reason for name, reason in errors.items() if (split, name) not in self._rows}
        self._rows |= {(split, name): Rejected(name, split, self._dataset, reason) for name, reason in new.items()}
        return new

    def save(self) -> None:
        """Write the file, if there is anything new.

        Raises:
            StorageError: it cannot be written.
        """
        if len(self._rows) > self._saved:
            write_rejected(self._file, list(self._rows.values()))
            self._saved = len(self._rows)


def named_images(errors: dict[str, str], where: str = "") -> list[str]:
    """Sentences that name images (id -> reason) that are left out, some of them if they are many; `where` follows the id."""
    lines = [f"image '{name}'{where} is left out: {errors[name]}" for name in list(errors)[:SHOWN]]
    more = len(errors) - SHOWN
    return lines + ([f"{more:,} more images are left out"] if more > 0 else [])


def rejected_lines(split: str, errors: dict[str, str]) -> list[str]:
    """Warnings to print that name images (id -> reason) of a split."""
    return [redact(f"warning: {line}") for line in named_images(errors, f" of split '{split}'")]


def require_few(rejected: int, rows: int, share: float, split: str) -> None:
    """Check that of `rows` images no more than a `share` (rounded up to whole images) was rejected.

    Raises:
        UserError: more were.
    """
    if rejected > math.ceil(share * rows):
        raise UserError(
            f"{rejected} of {rows} images of split '{split}' cannot be used, more than stream.max_rejected={share:g} allows. "
            f"They are listed in {REJECTED} of the run. Prepare the dataset again, or raise stream.max_rejected."
        )
