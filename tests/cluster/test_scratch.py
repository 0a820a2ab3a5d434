"""Scratch folders go with their process, however it ends; those of a process that was killed go when the next starts."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from cluster import scratch
from cluster.scratch import OWNER, PREFIX
from cluster.signals import SAME_S
from tests.support.started_processes import HEAD, read_until, started

PROGRAM = """
from cluster.scratch import lasting_scratch, scratch_folder
import time
def main():
    (lasting_scratch("mirror") / "file").write_text("x")
    with scratch_folder("checkpoint") as folder:
        (folder / "file").write_text("x")
        print("ready", flush=True)
        {}
run_command(main)"""
# How the process goes on, signals (0: it has its way), and its status.
ENDS = {
    "the end": ("pass", [], 0),
    "an error": ("1 / 0", [], 1),
    "Ctrl-C": ("time.sleep(60)", [signal.SIGINT], 130),
    "a second Ctrl-C": ("\n        with counted_signals(): time.sleep(60)", [signal.SIGINT, signal.SIGINT], 130),
    "a kill": ("time.sleep(60)", [signal.SIGKILL], -9),
}


def left(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(PREFIX)]


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_of_a_process(end: str, tmp_path: Path) -> None:
    then, signals, status = ENDS[end]
    with started("-c", HEAD + PROGRAM.format(then), TMPDIR=str(tmp_path)) as process:
        read_until(process.stdout, "ready")
        assert not signals or len(left(tmp_path)) == 1
        for number in signals:
            process.send_signal(number)
            time.sleep(1.5 * SAME_S)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    if end == "a kill":
        assert len(left(tmp_path)) == 1
        with started("-c", HEAD + "def main(): pass\nrun_command(main)", TMPDIR=str(tmp_path)) as following:
            assert following.wait(60) == 0
    assert not left(tmp_path)


def test_what_lives_or_is_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inkray-other").mkdir()
    (tmp_path / f"{PREFIX}young").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / OWNER).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    with started("-c", HEAD + PROGRAM.format("time.sleep(60)"), TMPDIR=str(tmp_path)) as process:
        read_until(process.stdout, "ready")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        scratch.sweep()
        assert len(left(tmp_path)) == 3 and (elsewhere / OWNER).exists() and (tmp_path / "inkray-other").exists()
    scratch.sweep()
    assert len(left(tmp_path)) == 2


def test_a_memory_cache_without_users_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "SHARED_MEMORY", tmp_path)
    cache = tmp_path / f"inkray-cache-{os.getuid()}"
    (cache / "ab").mkdir(parents=True)
    (cache / "ab" / "entry.arrow").touch()
    program = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_SH)"
    with started("-c", f"{program}; print('ready', flush=True); time.sleep(60)", str(cache / "users")) as user:
        read_until(user.stdout, "ready")
        scratch.sweep()
        assert (cache / "ab" / "entry.arrow").exists()
    scratch.sweep()
    assert not (cache / "ab").exists() and (cache / "users").exists()
    shutil.rmtree(cache)
    scratch.sweep()
