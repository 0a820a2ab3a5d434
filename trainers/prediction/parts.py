"""The parts of a prediction: which rows are there already, which are wanted, and each part written whole.

A part is `predictions-00000.parquet`, with columns id, those of the task's prediction, error, warning; its metadata say which
job it belongs to and which state of each file was read. Wanted are the inputs of parts that are missing, those that
have changed since they were read, and those whose row has an error.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import UserError
from data_pipeline.storage.base import Storage
from trainers.prediction.columns import empty_prediction
from trainers.prediction.files import in_threads
from trainers.prediction.names import page_id

_PART = re.compile(r"predictions-\d+\.parquet\Z")
_METADATA = b"inkray"


def part_name(number: int) -> str:
    """The file of a part."""
    return f"predictions-{number:05d}.parquet"


def is_part(name: str) -> bool:
    """Whether a file is named as a part."""
    return _PART.match(name) is not None


class Part(NamedTuple):
    """The rows of a part by input, the state of each that was read."""

    rows: dict[str, list[dict[str, Any]]]
    stamps: dict[str, str]


class Parts:
    """Parts of the job with `digest`, on inputs with these ids (and, of files, states), below `out`."""

    def __init__(
        self,
        out: Storage,
        digest: str,
        prediction: pa.Schema,
        ids: Sequence[str],
        stamps: dict[str, str],
        rows_per_part: int,
    ) -> None:
        self._out, self._digest, self._stamps = out, digest, stamps
        self._empty = empty_prediction(prediction) | {"error": "", "warning": ""}
        text = pa.string()
        self._schema = pa.schema([("id", text), *((field.name, field.type) for field in prediction), ("error", text)])
        self._schema = self._schema.append(pa.field("warning", text))
        self._ids = [list(ids[first : first + rows_per_part]) for first in range(0, len(ids), rows_per_part)]
        self._part_of: dict[str, int] = {}  # of what is wanted
        self._missing: dict[int, int] = {}
        self._waiting: dict[int, dict[str, list[dict[str, Any]]]] = {}
        self.rows = self.errors = self.warnings = 0
        self.retried = self.changed = 0  # inputs of parts that are there which are read again

    def look(self) -> set[str]:
        """Find what is there; returns the ids that are wanted.

        Raises:
            UserError: a part is not one of this job.
        """
        present = {name for name in self._out.names() if is_part(name)}
        foreign = present - {part_name(number) for number in range(len(self._ids))}
        if foreign:
            raise self._foreign(min(foreign))
        numbers = [number for number in range(len(self._ids)) if part_name(number) in present]
        known = dict(zip(numbers, in_threads(self._read, numbers), strict=True))
        for number, ids in enumerate(self._ids):
            wanted = self._stale(known.pop(number), ids) if number in known else ids
            for name in wanted:
                self._part_of[name] = number
            if wanted:
                self._missing[number] = len(wanted)
        return set(self._part_of)

    def _stale(self, part: Part, ids: list[str]) -> list[str]:
        """The inputs of a part that are wanted all the same."""
        changed = {name for name in ids if part.stamps.get(name, "") != self._stamps.get(name, "")}
        failed = {name for name in ids if any(row["error"] for row in part.rows[name])} - changed
        self.changed += len(changed)
        self.retried += len(failed)
        if not changed and not failed:
            self._count(part.rows)
        return [name for name in ids if name in changed or name in failed]

    def _read(self, number: int) -> Part:
        name = part_name(number)
        try:
            table = pq.read_table(io.BytesIO(self._out.child(name).read_bytes()))
            known = json.loads(table.schema.metadata[_METADATA])
            if known["job"] != self._digest:
                raise self._foreign(name)
            flat = iter(table.select(self._schema.names).to_pylist())
            rows = {key: [next(flat) for _ in range(known["pages"].get(key, 1))] for key in self._ids[number]}
            if next(flat, None) is not None or any(pages[0]["id"] != key for key, pages in rows.items()):
                raise self._foreign(name)
            return Part(rows, known["stamps"])
        except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError, StopIteration, RuntimeError):
            raise self._foreign(name) from None

    def _foreign(self, name: str) -> UserError:
        return UserError(
            f"{name} of '{self._out.uri}' is not a part of this job, or is damaged. Remove it, or choose another place."
        )

    def add(self, row: dict[str, Any]) -> bool:
        """A row that was predicted: `id` of its input, `page` of `pages`. Whether that input is complete by it.

        Where its part is complete, too, the part is written.

        Raises:
            RuntimeError: it was not wanted, or came twice.
        """
        name = row["id"]
        if name not in self._part_of:
            raise RuntimeError(f"a prediction of '{name}' was not asked for, or came twice")
        number, page, pages = self._part_of[name], int(row.get("page", 1)), int(row.get("pages", 1))
        rows = self._waiting.setdefault(number, {}).setdefault(name, [])
        values = {column: row.get(column, empty) for column, empty in self._empty.items()}
        rows.append(values | {"id": page_id(name, page), "page": page})
        if len(rows) < pages:
            return False
        del self._part_of[name]
        self._missing[number] -= 1
        if not self._missing[number]:
            self._write(number, self._waiting.pop(number))
        return True

    def _write(self, number: int, new: dict[str, list[dict[str, Any]]]) -> None:
        ids = self._ids[number]
        rows = new if len(new) == len(ids) else self._read(number).rows | new
        for name in new:
            rows[name].sort(key=lambda row: int(row["page"]))
        flat = [row for name in ids for row in rows[name]]
        stamps = {name: self._stamps[name] for name in ids if name in self._stamps}
        pages = {name: len(rows[name]) for name in ids if len(rows[name]) > 1}
        metadata = {_METADATA: json.dumps({"job": self._digest, "stamps": stamps, "pages": pages}).encode()}
        columns = {column: [row[column] for row in flat] for column in self._schema.names}
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns, schema=self._schema.with_metadata(metadata)), buffer)
        self._out.child(part_name(number)).write_bytes(buffer.getvalue())
        self._count(rows)

    def _count(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        for row in (row for pages in rows.values() for row in pages):
            self.rows += 1
            self.errors += row["error"] != ""
            self.warnings += row["warning"] != ""

    def require_complete(self) -> None:
        """Check that nothing that was wanted is missing.

        Raises:
            RuntimeError: something is.
        """
        if self._part_of:
            raise RuntimeError(f"{len(self._part_of)} inputs were not predicted")
