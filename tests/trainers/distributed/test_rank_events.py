"""Events of all ranks reach the log of rank 0 without Ray: whatever a rank emits, to the last one."""

from __future__ import annotations

import datetime
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch.distributed as dist

from tests.support.broken_images import copy_with_broken_images
from tests.support.overrides import SMALL
from tests.support.processes import running
from trainers.distributed.rank_events import RankEvents
from trainers.engine.events import Event, Note, Warned

BAD = [3, 7, 20, 77, 100, 150, 200, 299]


@pytest.fixture
def store() -> dist.Store:
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=datetime.timedelta(seconds=20))


def test_events_come_in_the_order_of_each_rank_and_once(store: dist.Store) -> None:
    first, second, third = (RankEvents(store, rank, 3) for rank in range(3))
    pushed: list[Event] = [Warned(f"{number}") for number in range(6)]
    for number, event in enumerate(pushed):
        (second, third)[number % 2].emit(event)
    taken = first.take(at_once=True)
    assert taken == pushed[0::2] + pushed[1::2] and first.take(at_once=True) == []
    second.emit(pushed[0])
    second.done()
    third.emit(pushed[1])
    third.done()
    assert first.rest(20) == pushed[:2] and first.rest(20) == []


def test_a_rank_that_is_never_done_is_not_waited_for_and_its_events_are_not_lost(store: dist.Store) -> None:
    first, second, third = (RankEvents(store, rank, 3) for rank in range(3))
    second.emit(Note("before the crash"))
    third.done()
    assert first.rest(0.1) == [Note("before the crash")]


def test_a_store_that_is_gone_is_no_error() -> None:
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    client = dist.TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False)
    events = RankEvents(client, 1, 2)
    del server
    for _ in range(3):
        events.emit(Note("unheard"))
    events.done()


@pytest.mark.services
def test_images_rejected_on_every_rank_of_torchrun_are_listed(formulas_dataset: str, tmp_path: Path) -> None:
    copy_with_broken_images(formulas_dataset, tmp_path / "data", {"train": BAD})
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "trainers.train", *SMALL, "epochs=1"]
    words += ["data.val_split=", "data.test_split=", "stream.max_rejected=0.1"]
    words += [f"data.dataset={tmp_path / 'data'}", f"runs_dir={tmp_path}"]
    with running(*words) as command:
        assert command.end() == 0, command.text
    ids = pq.read_table(tmp_path / "data" / "train" / "part-00000.parquet", columns=["id"]).column("id").to_pylist()
    expected = {ids[row] for row in BAD}
    rejected = pq.read_table(io.BytesIO(command.run.child("rejected.parquet").read_bytes())).to_pylist()
    assert {row["id"] for row in rejected} == expected and len(rejected) == len(BAD)
    for name in expected:
        assert command.text.count(f"image '{name}' is left out") == 1, command.text
