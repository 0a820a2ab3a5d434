"""What a run reads before its first step: each file of the dataset and of the checkpoint that it starts from, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.storage.base import open_storage
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import command_here
from tests.support.overrides import SMALL
from trainers.checkpoint.format import COMPLETE, CONFIG, DATA, WEIGHTS
from trainers.engine.step import TrainStep
from trainers.tasks.sequence import SequenceTask

PLACE = "memory://reads"


class FirstStep(Exception):
    """The first step is about to be taken."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each file below PLACE is opened for reading until the first step, which ends the run."""
    counts: Counter[str] = Counter()
    open_file = MemoryFileSystem._open

    def spy(self: MemoryFileSystem, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb":
            counts[path.partition("/reads/")[2]] += 1
        return open_file(self, path, mode, **options)

    def stop(self: TrainStep, *arguments: Any) -> None:
        raise FirstStep

    monkeypatch.setattr(MemoryFileSystem, "_open", spy)
    monkeypatch.setattr(TrainStep, "__call__", stop)
    yield counts
    open_storage(PLACE).delete()


def test_each_file_is_read_once(formulas_dataset: str, tmp_path: Path, opened: Counter[str]) -> None:
    manifest = open_dataset(formulas_dataset).manifest
    open_storage(f"{PLACE}/data").copy_from(Path(formulas_dataset))
    write_checkpoint(tmp_path / "checkpoint", manifest=manifest)
    open_storage(f"{PLACE}/checkpoint").copy_from(tmp_path / "checkpoint")
    opened.clear()
    words = [*SMALL, f"data.dataset={PLACE}/data", f"init.checkpoint={PLACE}/checkpoint", f"runs_dir={tmp_path}/runs"]
    with pytest.raises(FirstStep):
        command_here("trainers.train", "--local", *words)
    expected = dict.fromkeys([COMPLETE, CONFIG, DATA, SequenceTask.file], 1)
    expected[WEIGHTS] = 2  # its header to check, then the whole file
    assert {name.partition("/")[2]: count for name, count in opened.items() if name.startswith("checkpoint/")} == expected
    of_data = {name.partition("/")[2]: count for name, count in opened.items() if name.startswith("data/")}
    shards = {shard.file for split in manifest.splits.values() for shard in split.shards}
    assert {name: count for name, count in of_data.items() if name not in shards} == {"dataset.json": 1}
    for shard in manifest.split("val").shards:
        assert of_data.pop(shard.file) == 1, "the column of its sources"
    # Shards of the training split are opened for each window of the stream, which reads other row groups of them.
    trained = {shard.file for shard in manifest.split("train").shards}
    assert of_data.keys() - {"dataset.json"} <= trained, "no other split is read"
