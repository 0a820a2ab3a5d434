"""Encoded rows in memory: the columns of a row group, and references to single rows of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Rows:
    """Encoded rows.

    `data` (bytes) holds the images one after the other, number i from `offsets[i]` to `offsets[i + 1]`; `widths` and `heights`
    are their sizes in pixels: int64 (n,). `columns` are those that the target encoder reads, by name.
    """

    data: np.ndarray
    offsets: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    ids: list[str]
    sources: list[str]
    columns: dict[str, list[Any]]

    def image(self, index: int) -> memoryview:
        """The bytes of an image."""
        return self.data[self.offsets[index] : self.offsets[index + 1]].data


RowRef = tuple[Rows, int]  # a row: the rows that it is one of, and its index


def columns_of(refs: Sequence[RowRef], names: Sequence[str]) -> dict[str, list[Any]]:
    """The values of the columns `names` of these rows."""
    return {name: [rows.columns[name][index] for rows, index in refs] for name in names}


def rows_of(table: pa.Table, columns: Sequence[str]) -> Rows:
    """The rows of a row group, with the task's `columns`. Nothing of the images is copied."""
    images = table.column("image").combine_chunks()
    if isinstance(images, pa.ChunkedArray):  # of a table without rows
        images = pa.array([], pa.binary())
    buffers = images.buffers()
    offsets = np.frombuffer(buffers[1], np.int32)[images.offset : images.offset + len(images) + 1] if buffers[1] else [0]
    return Rows(
        data=np.frombuffer(buffers[2] or b"", np.uint8),
        offsets=np.asarray(offsets, np.int64),
        widths=table.column("width").to_numpy().astype(np.int64),
        heights=table.column("height").to_numpy().astype(np.int64),
        ids=table.column("id").to_pylist(),
        sources=[source or "" for source in table.column("source").to_pylist()],
        columns={name: table.column(name).to_pylist() for name in columns},
    )
