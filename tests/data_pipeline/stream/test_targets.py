"""Targets of any task: a second encoder, a number for each image, goes through the same dataset, stream and commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import UserError, user_error_in
from data_pipeline import bench, explore
from data_pipeline.dataset.manifest import Dataset, DatasetError, open_dataset
from data_pipeline.dataset.shards import Rejected, Row, read_split
from data_pipeline.dataset.targets import TargetEncoder
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.preparation.build import Chunk, build_dataset
from data_pipeline.storage.base import open_storage
from data_pipeline.stream import Batch, CacheConfig, EvaluationStream, StreamConfig, StreamPosition, TrainStream
from tests.support.numbers import NumberTargets, number_manifest, number_row, write_numbers
from tests.support.streams import CONFIG


def stream(dataset: Dataset, config: StreamConfig, targets: TargetEncoder | None = None) -> TrainStream:
    return TrainStream(dataset, "train", targets or NumberTargets(), config, seed=1, global_batch_size=24)


def test_another_encoder_is_streamed_by_threads_and_by_tasks(ray_cluster: None, tmp_path: Path, config: StreamConfig) -> None:
    """Several windows and epochs, with a cache: batches are cut across windows, whose parts the encoder concatenates."""
    rows = [*(number_row(number) for number in range(250)), number_row(250, 1001), number_row(251, 1002)]
    dataset = write_numbers(tmp_path / "data", rows)
    config = replace(config, augmentation="none", cache=CacheConfig("disk", str(tmp_path / "cache")))
    for _ in range(2):  # the second time from the cache
        batches = list(stream(dataset, config).batches(StreamPosition(), 2))
        assert sorted(name for batch in batches for name in batch.ids) == sorted(2 * [row.id for row in rows])
        for batch in batches:
            check(batch)
        errors = {name: reason for batch in batches for name, reason in batch.errors.items()}
        assert errors == {"row-250": "1001 is above 1000", "row-251": "1002 is above 1000"}


def check(batch: Batch) -> None:
    numbers = batch.targets["numbers"]
    assert numbers.shape == batch.weights.shape and numbers.dtype == np.float32
    for index, name in enumerate(batch.ids):
        count = batch.columns["count"][index]
        assert batch.columns.keys() == {"count"} and count == (int(name[-3:]) if name < "row-250" else 751 + int(name[-3:]))
        assert batch.weights[index] == (name not in batch.errors)
        if name in batch.errors:
            assert np.isnan(numbers[index]) and (batch.images[index] == 255).all()
        else:
            assert numbers[index] == count == batch.images[index, 0, 0, 0]


def test_a_mistake_in_a_target_ends_the_run(ray_cluster: None, tmp_path: Path, config: StreamConfig) -> None:
    dataset = write_numbers(tmp_path, [number_row(0), number_row(1, -1)])
    with pytest.raises(Exception) as raised:
        list(stream(dataset, config).batches(StreamPosition(), 1))
    assert str(user_error_in(raised.value)) == "A count of -1 is no count."


def test_a_column_that_the_encoder_needs_and_the_dataset_lacks_is_named(tmp_path: Path) -> None:
    dataset = write_numbers(tmp_path, [number_row(0)])
    message = "of the task 'count': it has no column 'text'. Its columns are: count, weights"
    with pytest.raises(DatasetError, match=message):
        EvaluationStream(dataset, "train", TokenTargets(Tokenizer(["a"])), CONFIG, batch_size=4)
    with pytest.raises(DatasetError, match=r"has no charset: .*its task: 'count'"):
        _ = dataset.manifest.charset


def test_a_dataset_of_another_task_is_built_explored_and_measured(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build_dataset(open_storage(tmp_path), number_manifest({}), [Chunk("train", 0, 30, None)], numbers)
    dataset = open_dataset(str(tmp_path))
    assert dataset.manifest == made and made.split("train").rows == 29 and made.target == {"unit": "strokes"}
    assert read_split(dataset, "train", ["weights"]).column("weights")[3].as_py() == [3.0, 0.5]
    grid = tmp_path / "grid.png"
    monkeypatch.setattr("sys.argv", ["explore", str(tmp_path), "--grid", str(grid), "--where", "widest"])
    assert explore.main() == 0 and grid.exists()
    shown = capsys.readouterr().out
    for stated in ("numbers: count, images gray 16 high", "columns count, weights", "train: 29 rows", "count: 0: 1, 1: 1"):
        assert stated in shown
    monkeypatch.setattr("sys.argv", ["explore", str(tmp_path), "--grid", str(grid), "--where", "longest"])
    with pytest.raises(UserError, match="--where longest sorts by the length of texts, which 'numbers' does not have"):
        explore.main()
    measured = bench.Bench(dataset, "train", StreamConfig(augmentation="none"), 8, seconds=0.05)
    assert measured.reading().rate > 0 and measured.decoding("none", 1).rate > 0 and measured.streaming("threads").rate > 0


def numbers(chunk: Chunk) -> tuple[list[Row], list[Rejected]]:
    return [number_row(number) for number in range(29)], [Rejected("odd", chunk.split, "odd", "why")]
