"""Rows of a shard from labeled images: read, decoded, brought to the image policy, and encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.shards import Rejected, Row
from data_pipeline.importers.labels.source import Cell, Item, rejection
from data_pipeline.preparation.build import Chunk
from data_pipeline.preparation.images import BadImage, encode_jpeg, encode_png, prepare

Format = Literal["auto", "png", "jpeg"]

MAX_FILE_BYTES = 256 * 2**20  # a larger file is no image that can be decoded
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Work:
    """Items that become one shard, and what the reader has rejected, which the first shard reports."""

    items: Sequence[Item]
    rejected: Sequence[Rejected] = ()


def build_rows(policy: ImagePolicy, stored: Format, chunk: Chunk) -> tuple[list[Row], list[Rejected]]:
    """Read and prepare the images of a chunk. Rows come in the order of a hash of their ids, so that classes are mixed.

    `stored` says how images are encoded; auto: what was JPEG in color as JPEG again, everything else without loss, as PNG.
    """
    work: Work = chunk.work
    rows: list[Row] = []
    rejected = list(work.rejected)
    for item, data in _read(work.items):
        try:
            if isinstance(data, str):
                raise BadImage(data)
            rows.append(_row(item, data, policy, stored))
        except BadImage as reason:
            rejected.append(rejection(item.id, item.shown, str(reason), chunk.split))
    return sorted(rows, key=lambda row: mixing_key(row.id)), rejected


def mixing_key(name: str) -> bytes:
    """What to sort ids by so that their order tells nothing."""
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def _row(item: Item, data: bytes, policy: ImagePolicy, stored: Format) -> Row:
    prepared = prepare(data, policy)
    pixels = prepared.pixels
    as_jpeg = stored == "jpeg" or (stored == "auto" and policy.color == "rgb" and data[:3] == _JPEG)
    image = encode_jpeg(pixels) if as_jpeg else encode_png(pixels)
    height, width = pixels.shape[:2]
    return Row(
        item.id, image, width, height, dict(item.target), source=item.source, writer=item.group, inverted=prepared.inverted
    )


def _read(items: Sequence[Item]) -> Iterator[tuple[Item, bytes | str]]:
    """The bytes of each item's image, or why there are none. Of Parquet files one row group at a time is held."""
    held: tuple[Any, ...] = ()
    cells: list[Any] = []
    for item in items:
        if isinstance(item.image, Cell):
            wanted = (item.image.file, item.image.row_group, item.image.column)
            if wanted != held:
                held, cells = wanted, _read_cells(*wanted)
            yield item, _cell(cells, item.image)
        else:
            yield item, _read_file(item.image)


def _read_file(path: str) -> bytes | str:
    try:
        if Path(path).stat().st_size > MAX_FILE_BYTES:
            return f"larger than {MAX_FILE_BYTES:,} bytes"
        return Path(path).read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _read_cells(file: str, row_group: int, column: str) -> list[Any]:
    """The values of a column in a row group, as scalars that are not copied yet; none if it cannot be read."""
    try:
        return list(pq.ParquetFile(file).read_row_group(row_group, columns=[column]).column(0))
    except (pa.ArrowException, OSError):
        return []


def _cell(cells: Sequence[Any], cell: Cell) -> bytes | str:
    """The image in a cell: bytes, or a struct of them and a path, which counts where the bytes are missing."""
    if cell.row >= len(cells):
        return "its row group cannot be read"
    value = cells[cell.row].as_py()
    path = value.get("path") if isinstance(value, dict) else None
    data = value.get("bytes") if isinstance(value, dict) else value
    if data is None and path:
        return _read_file(str(Path(cell.file).parent / path))
    return data if data is not None else "the column holds no image"
