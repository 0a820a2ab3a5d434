"""A folder has one holder at a time, on disks by the system's locks, elsewhere by leases; a dead one's is taken over."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.storage.base import Storage, open_storage
from data_pipeline.storage.claim import INFO, InUse, claim
from data_pipeline.storage.holder import Holder
from data_pipeline.storage.lease import FOLDER, LOOK_S, Lease
from tests.support.s3 import S3Server

HOLD = """
import sys, time
from data_pipeline.storage.claim import claim
from data_pipeline.storage.base import open_storage
with claim(open_storage(sys.argv[1]), "training run"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A folder with the locks of a disk, and one on storage that has none."""
    return open_storage(tmp_path / "run" if request.param == "disk" else f"memory://{uuid.uuid4().hex}/run")


def test_a_second_holder_is_refused_with_the_first_ones_name(folder: Storage) -> None:
    with claim(folder, "training run") as first:
        assert not first.taken_over
        message = rf"'{folder.uri}' is in use by a training run \(process \d+ on .*, since 20"
        with pytest.raises(InUse, match=message), claim(folder, "study"):
            raise AssertionError("held twice")
        first.check()
    with claim(folder, "study") as second:
        assert not second.taken_over, "the first gave it back"


def all_at_once(*functions: Callable[[], None]) -> None:
    """Run each function in a thread of its own, to its end."""
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_many_that_begin_at_once_one_holds_it(folder: Storage) -> None:
    begin, decided = threading.Barrier(6), threading.Barrier(6)
    held: list[bool] = []

    def start() -> None:
        begin.wait()
        try:
            with claim(folder, "training run"):
                held.append(True)
                decided.wait(60)
        except InUse:
            held.append(False)
            decided.wait(60)

    all_at_once(*[start] * 6)
    assert sorted(held) == [False] * 5 + [True]


def test_a_killed_holder_is_taken_over_at_once_and_named(tmp_path: Path) -> None:
    folder = open_storage(tmp_path / "run")
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(InUse, match=f"process {process.pid} on"), claim(folder, "training run"):
        pass
    process.kill()
    process.wait()
    with claim(folder, "training run") as taken:
        assert f"process {process.pid} on" in taken.taken_over and "taken over" in taken.taken_over
    assert INFO not in folder.names()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Storage:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return open_storage(s3_server.create_bucket("claims")).child(uuid.uuid4().hex)


def test_in_a_bucket_a_living_holder_stays_and_a_killed_one_is_taken_over(bucket: Storage) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, bucket.uri], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(InUse, match=rf"process {process.pid} on .*last sign of life"), claim(bucket, "training run"):
        pass
    process.kill()
    process.wait()
    with claim(bucket, "training run") as taken:
        assert f"process {process.pid} on" in taken.taken_over


def elsewhere(what: str = "training run") -> Holder:
    """A process of another machine: nothing is known of it but what it writes."""
    return Holder(what, "far", 1, "2026-11-26 12:00:00+00:00", "far/0/0", 0.0)


def test_what_another_machine_holds_is_taken_only_when_its_lease_is_over_and_it_hears_of_that(folder: Storage) -> None:
    first = Lease(folder, elsewhere(), renew_s=3600)
    assert first.acquire() == (None, 0.0)
    rival, age_s = Lease(folder, Holder.this("study")).acquire()
    assert rival == elsewhere() and age_s < 60
    second = Lease(folder, Holder.this("study"), renew_s=0.02, dead_after_s=-1.0)  # any age is too old
    assert second.acquire() == (None, 0.0) and second.dead == [elsewhere()]
    first._write(holding=True)  # it was suspended, and goes on
    first._renew_s = 0.01
    first._renew()
    assert "a study (process" in first.lost
    first.release()
    second.release()
    assert not second.lost, "what a beaten one writes counts for nothing"
    assert not folder.child(FOLDER).names()


def test_a_lease_is_renewed(folder: Storage) -> None:
    lease = Lease(folder, elsewhere(), renew_s=0.01)
    lease.acquire()
    file = folder.child(FOLDER, lease._token)
    before = file.read_bytes()
    while file.read_bytes() in (before, b""):  # storage in memory shows a file that is being written, too
        pass
    lease.release()
    assert not file.exists()


def test_a_file_that_is_being_written_is_waited_for_and_takes_nothing_away(folder: Storage) -> None:
    """Some storage shows parts of files: who writes one wants the folder, or has it."""
    partial = folder.child(FOLDER, "z")  # behind all others
    partial.write_bytes(b'{"what": "tr')
    lease = Lease(folder, elsewhere(), renew_s=0.01)
    taken: list[Any] = []
    thread = threading.Thread(target=lambda: taken.append(lease.acquire()))
    thread.start()
    thread.join(3 * LOOK_S)
    assert thread.is_alive(), "not held beside one who may hold it"
    partial.delete()
    thread.join(60)
    assert taken == [(None, 0.0)]
    partial.write_bytes(b'{"what": "tr')
    before = lease._folder.child(lease._token).read_bytes()
    while lease._folder.child(lease._token).read_bytes() == before:
        assert not lease.lost
    assert not lease.lost
    partial.write_bytes(elsewhere().to_json(holding=True, renewed=time.time()))
    assert Lease(folder, elsewhere()).acquire()[0] == elsewhere()
    lease.release()


def test_of_several_whose_files_are_seen_in_part_one_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others' files are in the making whenever they are first looked at."""
    folder = open_storage(f"memory://{uuid.uuid4().hex}/run")
    seen: set[tuple[int, str]] = set()
    read = Storage.read_bytes

    def first_in_part(storage: Storage) -> bytes:
        key = (threading.get_ident(), storage.uri)
        content = read(storage)
        if key in seen:
            return content
        seen.add(key)
        return content[:5]

    monkeypatch.setattr(Storage, "read_bytes", first_in_part)
    begin = threading.Barrier(4)
    leases = [Lease(folder, elsewhere()) for _ in range(4)]
    rivals: list[Holder | None] = []

    def start(lease: Lease) -> None:
        lease._write(holding=False)
        begin.wait()
        rivals.append(lease.acquire()[0])

    all_at_once(*(functools.partial(start, lease) for lease in leases))
    assert rivals.count(None) == 1
    for lease in leases:
        lease.release()
