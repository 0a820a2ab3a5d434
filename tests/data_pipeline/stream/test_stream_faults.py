"""Storage that fails, and caches: what comes is the same bytes, what cannot come is one message in a stated time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.errors import UserError
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.storage.base import StorageError, open_storage
from data_pipeline.storage.retry import with_retries
from data_pipeline.stream import Batch, CacheConfig, StreamConfig, StreamPosition, StreamStats, TrainStream
from data_pipeline.stream.cache import SHARED_MEMORY, Cache, entry_key
from tests.support.chaos import Faults, failing
from tests.support.s3 import S3Server
from tests.support.streams import targets_of

CONFIG = StreamConfig(window_row_groups=2, storage_timeout_s=30, execution="threads")


def train_stream(dataset: Dataset, config: StreamConfig) -> TrainStream:
    return TrainStream(dataset, "train", targets_of(dataset), config, seed=3, global_batch_size=32)


def read(dataset: Dataset, config: StreamConfig, epochs: int = 1) -> list[Batch]:
    return list(train_stream(dataset, config).batches(StreamPosition(), epochs))


def contents(batches: list[Batch]) -> list[bytes]:
    return [batch.images.tobytes() + repr(batch.ids).encode() for batch in batches]


def costs(batches: list[Batch]) -> StreamStats:
    return sum((batch.stats for batch in batches), StreamStats())


@pytest.fixture(scope="module")
def local(formulas: str) -> Dataset:
    return open_dataset(formulas)


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server, local: Dataset) -> str:
    s3_server.create_bucket("stream")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.env.items():
            patch.setenv(name, value)
        open_storage("s3://stream/formulas").copy_from(Path(local.storage.path))
    return "s3://stream/formulas"


@pytest.fixture(autouse=True)
def keys(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reads from the server has its address and keys in the environment, as a user has them."""
    if "s3_server" in request.fixturenames:
        for name, value in request.getfixturevalue("s3_server").env.items():
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize("kind", ["503", "500", "hang up", "cut"])
def test_requests_that_fail_are_repeated(
    s3_server: S3Server, bucket: str, local: Dataset, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client of S3 itself tries three times: half of all requests failing is what it cannot hide.
    faults = Faults(kinds=(kind,))
    with failing(s3_server.endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        dataset = open_dataset(bucket)
        faults.share = 0.5
        batches = read(dataset, CONFIG)
    assert contents(batches) == contents(read(local, CONFIG))
    assert faults.counts[kind] > 3
    assert costs(batches).reads == 5


def test_storage_that_stays_away_is_given_up_after_the_stated_time(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(kinds=("503",))
    with failing(s3_server.endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        dataset = open_dataset(bucket)
        faults.share = 1.0
        started = time.monotonic()
        with pytest.raises(StorageError, match=r"Given up after \d+ attempts in \d s \(stream.storage_timeout_s=2\)") as raised:
            read(dataset, replace(CONFIG, storage_timeout_s=2))
    assert time.monotonic() - started < 30
    assert raised.value.transient and "train/part-00000.parquet" in str(raised.value)


def test_a_slow_storage_is_waited_for(
    s3_server: S3Server, bucket: str, local: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing(s3_server.endpoint, Faults(delay_s=0.3)) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert contents(read(open_dataset(bucket), CONFIG)) == contents(read(local, CONFIG))


def test_only_what_may_pass_is_tried_again() -> None:
    stop = threading.Event()
    answers: list[StorageError | str] = [StorageError("busy", transient=True), StorageError("busy", transient=True), "bytes"]

    def answer() -> str:
        following = answers.pop(0)
        if isinstance(following, StorageError):
            raise following
        return following

    assert with_retries(answer, 30, stop, "stream.storage_timeout_s") == ("bytes", 2)
    answers += [StorageError("gone", missing=True), "never asked for"]
    with pytest.raises(StorageError, match="gone"):
        with_retries(answer, 30, stop, "stream.storage_timeout_s")
    assert answers == ["never asked for"]
    stop.set()
    answers[:] = [StorageError("busy", transient=True), "never asked for"]
    with pytest.raises(StorageError, match="busy"):
        with_retries(answer, 30, stop, "stream.storage_timeout_s")


def test_a_stream_that_is_closed_stops_asking(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(kinds=("503",))
    with failing(s3_server.endpoint, faults) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        dataset = open_dataset(bucket)
        batches = train_stream(dataset, replace(CONFIG, storage_timeout_s=600)).batches(StreamPosition(), 100)
        next(batches)
        faults.share = 1.0
        time.sleep(1)
        batches.close()
        deadline = time.monotonic() + 30
        while any(thread.name.startswith("inkray-read") for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize("location", ["disk", "memory"])
def test_later_epochs_come_from_the_cache(local: Dataset, tmp_path: Path, location: str) -> None:
    if location == "memory" and not SHARED_MEMORY.is_dir():
        pytest.skip(f"needs {SHARED_MEMORY}")
    cache = CacheConfig(location, str(tmp_path / "cache"))  # type: ignore[arg-type]
    batches = read(local, replace(CONFIG, cache=cache), epochs=3)
    assert contents(batches) == contents(read(local, CONFIG, epochs=3))
    spent = costs(batches)
    assert (spent.reads, spent.cached) == (5, 10)
    assert spent.metrics(1)["data/cache_hit_share"] == pytest.approx(2 / 3)


def test_a_cache_survives_its_dataset(local: Dataset, tmp_path: Path) -> None:
    """Another process, later: nothing is read remotely any more."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(local.storage.path, copy)
    dataset, config = open_dataset(str(copy)), replace(CONFIG, cache=CacheConfig("disk", str(tmp_path / "cache")))
    read(dataset, config)
    shutil.rmtree(copy / "train")
    assert contents(read(dataset, config)) == contents(read(local, CONFIG))


def table(number: int, size: int = 1000) -> pa.Table:
    return pa.table({"image": pa.array([bytes([number]) * size], pa.binary())})


def key(number: int) -> str:
    return entry_key(f"ab {number}", ["image"])


def test_a_damaged_entry_is_fetched_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**6)
    assert cache.get(key(1), lambda: table(1)) == (table(1), False)
    (entry,) = tmp_path.glob("??/*.arrow")
    data = bytearray(entry.read_bytes())
    data[len(data) // 2] ^= 1
    entry.write_bytes(bytes(data))
    assert cache.get(key(1), lambda: table(1)) == (table(1), False)
    assert cache.get(key(1), lambda: pytest.fail("it is there again")) == (table(1), True)
    entry.write_bytes(b"")
    assert cache.get(key(1), lambda: table(1)) == (table(1), False)


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10_000)
    for number in range(6):
        cache.get(key(number), lambda number=number: table(number))  # type: ignore[misc]
        time.sleep(0.01)
    assert cache.get(key(0), lambda: table(0))[1], "used now: it stays"
    for number in range(6, 9):
        cache.get(key(number), lambda number=number: table(number))  # type: ignore[misc]
        time.sleep(0.01)
    held = sum(file.stat().st_size for file in tmp_path.glob("??/*"))
    assert 5000 < held <= 10_000
    assert cache.get(key(8), lambda: table(8))[1] and cache.get(key(0), lambda: table(0))[1]
    assert not cache.get(key(1), lambda: table(1))[1]


def test_an_entry_over_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 2000)
    assert cache.get(key(1), lambda: table(1, 5000)) == (table(1, 5000), False)
    assert not list(tmp_path.glob("??/*.arrow"))


_FETCHER = """
import sys, time, pyarrow as pa
from pathlib import Path
from data_pipeline.stream.cache import Cache, entry_key
cache, log = Cache(Path(sys.argv[1]), 10**7), Path(sys.argv[2])
for number in range(20):
    def fetch():
        with log.open("a") as file:
            file.write(f"{number}\\n")
        time.sleep(0.02)
        return pa.table({"image": pa.array([bytes([number]) * 1000], pa.binary())})
    table, _ = cache.get(entry_key(f"ab {number}", ["image"]), fetch)
    assert table.column("image")[0].as_py() == bytes([number]) * 1000
"""


def test_several_processes_fetch_each_entry_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", _FETCHER, str(tmp_path / "cache"), str(log)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert sorted(map(int, log.read_text().split())) == list(range(20))


def test_a_process_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    script = _FETCHER.replace("time.sleep(0.02)", "time.sleep(600)")
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "cache"), str(tmp_path / "log")])
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert Cache(tmp_path / "cache", 10**6).get(key(0), lambda: table(0)) == (table(0), False)


def test_a_cache_that_cannot_be_used_says_so(local: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = replace(CONFIG, cache=CacheConfig("disk", str(tmp_path / "file" / "cache")))
    with pytest.raises(UserError, match=r"cache cannot use '.*file/cache' \(Not a directory\). Set stream.cache.directory"):
        read(local, config)
