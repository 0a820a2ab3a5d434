"""Folds read as one split, `fold-0+fold-2`, by everything that reads splits by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data_pipeline.dataset.manifest import Split, open_dataset
from data_pipeline.dataset.row_groups import iter_row_groups
from data_pipeline.dataset.shards import read_split, write_shard
from data_pipeline.explore import describe
from data_pipeline.storage.base import open_storage
from data_pipeline.stream import EvaluationStream, StreamPosition, TrainStream
from tests.support.numbers import COLUMNS, NumberTargets, number_manifest, number_row
from tests.support.streams import CONFIG


def test_joined_folds_are_trained_on_evaluated_and_read_as_one_split(tmp_path: Path) -> None:
    rows = [number_row(number) for number in range(240)]
    splits = {}
    for fold in range(3):
        parts = [rows[fold::3][:50], rows[fold::3][50:]]
        files = [f"fold-{fold}/part-{number:05d}.parquet" for number in range(2)]
        shards = [write_shard(open_storage(tmp_path), file, part, COLUMNS) for file, part in zip(files, parts, strict=True)]
        splits[f"fold-{fold}"] = Split(shards)
    (tmp_path / "dataset.json").write_bytes(number_manifest(splits).to_json())
    dataset, name = open_dataset(str(tmp_path)), "fold-0+fold-2"
    wanted = sorted(row.id for fold in (0, 2) for row in rows[fold::3])

    assert dataset.manifest.folds == 3 and sorted(read_split(dataset, name, ["id"]).column("id").to_pylist()) == wanted
    tables = list(iter_row_groups(dataset.storage, dataset.manifest.split(name), ["id"], [0, 3]))
    assert [table.num_rows for table in tables] == [50, 30]
    assert "fold-2: 80 rows" in describe(dataset)

    config = replace(CONFIG, execution="threads", augmentation="none")
    train = TrainStream(dataset, name, NumberTargets(), config, seed=1, global_batch_size=24)
    batches = list(train.batches(StreamPosition(), 2))
    assert sorted(found for batch in batches for found in batch.ids) == sorted(2 * wanted) and train.rows == 160
    for batch in batches:
        assert batch.images[:, 0, 0, 0].tolist() == [int(found[-3:]) for found in batch.ids]
    ranks = [EvaluationStream(dataset, name, NumberTargets(), config, batch_size=9, rank=r, world_size=2) for r in range(2)]
    assert sorted(found for stream in ranks for batch in stream.batches() for found in batch.ids) == wanted
