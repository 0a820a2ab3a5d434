"""The stream on a real Ray session: the plan's order, each row once, faults counted or named, nothing left running."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from ray import cloudpickle

from cluster.errors import UserError, user_error_in
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Dataset, DatasetError, open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import StorageError
from data_pipeline.stream import EvaluationStream, StreamConfig, StreamPosition
from data_pipeline.stream.batch import Batch, pad_images
from data_pipeline.stream.config import Execution
from tests.support.datasets import text_row, write_sequence_dataset
from tests.support.streams import BATCH, CONFIG, digests, of_all_ranks, targets_of, train_stream


@pytest.fixture(scope="module")
def dataset(formulas: str) -> Dataset:
    return open_dataset(formulas)


@pytest.fixture(scope="module")
def two_epochs(dataset: Dataset) -> list[Batch]:
    return list(train_stream(dataset).batches(StreamPosition(), 2))


def small_dataset(folder: Path, images: dict[str, bytes], texts: dict[str, str], charset: list[str]) -> Dataset:
    rows = [text_row(name, data, 40, 32, texts.get(name, "a b")) for name, data in images.items()]
    return write_sequence_dataset(folder, rows, charset, ImagePolicy(32, 64))


def good_images(count: int) -> dict[str, bytes]:
    return {f"good-{index:02d}": encode_png(np.full((32, 40), 100 + index, np.uint8)) for index in range(count)}


def test_an_epoch_is_every_row_once_and_the_next_has_another_order(dataset: Dataset, two_epochs: list[Batch]) -> None:
    steps = train_stream(dataset).total_steps(1)
    assert len(two_epochs) == train_stream(dataset).total_steps(2) == 2 * steps == 20
    first, second = ([name for batch in part for name in batch.ids] for part in (two_epochs[:steps], two_epochs[steps:]))
    assert sorted(first) == sorted(second) == [f"train-{number:08d}" for number in range(300)]
    assert first != second
    assert sum(batch.weights.sum() for batch in two_epochs) == 600
    assert [batch.position for batch in two_epochs[-2:]] == [StreamPosition(1, 288), StreamPosition(2, 0)]
    assert [batch.global_size for batch in two_epochs[8:10]] == [32, 12]


def test_batches_are_what_they_say(dataset: Dataset, two_epochs: list[Batch]) -> None:
    tokenizer = Tokenizer(dataset.manifest.charset)
    for batch in two_epochs[:3]:
        assert batch.images.dtype == np.uint8 and batch.images.shape[:3] == (BATCH, 1, 64)
        assert batch.images.shape[3] % 32 == 0 and batch.images.shape[3] - batch.sizes[:, 1].max() < 32
        assert [tokenizer.decode(row) for row in batch.targets["tokens"]] == batch.columns["text"]
        assert (batch.sizes[:, 0] == 64).all()
        for image, width in zip(batch.images, batch.sizes[:, 1], strict=True):
            assert (image[:, :, width:] == dataset.manifest.image.background).all()


def test_the_same_seed_gives_the_same_bytes_either_way(dataset: Dataset, two_epochs: list[Batch], config: StreamConfig) -> None:
    again = list(train_stream(dataset, config=config).batches(StreamPosition(), 2))
    assert [batch.position for batch in again] == [batch.position for batch in two_epochs]
    assert [batch.images.tobytes() for batch in again] == [batch.images.tobytes() for batch in two_epochs]
    assert [batch.targets["tokens"].tobytes() for batch in again] == [batch.targets["tokens"].tobytes() for batch in two_epochs]


def test_an_image_is_augmented_differently_each_epoch(two_epochs: list[Batch]) -> None:
    drawn = [dict(line.split() for batch in part for line in digests(batch)) for part in (two_epochs[:10], two_epochs[10:])]
    same = sum(drawn[0][name] == drawn[1][name] for name in drawn[0])
    assert 0 < same < 150  # some draws leave an image as it is


def test_two_ranks_read_what_one_reads_however_slow_one_is(
    dataset: Dataset, two_epochs: list[Batch], config: StreamConfig
) -> None:
    """Ray deals blocks to ranks in turn, however fast they take them."""
    ranks = of_all_ranks(dataset, 2, config, StreamPosition(), 2, pause_s=0.03)
    for alone, first, second in zip(two_epochs, *ranks, strict=True):
        assert digests(first) + digests(second) == digests(alone)
        assert first.position == second.position == alone.position
        assert len(first) == len(second), "ranks whose batches differ in size"
        assert first.weights.sum() + second.weights.sum() == len(alone.ids)


def test_a_resumed_run_goes_on_where_it_stopped(dataset: Dataset, two_epochs: list[Batch], config: StreamConfig) -> None:
    stopped = two_epochs[5].position
    ranks = of_all_ranks(dataset, 3, config, stopped, 2)
    rest = [[line for batch in batches for line in digests(batch)] for batches in zip(*ranks, strict=True)]
    assert rest == [digests(batch) for batch in two_epochs[6:]]


@pytest.mark.parametrize("execution", ["threads", "ray"])  # a process of its own is for training
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_evaluation_reads_every_row_once(dataset: Dataset, world_size: int, execution: Execution) -> None:
    config = replace(CONFIG, execution=execution)
    ids: list[str] = []
    weight = 0.0
    for rank in range(world_size):
        stream = EvaluationStream(
            dataset, "train", targets_of(dataset), config, batch_size=24, rank=rank, world_size=world_size
        )
        for batch in stream.batches():
            ids += batch.ids
            weight += float(batch.weights.sum())
    assert sorted(ids) == [f"train-{number:08d}" for number in range(300)]
    assert weight == 300


def test_an_evaluation_may_have_a_rank_without_rows(dataset: Dataset) -> None:
    targets = targets_of(dataset)
    streams = [EvaluationStream(dataset, "val", targets, CONFIG, batch_size=64, rank=r, world_size=2) for r in range(2)]
    batches = [list(stream.batches()) for stream in streams]
    assert [sum(len(batch.ids) for batch in part) for part in batches] == [40, 0]


def test_images_that_cannot_be_decoded_are_counted_and_not_fatal(ray_cluster: None, tmp_path: Path) -> None:
    png = encode_png(np.zeros((32, 40), np.uint8))
    bad = {
        "garbage": b"\x00garbage",
        "cut": png[: len(png) // 2],
        "empty": b"",
        "tall": encode_png(np.zeros((40, 40), np.uint8)),
    }
    dataset = small_dataset(tmp_path, good_images(6) | bad, {}, ["a", "b"])
    (batch,) = EvaluationStream(dataset, "train", targets_of(dataset), CONFIG, batch_size=64).batches()
    assert batch.errors.keys() == bad.keys()
    assert batch.errors["empty"] == "empty file" and "40x40" in batch.errors["tall"]
    weights = dict(zip(batch.ids, batch.weights, strict=True))
    assert weights == {name: float(name.startswith("good")) for name in [*good_images(6), *bad]}
    (trained,) = train_stream(dataset).batches(StreamPosition(), 1)
    assert trained.errors == batch.errors and trained.weights.sum() == 6
    blank = trained.images[trained.weights == 0]
    assert (blank == 255).all(), "a sample that does not count shows nothing"


def test_a_token_outside_the_vocabulary_is_named(ray_cluster: None, tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path, good_images(4), {"good-02": r"a \strange b"}, ["a", "b"])
    with pytest.raises(UserError, match=r"\\\\strange"):
        list(train_stream(dataset).batches(StreamPosition(), 1))


def test_a_missing_shard_is_named_at_once(
    dataset: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str], config: StreamConfig
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset.storage.path, copy)
    (copy / "train" / "part-00000.parquet").unlink()
    with pytest.raises(Exception) as raised:
        list(train_stream(open_dataset(str(copy)), config=config).batches(StreamPosition(), 3))
    mistake = user_error_in(raised.value)
    assert isinstance(mistake, StorageError)
    assert str(mistake) == f"'{copy}/train/part-00000.parquet' does not exist."
    assert "Traceback" not in capfd.readouterr().err


def test_a_damaged_shard_is_named(dataset: Dataset, tmp_path: Path, config: StreamConfig) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset.storage.path, copy)
    (copy / "train" / "part-00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(Exception) as raised:
        list(train_stream(open_dataset(str(copy)), config=config).batches(StreamPosition(), 1))
    assert "train/part-00000.parquet" in str(user_error_in(raised.value))


def running() -> set[str]:
    """Our threads and Ray Data's. Its `Prefetcher` is not among them: it stays, parked, when an execution is abandoned."""
    gc.collect()
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith(("inkray-", "StreamingExecutor", "iter_threaded"))}


@pytest.mark.parametrize(("way", "thread"), [("threads", "inkray-decode"), ("ray", "StreamingExecutor")])
def test_a_stream_left_early_leaves_nothing_running(dataset: Dataset, way: Execution, thread: str) -> None:
    batches = train_stream(dataset, config=replace(CONFIG, execution=way)).batches(StreamPosition(), 100)
    next(batches)
    assert any(name.startswith(thread) for name in running())
    batches.close()
    deadline = time.monotonic() + 20  # Ray Data gives its own thread 2 s to end
    while running() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running()


def test_a_slow_reader_does_not_fill_the_object_store(dataset: Dataset) -> None:
    from ray._private.internal_api import memory_summary

    config = replace(CONFIG, augmentation="none", execution="ray", memory_mb=200)
    batches = train_stream(dataset, config=config).batches(StreamPosition(), 300)
    for _ in range(3):
        next(batches)
    time.sleep(4)  # 300 epochs are 1.5 GB of pixels; what is not asked for is not to be read
    # Named, for other sessions may run on this machine.
    summary = memory_summary(ray.get_runtime_context().gcs_address, stats_only=True)
    batches.close()
    line = next(line for line in summary.splitlines() if line.startswith("Plasma memory usage"))
    assert int(line.split()[3]) < 400, line


@pytest.mark.parametrize("kept", [200, 64])
def test_a_shard_that_is_shorter_than_the_manifest_says_is_named(dataset: Dataset, tmp_path: Path, kept: int) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset.storage.path, copy)
    shard = copy / "train" / "part-00000.parquet"
    pq.write_table(pq.read_table(shard).slice(0, kept), shard, row_group_size=64)
    with pytest.raises(Exception) as raised:
        list(train_stream(open_dataset(str(copy))).batches(StreamPosition(), 1))
    mistake = user_error_in(raised.value)
    assert isinstance(mistake, DatasetError) and f"Shard '{shard}' is not the one that the manifest describes" in str(mistake)
    with pytest.raises(DatasetError, match=f"Shard '{shard}' is not the one that the manifest describes"):
        read_split(open_dataset(str(copy)), "train", ["id"])


def test_a_task_is_given_its_own_window_alone(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many epochs there are, what a task is sent does not grow."""
    sent: list[int] = []
    put = ray.put

    def measured(value: object) -> object:
        sent.append(len(cloudpickle.dumps(value)))
        return put(value)

    monkeypatch.setattr(ray, "put", measured)
    largest = []
    for epochs in (1, 300):
        sent.clear()
        batches = train_stream(dataset, config=replace(CONFIG, execution="ray")).batches(StreamPosition(), epochs)
        next(batches)
        batches.close()
        largest.append(max(sent))
    assert largest[1] < 1.2 * largest[0]


def test_images_are_padded_to_one_size() -> None:
    policy = ImagePolicy(4, 64, background=9)
    batch, sizes = pad_images([np.full((4, 40), 1, np.uint8), np.full((4, 3, 1), 2, np.uint8)], policy)
    assert batch.shape == (2, 1, 4, 64) and sizes.tolist() == [[4, 40], [4, 3]]
    assert (batch[0, 0, :, :40] == 1).all() and (batch[0, 0, :, 40:] == 9).all() and (batch[1, 0, :, 3:] == 9).all()
    colored = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    batch, _ = pad_images([colored], ImagePolicy(4, 64, "rgb"))
    assert batch.shape == (1, 3, 4, 32) and np.array_equal(batch[0, :, :, :5].transpose(1, 2, 0), colored)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("killed", [0, 1, 4, 9])
def test_killed_and_resumed_at_any_size_each_image_comes_once_in_one_order(
    dataset: Dataset, two_epochs: list[Batch], world_size: int, killed: int
) -> None:
    """Through real files and threads: some steps with `world_size` ranks, the rest of the epoch with every other number."""
    order = [name for batch in two_epochs[:10] for name in batch.ids]
    ranks = [train_stream(dataset, rank, world_size).batches(StreamPosition(), 1) for rank in range(world_size)]
    seen = [name for _ in range(killed) for batches in ranks for name in next(batches).ids]
    for batches in ranks:
        batches.close()
    for resumed in (1, 2, 3):
        rest = of_all_ranks(dataset, resumed, replace(CONFIG, execution="threads"), StreamPosition(0, len(seen)), 1)
        assert seen + [name for step in zip(*rest, strict=True) for batch in step for name in batch.ids] == order


def test_an_image_that_is_not_what_its_row_says_is_left_out(ray_cluster: None, tmp_path: Path) -> None:
    rows = [text_row("right", encode_png(np.zeros((32, 40), np.uint8)), 40, 32, "a")]
    rows.append(text_row("wrong", encode_png(np.zeros((32, 60), np.uint8)), 40, 32, "a"))
    dataset = write_sequence_dataset(tmp_path, rows, ["a"], ImagePolicy(32, 64))
    (batch,) = train_stream(dataset).batches(StreamPosition(), 1)
    assert batch.errors == {"wrong": "60x32 pixels, its row says 40x32"}
