"""Datasets in which some images are none: prepared so, as the digests in their manifests say."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.dataset.manifest import MANIFEST, open_dataset


def copy_with_broken_images(source: str, out: Path, broken: dict[str, Collection[int]]) -> None:
    """A copy of the dataset `source` in which these rows of the first shard of each split hold no image."""
    shutil.copytree(source, out)
    splits = open_dataset(str(out)).manifest.splits
    manifest = json.loads((out / MANIFEST).read_bytes())
    for split, rows in broken.items():
        shard = splits[split].shards[0]
        file = out / shard.file
        table = pq.read_table(file)
        images = [b"\x89PNG broken" if row in rows else image for row, image in enumerate(table.column("image").to_pylist())]
        at, field = table.schema.get_field_index("image"), table.schema.field("image")
        changed, first = table.set_column(at, field, pa.array(images, field.type)), 0
        with pq.ParquetWriter(file, table.schema) as writer:
            for group in shard.row_groups:
                writer.write_table(changed.slice(first, group.rows), row_group_size=group.rows)
                first += group.rows
        written = manifest["splits"][split]["shards"][0]
        written["bytes"], written["sha256"] = file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()
        del written["checks"]  # of the row groups as they were; a dataset may have none
    (out / MANIFEST).write_text(json.dumps(manifest))
