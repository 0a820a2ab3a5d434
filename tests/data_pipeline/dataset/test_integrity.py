"""What is read is what was prepared: a flipped bit, another dataset's shard, a poisoned cache are found where rows are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.integrity import check_of, difference
from data_pipeline.dataset.manifest import Dataset, DatasetError, open_dataset
from data_pipeline.dataset.row_groups import iter_row_groups
from data_pipeline.dataset.schema import shard_schema
from data_pipeline.dataset.shards import read_split
from data_pipeline.dataset.token_targets import TEXT_COLUMNS
from data_pipeline.explore import describe
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import StorageError
from data_pipeline.stream import CacheConfig, EvaluationStream, StreamConfig, StreamPosition, TrainStream
from data_pipeline.stream import cache as caches
from tests.support.datasets import text_row, write_sequence_dataset
from tests.support.streams import targets_of

SCHEMA = shard_schema(TEXT_COLUMNS)
CONFIG = StreamConfig(execution="threads", augmentation="none", storage_timeout_s=5)
DAMAGED = "is not the one that the manifest describes: .*copy it again"


def made(folder: Path, seed: int = 0, count: int = 150) -> Dataset:
    """A dataset of three row groups, in a folder of its own."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = [
        text_row(f"row-{i}", encode_png(rng.integers(0, 255, (32, 64), np.uint8)), 64, 32, f"a b{seed}", "made")
        for i in range(count)
    ]
    return write_sequence_dataset(folder, rows, ["a", *(f"b{n}" for n in range(9))], ImagePolicy(32, 64), "noise")


def without_checks(dataset: Dataset) -> Dataset:
    """As datasets were that were prepared before row groups had digests."""
    content = asdict(dataset.manifest)
    for shard in content["splits"]["train"]["shards"]:
        del shard["checks"]
    dataset.storage.child("dataset.json").write_bytes(json.dumps(content).encode())
    return open_dataset(dataset.storage.uri)


def shard_of(dataset: Dataset) -> Path:
    return Path(dataset.storage.path) / "train" / "part-00000.parquet"


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(bytes(data))


def place_in_page(dataset: Dataset, column: str) -> int:
    """A byte of the file that holds a value of a row in the second row group, as the file's only copy of it."""
    table = pq.ParquetFile(shard_of(dataset)).read_row_group(1, columns=[column])
    value = table.column(column)[40].as_py()
    value = value if isinstance(value, bytes) else value.encode()
    data = shard_of(dataset).read_bytes()
    metadata = pq.ParquetFile(shard_of(dataset)).metadata.row_group(1)
    chunk = metadata.column(SCHEMA.names.index(column))
    return data.index(value, chunk.data_page_offset) + len(value) // 2


def train(dataset: Dataset, config: StreamConfig = CONFIG) -> list[list[str]]:
    stream = TrainStream(dataset, "train", targets_of(dataset), config, seed=0, global_batch_size=16)
    return [batch.ids for batch in stream.batches(StreamPosition(), 2)]


def validate(dataset: Dataset) -> int:
    stream = EvaluationStream(dataset, "train", targets_of(dataset), CONFIG, batch_size=16)
    return sum(len(batch.ids) for batch in stream.batches())


def draw(dataset: Dataset) -> pa.Table:
    return read_split(dataset, "train", ["id", "image"])  # as `explore --grid` does


def predict(dataset: Dataset) -> list[pa.Table]:
    return list(iter_row_groups(dataset.storage, dataset.manifest.split("train"), ["id", "image"], [1]))


READERS: list[Callable[[Dataset], Any]] = [train, validate, draw, predict]


@pytest.mark.parametrize("old", [False, True], ids=["row groups", "whole shard"])
@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_a_flipped_bit_in_an_image_is_found(tmp_path: Path, read: Callable[[Dataset], Any], old: bool) -> None:
    dataset = made(tmp_path)
    dataset = without_checks(dataset) if old else dataset
    read(dataset)  # good as it is
    copy = tmp_path.with_name(f"{tmp_path.name}-copy")
    shutil.copytree(tmp_path, copy)
    flip(shard_of(open_dataset(str(copy))), place_in_page(dataset, "image"))
    with pytest.raises(DatasetError, match=f"{copy}/train/part-00000.parquet.*{DAMAGED}") as raised:
        read(open_dataset(str(copy)))
    assert ("SHA-256" if old else "row group 1, its images") in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("read", [*READERS, describe], ids=lambda read: read.__name__)
def test_a_flipped_bit_in_a_text_is_found(tmp_path: Path, read: Callable[[Dataset], Any]) -> None:
    dataset = made(tmp_path)
    flip(shard_of(dataset), place_in_page(dataset, "text"))
    with pytest.raises(DatasetError, match=f"row group 1, its values.*{DAMAGED[-12:]}"):
        read(dataset)


@pytest.mark.parametrize("read", [*READERS, describe], ids=lambda read: read.__name__)
def test_the_shard_of_another_dataset_is_found(tmp_path: Path, read: Callable[[Dataset], Any]) -> None:
    dataset, other = made(tmp_path / "one"), made(tmp_path / "other", seed=1)
    shutil.copy(shard_of(other), shard_of(dataset))
    with pytest.raises(DatasetError, match=DAMAGED):
        read(dataset)


@pytest.mark.parametrize("damage", ["bytes", "another entry", "other rows", "not Arrow"])
def test_a_poisoned_cache_is_found_and_filled_again(tmp_path: Path, damage: str) -> None:
    dataset = made(tmp_path / "data")
    config = replace(CONFIG, cache=CacheConfig("disk", str(tmp_path / "cache")))
    expected = train(dataset, config)
    first, *others = sorted((tmp_path / "cache").glob("??/*.arrow"))
    good = first.read_bytes()
    if damage == "bytes":
        flip(first, len(good) // 2)
    elif damage == "another entry":
        first.write_bytes(others[0].read_bytes())
    elif damage == "other rows":
        cache = caches.open_cache(config.cache)
        assert cache is not None
        table = pa.ipc.open_stream(pa.py_buffer(good[32:])).read_all()
        cache._store(first.stem, table.set_column(4, "text", [["a"] * len(table)]), checksummed=True)
    else:
        first.write_bytes(b"no table" * 100)
    assert first.read_bytes() != good
    assert train(dataset, config) == expected
    assert first.read_bytes() == good


def test_what_goes_into_the_cache_is_checked(tmp_path: Path) -> None:
    """Also of a shard whose row groups this process has read and found good before."""
    dataset = made(tmp_path / "data")
    train(dataset)
    flip(shard_of(dataset), place_in_page(dataset, "image"))
    config = replace(CONFIG, cache=CacheConfig("disk", str(tmp_path / "cache")))
    with pytest.raises(DatasetError, match=DAMAGED):
        train(dataset, config)
    assert len(list((tmp_path / "cache").glob("??/*.arrow"))) < 3


def test_a_shard_that_is_cut_is_an_error_by_name(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    shard_of(dataset).write_bytes(shard_of(dataset).read_bytes()[:-100])
    for read in READERS:
        with pytest.raises((DatasetError, StorageError), match=r"part-00000\.parquet"):
            read(dataset)


TEXTS = st.text(max_size=4)
TABLES = st.lists(st.tuples(TEXTS, st.binary(max_size=5), st.integers(1, 99), TEXTS), min_size=1, max_size=5)


def table(rows: list[tuple[str, bytes, int, str]]) -> pa.Table:
    names, images, widths, texts = zip(*rows, strict=True)
    given = {"id": names, "image": images, "width": widths, "height": [1] * len(rows), "text": texts}
    rest = {"source": [""] * len(rows), "writer": [""] * len(rows), "level": [0] * len(rows)}
    return pa.table({**given, **rest}, schema=SCHEMA)


@given(one=TABLES, other=TABLES)
def test_tables_have_one_check_if_they_are_equal(
    one: list[tuple[str, bytes, int, str]], other: list[tuple[str, bytes, int, str]]
) -> None:
    check = check_of(table(one))
    assert (check_of(table(other)) == check) == (one == other)
    padded = table([*other, *one, *other]).slice(len(other), len(one))
    in_parts = pa.concat_tables([padded.slice(0, 1), padded.slice(1)])
    for same in (padded, in_parts, padded.select(["text", "source", "height", "width", "id"])):
        assert difference(same, check) == ""


def test_rows_of_nothing_and_of_null_are_told_apart() -> None:
    empty = table([("a", b"", 1, "")])
    null = empty.set_column(5, "source", pa.array([None], pa.string()))
    assert check_of(empty) != check_of(null) and check_of(empty.slice(0, 0)) != check_of(empty)
    assert difference(null, check_of(empty)).startswith("its values have digest")
