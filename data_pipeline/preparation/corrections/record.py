"""What corrections leave behind beside a dataset: the labels as they were, and dropped rows among the rejected."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.dataset.manifest import REJECTED, Dataset
from data_pipeline.dataset.shards import Rejected
from data_pipeline.preparation.corrections.sheet import Correction, Label
from data_pipeline.preparation.destination import HISTORY
from data_pipeline.storage.base import Storage, storage_errors

# Of the labels as they were: several are a JSON list; `new` is null where the row was dropped.
HISTORY_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "split", "column", "old", "new", "digest")])
_DROPPED = "dropped by a correction of labels"


def history(dataset: Dataset, items: Sequence[Correction], splits: Mapping[str, str]) -> bytes:
    """The history of a dataset as a Parquet file: earlier corrections, then these; `splits` is that of each row.

    `digest` is that of the dataset that had the old label.
    """
    made = {
        "id": [item.id for item in items],
        "split": [splits[item.id] for item in items],
        "column": [item.column for item in items],
        "old": [text_of(item.given) for item in items],
        "new": [None if item.new is None else text_of(item.new) for item in items],
        "digest": [dataset.manifest.digest] * len(items),
    }
    earlier = [table.cast(HISTORY_SCHEMA) for table in _table_of(dataset.storage.child(HISTORY))]
    kept = [table.slice(0, _before(table.column("digest").to_pylist(), dataset.manifest.digest)) for table in earlier]
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables([*kept, pa.table(made, schema=HISTORY_SCHEMA)]), buffer)
    return buffer.getvalue()


def _before(digests: Sequence[str], now: str) -> int:
    """How many rows are before those of corrections of the present state: that is of others, so these were never finished."""
    count = len(digests)
    while count and digests[count - 1] == now:
        count -= 1
    return count


def all_rejected(dataset: Dataset, items: Sequence[Correction], splits: Mapping[str, str]) -> list[Rejected]:
    """The rejected inputs of a dataset, then the rows that these corrections drop."""
    rows = [row for table in _table_of(dataset.storage.child(REJECTED)) for row in table.to_pylist()]
    labels: dict[str, list[str]] = {}
    for item in items:
        if item.new is None:
            labels.setdefault(item.id, []).append(text_of(item.given))
    return [
        *(
            Rejected(row["id"], row["split"], row["path"], row["reason"])
            for row in rows
            if not (row["id"] in labels and row["reason"].startswith(_DROPPED))  # of a correction that was never finished
        ),
        *(Rejected(name, splits[name], name, f"{_DROPPED}, was: {', '.join(given)}") for name, given in labels.items()),
    ]


def text_of(label: Label) -> str:
    """A label as text: the name of a class, or a JSON list of names."""
    return label if isinstance(label, str) else json.dumps(label, ensure_ascii=False)


def _table_of(file: Storage) -> list[pa.Table]:
    if not file.exists():
        return []
    with storage_errors(file), file.filesystem.open_input_file(file.path) as source:
        return [pq.read_table(source)]
