"""What a reading task does: one window's rows of one rank, read from the shards, decoded, augmented; pixels as uint8."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.images import BadImage, ImagePolicy, decode
from data_pipeline.shards import read_row_group
from data_pipeline.storage import Storage, storage_errors
from data_pipeline.stream.augment import augment
from data_pipeline.stream.config import Augmentation
from data_pipeline.stream.plan import Share, Window, sequential_rows, window_rows

# `pixels` are the bytes of a (height, width, channels) uint8 image; `error` is empty unless the row cannot be used.
DECODED_SCHEMA = pa.schema(
    [
        ("sample", pa.int64()),
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("pixels", pa.binary()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("error", pa.string()),
    ]
)
_COLUMNS = ["id", "image", "text", "source"]


@dataclass(frozen=True)
class ReadWindow:
    """Reads one rank's rows of a window. Pickled once a run, called once a window, anywhere on the cluster."""

    storage: Storage
    image: ImagePolicy
    seed: int
    augmentation: Augmentation
    shuffle: bool

    def __call__(self, window: Window, share: Share) -> pa.Table:
        """The rows of `window` that are `share`'s, in order, as a table of DECODED_SCHEMA.

        Raises:
            StorageError: a shard is missing or cannot be read, by name.
            DatasetError: a shard is not as the manifest describes it, by name.
        """
        rows = window_rows(window, self.seed) if self.shuffle else sequential_rows(window)
        samples = window.start + np.arange(len(rows))
        mine = share.mine(samples)
        rows, samples = rows[mine], samples[mine]
        encoded = self._read(window, rows)
        decoded = [self._decode(window.epoch, int(sample), *values) for sample, values in zip(samples, encoded, strict=True)]
        return pa.Table.from_pylist(decoded, schema=DECODED_SCHEMA)

    def _read(self, window: Window, rows: np.ndarray) -> Iterator[tuple[str, bytes, str, str]]:
        tables: dict[int, pa.Table] = {}
        files: dict[str, pq.ParquetFile] = {}
        for place in np.unique(rows[:, 0]) if len(rows) else []:
            group = window.row_groups[place]
            shard = self.storage.child(group.file)
            with storage_errors(shard):
                if group.file not in files:
                    files[group.file] = pq.ParquetFile(self.storage.filesystem.open_input_file(shard.path), pre_buffer=True)
            tables[place] = read_row_group(files[group.file], shard, group, _COLUMNS)
        for place, row in rows:
            table = tables[place]
            yield tuple(table.column(name)[int(row)].as_py() for name in _COLUMNS)

    def _decode(self, epoch: int, sample: int, sample_id: str, image: bytes, text: str, source: str) -> dict[str, object]:
        policy, error = self.image, ""
        try:
            pixels = decode(image, policy.colour, policy.background)
            if pixels.shape[0] != policy.height or pixels.shape[1] > policy.width:
                raise BadImage(f"{pixels.shape[1]}x{pixels.shape[0]} pixels, not the dataset's {policy.width}x{policy.height}")
            pixels = augment(pixels, self.augmentation, self.seed, epoch, sample_id)
        except BadImage as reason:
            pixels, error = np.full((policy.height, 1), policy.background, np.uint8), str(reason)
        return {
            "sample": sample,
            "id": sample_id,
            "text": text,
            "source": source,
            "pixels": pixels.tobytes(),
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "error": error,
        }
