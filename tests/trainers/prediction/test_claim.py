"""An output folder has one owner: of those that start together, after one that was killed, with and without locks."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from cluster.errors import UserError
from data_pipeline.storage import Storage, open_storage
from trainers.prediction import claim
from trainers.prediction.claim import CLAIMS, Claim, claimed

# Says "mine" once it owns the folder, and keeps it until it is killed.
OWNER = """
import sys, time
from data_pipeline.storage import open_storage
from trainers.prediction.claim import claimed
with claimed(open_storage(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(600)
"""


def start_together(out: Storage, contenders: int) -> list[str]:
    """What becomes of threads that claim `out` in the same moment and keep it until all know."""
    outcomes: list[str] = []
    begin, decided = threading.Barrier(contenders), threading.Barrier(contenders)

    def contend() -> None:
        begin.wait(60)
        try:
            with claimed(out):
                outcomes.append("owns")
                decided.wait(60)
                return
        except UserError as error:
            outcomes.append(str(error))
        decided.wait(60)

    threads = [threading.Thread(target=contend) for _ in range(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return sorted(outcomes)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "BEAT_S", 0.3)
    monkeypatch.setattr(claim.random, "uniform", lambda least, most: 0.02 + 0.2 * claim.random.random())


def test_of_jobs_that_start_together_on_a_disk_one_owns_the_place(tmp_path: Path) -> None:
    for turn in range(20):
        *refused, owner = start_together(open_storage(tmp_path / f"out{turn}"), 4)
        assert owner == "owns" and len(refused) == 3 and all("Another job" in text for text in refused)


def test_of_jobs_that_start_together_without_locks_one_owns_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    for _ in range(3):
        out = open_storage(f"memory://claims/{uuid.uuid4().hex}")
        *refused, owner = start_together(out, 3)
        assert owner == "owns" and len(refused) == 2 and all("Another job" in text for text in refused)
        assert out.child(CLAIMS).names() == []


def test_a_killed_job_is_followed_at_once_and_a_living_one_refused(tmp_path: Path) -> None:
    out = open_storage(tmp_path / "out")
    process = subprocess.Popen([sys.executable, "-c", OWNER, out.path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "mine\n"
        with pytest.raises(UserError, match="Another job"), claimed(out):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    with claimed(out) as require:
        require()


def test_a_claim_of_the_dead_is_removed_and_one_that_lives_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "BEAT_S", 0.2)
    folder = open_storage(f"memory://claims/{uuid.uuid4().hex}").child(CLAIMS)
    # Of this machine, whose process is gone; of another, that stands still.
    folder.child("gone").write_bytes(
        b'{"state": "owns", "host": "%s", "pid": 4194999, "started": 1.0}' % claim._host().encode()
    )
    folder.child("still").write_bytes(b'{"state": "owns", "host": "elsewhere", "pid": 1, "started": 1.0, "beats": 7}')
    first = Claim(folder, "there")
    first.take()
    assert len(folder.names()) == 1
    with pytest.raises(UserError, match="Another job"):
        Claim(folder, "there").take()
    first.require()
    folder.child(folder.names()[0]).delete()  # as one does that has seen no sign of it
    deadline = time.monotonic() + 60
    with pytest.raises(UserError, match="taken over"):
        while time.monotonic() < deadline:
            first.require()
            time.sleep(0.05)
    first.release()
    assert folder.names() == []


def test_a_place_that_cannot_be_written_is_said_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "out", "/proc/out"):
        with pytest.raises(UserError, match="Cannot write to"), claimed(open_storage(place)):
            pass


def test_of_jobs_on_s3_one_owns_the_place(s3_server: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.s3 import S3Server

    assert isinstance(s3_server, S3Server)
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    quick(monkeypatch)
    out = open_storage(s3_server.create_bucket("inkray-claims") + "/out")
    *refused, owner = start_together(out, 3)
    assert owner == "owns" and len(refused) == 2
    with contextlib.ExitStack() as stack:
        stack.enter_context(claimed(out))
        with pytest.raises(UserError, match="Another job"):
            stack.enter_context(claimed(out))
    assert out.child(CLAIMS).names() == []
