"""Images of all sizes: batches by pixels, and memory that is known beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Dataset, Split, open_dataset
from data_pipeline.dataset.shards import write_shard
from data_pipeline.dataset.token_targets import TEXT_COLUMNS
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import open_storage
from data_pipeline.stream import StreamConfig, StreamPosition, StreamStats
from tests.support.datasets import sequence_manifest, text_row, write_sequence_dataset
from tests.support.streams import CONFIG, digests, of_all_ranks, train_stream


def mixed_dataset(folder: Path) -> Dataset:
    """Images of 8 to 200 pixels a side, in row groups whose bounds the manifest knows."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(300):
        height, width = (int(size) for size in rng.integers(8, 201, 2))
        image = encode_png(np.full((height, width), number % 250, np.uint8))
        rows.append(text_row(f"mixed-{number:03d}", image, width, height, "a"))
    files = {f"train/part-{n:05d}.parquet": rows[n * 60 : n * 60 + 60] for n in range(5)}
    shards = [write_shard(open_storage(folder), file, part, TEXT_COLUMNS) for file, part in files.items()]
    policy = ImagePolicy(200, 200, fixed_height=False)
    manifest = sequence_manifest("mixed", ["a"], policy, {"train": Split(shards, {"max_tokens": 1})})
    (folder / "dataset.json").write_bytes(manifest.to_json())
    return open_dataset(str(folder))


def test_batches_of_mixed_sizes_keep_to_their_pixels(ray_cluster: None, tmp_path: Path, config: StreamConfig) -> None:
    dataset = mixed_dataset(tmp_path)
    config = replace(config, batch_pixels=300_000, augmentation="none", window_row_groups=3)
    stream = train_stream(dataset, config=config)
    batches = list(stream.batches(StreamPosition(), 2))
    assert len(batches) == stream.total_steps(2)
    for epoch in (0, 1):
        part = [name for batch in batches[epoch * len(batches) // 2 :][: len(batches) // 2] for name in batch.ids]
        assert len(part) == 300 or stream.plan.steps_in(0) != stream.plan.steps_in(1)
    assert sorted(name for batch in batches for name in batch.ids) == sorted(2 * [f"mixed-{n:03d}" for n in range(300)])
    for batch in batches:
        count, _, height, width = batch.images.shape
        assert count * height * width <= 300_000 and height % 16 == width % 32 == 0
        for image, name, (true_height, true_width) in zip(batch.images[:, 0], batch.ids, batch.sizes, strict=True):
            ink = int(name.removeprefix("mixed-")) % 250
            rows, columns = np.nonzero(image == ink)
            assert (rows.max() + 1, columns.max() + 1) == (true_height, true_width)
            assert (image[:true_height, :true_width] == ink).all()
            assert (image[true_height:] == 255).all() and (image[:, true_width:] == 255).all()
    threads = list(train_stream(dataset, config=replace(config, execution="threads")).batches(StreamPosition(), 2))
    assert [digests(batch) for batch in batches] == [digests(batch) for batch in threads]
    total = sum((batch.stats for batch in batches), StreamStats())
    assert 0 < total.metrics(1)["data/padding_share"] < 0.75
    assert total.images == 600 and total.decode_s > 0 and total.read_bytes > 0


def test_pixel_batches_resume_at_any_world_size(ray_cluster: None, tmp_path: Path, config: StreamConfig) -> None:
    dataset = mixed_dataset(tmp_path)
    config = replace(config, batch_pixels=300_000, window_row_groups=3)
    alone = list(train_stream(dataset, config=config).batches(StreamPosition(), 1))
    rest = of_all_ranks(dataset, 3, config, alone[4].position, 1)
    assert [[name for batch in step for name in batch.ids] for step in zip(*rest, strict=True)] == [b.ids for b in alone[5:]]


def test_what_does_not_fit_the_memory_is_said_before_it_is_read(ray_cluster: None, tmp_path: Path) -> None:
    dataset = mixed_dataset(tmp_path)
    stated = (
        r"a batch of 32 images takes up to 1 MiB a worker, more than 40% of stream.memory_mb=1. Set stream.batch_pixels=\d+"
    )
    with pytest.raises(UserError, match=stated) as raised:
        train_stream(dataset, config=replace(CONFIG, memory_mb=1))
    pixels = int(str(raised.value).partition("batch_pixels=")[2].partition(",")[0])
    fitting = replace(CONFIG, memory_mb=1, batch_pixels=pixels)
    assert len(list(train_stream(dataset, config=fitting).batches(StreamPosition(), 1))) > 9
    images = {f"{n:03d}": encode_png(np.random.default_rng(n).integers(0, 255, (128, 512), np.uint8)) for n in range(64)}
    rows = [text_row(name, image, 512, 128, "a") for name, image in images.items()]
    heavy = write_sequence_dataset(tmp_path / "heavy", rows, ["a"], ImagePolicy(128, 512))
    assert len(heavy.manifest.split("train").row_groups()) == 2, "a row group holds at most 4 MiB of images"
    with pytest.raises(
        UserError, match=r"a window of 2 row groups takes up to 4 MiB, more than 50% .* Set stream.window_row_groups=1"
    ):
        train_stream(heavy, config=replace(CONFIG, memory_mb=6))
