"""Row groups of a split as tables, one after the other, checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.dataset.manifest import Split
from data_pipeline.dataset.shards import read_row_group, require_whole
from data_pipeline.storage.base import Storage, storage_errors


def iter_row_groups(
    storage: Storage, split: Split, columns: list[str], indices: Sequence[int] | None = None
) -> Iterator[pa.Table]:
    """The columns of the row groups of a split, or of those with these `indices`, in order; memory holds one at a time.

    Raises:
        DatasetError: a shard is not as the manifest describes it.
        StorageError: a shard is missing or cannot be read.
    """
    groups = split.row_groups()
    hashes = {shard.file: shard.sha256 for shard in split.shards}
    for index in range(len(groups)) if indices is None else indices:
        group = groups[index]
        shard = storage.child(group.file)
        if not group.check:
            require_whole(shard, hashes[group.file])
        with storage_errors(shard), storage.filesystem.open_input_file(shard.path) as file:
            table = read_row_group(pq.ParquetFile(file), shard, group, columns)
        yield table
