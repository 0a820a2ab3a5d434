"""Datasets for the stream's benchmarks: handwriting-like lines of one size, tiny images in any number, sizes of all kinds."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Dataset, Manifest, Split, open_dataset
from data_pipeline.dataset.shards import Row, read_split, write_shard
from data_pipeline.dataset.token_targets import TEXT, TEXT_COLUMNS
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import Storage, open_storage


def line_image(rng: np.random.Generator, height: int = 128, width: int = 512) -> np.ndarray:
    """Strokes on slightly noisy paper; as PNG about 8.5 kB at 128x512."""
    image = np.full((height, width), 255, np.uint8)
    for _ in range(7):
        start = np.array([rng.integers(20, width - 22), rng.integers(20, height - 20)])
        points = np.cumsum(rng.normal(0, 9, (24, 2)), 0) + start
        cv2.polylines(image, [points.astype(np.int32)], False, int(rng.integers(0, 90)), 2, cv2.LINE_AA)
    count = int(rng.integers(0, int(width * height * 0.015)))
    ys, xs = rng.integers(0, height, count), rng.integers(0, width, count)
    image[ys, xs] -= np.minimum(image[ys, xs], rng.integers(0, 9, count)).astype(np.uint8)
    return image


def write_dataset(uri: str, shards: list[list[Row]], policy: ImagePolicy, charset: list[str]) -> Dataset:
    """Rows as a dataset with one split, `train`."""
    out = open_storage(uri)
    files = {f"train/part-{number:05d}.parquet": rows for number, rows in enumerate(shards)}
    splits = {"train": Split([write_shard(out, file, rows, TEXT_COLUMNS) for file, rows in files.items()], {"max_tokens": 3})}
    manifest = Manifest("bench", "sequence", {"charset": charset}, TEXT_COLUMNS, policy, splits, 0, {})
    out.child("dataset.json").write_bytes(manifest.to_json())
    return open_dataset(uri)


def lines_dataset(uri: str, images: int = 4096, rows_per_shard: int = 256) -> Dataset:
    """Lines of 128x512 pixels."""
    rng = np.random.default_rng(0)
    rows = [Row(f"line-{number:06d}", encode_png(line_image(rng)), 512, 128, {TEXT: "a b c"}) for number in range(images)]
    shards = [rows[first : first + rows_per_shard] for first in range(0, images, rows_per_shard)]
    return write_dataset(uri, shards, ImagePolicy(128, 512), ["a", "b", "c"])


def tiny_dataset(uri: str, images: int, rows_per_shard: int = 512) -> Dataset:
    """Images of 16x32 pixels: what is left of the cost is the stream's own."""
    rng = np.random.default_rng(0)
    pngs = [encode_png(rng.integers(0, 255, (16, 32), dtype=np.uint8)) for _ in range(64)]
    shards = [
        [Row(f"{n:08d}", pngs[n % 64], 32, 16, {TEXT: "a b"}) for n in range(first, min(images, first + rows_per_shard))]
        for first in range(0, images, rows_per_shard)
    ]
    return write_dataset(uri, shards, ImagePolicy(16, 32), ["a", "b"])


def mixed_dataset(uri: str, images: int = 480) -> Dataset:
    """Images from 64x64 to 4000x4000 pixels, small ones more often, the largest among them."""
    rng = np.random.default_rng(0)
    paper = cv2.resize(rng.integers(120, 256, (250, 250), dtype=np.uint8), (4000, 4000), interpolation=cv2.INTER_CUBIC)
    rows = []
    for number in range(images):
        height, width = (int(64 * (4000 / 64) ** share) for share in rng.random(2))
        if number % 40 == 0:
            height = width = 4000
        if number % 40 == 1:
            height = width = 64
        png = encode_png(paper[:height, :width])
        rows.append(Row(f"mixed-{number:04d}", png, width, height, {TEXT: "a b"}))
    order = rng.permutation(images)
    shards = [[rows[index] for index in order[first : first + 60]] for first in range(0, images, 60)]
    return write_dataset(uri, shards, ImagePolicy(4000, 4000, fixed_height=False), ["a", "b"])


def write_tars(dataset: Dataset, out: Storage) -> list[Storage]:
    """The shards of a dataset as tar files, as WebDataset reads them."""
    table = read_split(dataset, "train", ["id", "image", "text"]).to_pylist()
    size = dataset.manifest.split("train").shards[0].rows
    files = []
    for number, first in enumerate(range(0, len(table), size)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for row in table[first : first + size]:
                for suffix, data in (("png", row["image"]), ("txt", row["text"].encode())):
                    info = tarfile.TarInfo(f"{row['id']}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        files.append(out.child(f"shard-{number:05d}.tar"))
        files[-1].write_bytes(buffer.getvalue())
    return files


def local_files(dataset: Dataset) -> list[str]:
    """The paths of a local dataset's shards."""
    return [str(Path(dataset.storage.path) / shard.file) for shard in dataset.manifest.split("train").shards]
