"""What goes wrong in a week on eight machines, done on purpose to real runs on real parts: they end as calm ones do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from data_pipeline.storage.base import open_storage
from tests.support.overrides import SMALL
from tests.support.processes import differences, last_state, running
from tests.support.runs import losses, small_config, train
from tests.support.s3 import S3Server
from trainers.checkpoint.select import complete_checkpoints

pytestmark = pytest.mark.services

EPOCHS = 8  # of 15 steps
CALM = ("checkpoint.every_steps=5", f"epochs={EPOCHS}")
LOCAL = ["-m", "trainers.train", "--local", *SMALL, "scaling.num_train_workers=1"]


def worker_pids() -> list[int]:
    """The processes of this session's training workers."""
    children = psutil.Process().children(recursive=True)
    return [p.pid for p in children if p.is_running() and "RayTrainWorker" in " ".join(p.cmdline())]


@pytest.fixture(scope="module")
def calm(formulas: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, float], object]:
    """The losses of a run without trouble, and its last state."""
    run, result, _ = train(small_config(formulas, tmp_path_factory.mktemp("runs"), *CALM))
    return losses(result), last_state(run)


Calm = tuple[dict[int, float], dict[str, object]]


def test_a_rank_that_hangs_is_found_named_and_replaced(calm: Calm, formulas: str, tmp_path: Path) -> None:
    """One worker is stopped (SIGSTOP): it neither dies nor answers. The other waits for it in a collective."""
    stopped: list[int] = []

    def stop_one(row: dict[str, float]) -> None:
        if row["step"] >= 10 and not stopped:  # early: on a busy machine a row may arrive tens of steps late
            stopped.append(worker_pids()[1])
            os.kill(stopped[0], signal.SIGSTOP)

    started = time.monotonic()
    run, result, printed = train(small_config(formulas, tmp_path, *CALM, "failure.hang_timeout_s=25"), on_row=stop_one)
    assert stopped and f"(process {stopped[0]} on " in printed and "hangs: " in printed and "for 25 s" in printed, printed
    assert "Resumed from checkpoint-00000" in printed and not psutil.pid_exists(stopped[0])
    assert losses(result) == calm[0] and not differences(last_state(run), calm[1])
    assert printed.count("hangs: ") == 1, "the one that waited was not blamed"
    assert time.monotonic() - started < 300


@pytest.fixture
def own_s3(tmp_path: Path) -> Iterator[S3Server]:
    """A server that this test may stop."""
    import shutil
    import tempfile

    from tests.support.s3 import PROGRAMS, start_server

    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        pytest.skip(f"needs Debian's radosgw, ceph-mon, ceph-osd: see .ci/run (not installed: {', '.join(lacking)})")
    directory = Path(tempfile.mkdtemp(prefix="inkray-s3-", dir="/tmp"))
    server = start_server(directory)
    yield server
    server.stop()
    shutil.rmtree(directory, ignore_errors=True)


def test_storage_that_is_gone_while_checkpoints_are_written_costs_no_step(
    formulas_dataset: str, own_s3: S3Server, tmp_path: Path
) -> None:
    """The S3 server is killed amid a run, and started again: training continues meanwhile, then the checkpoint is written."""
    own_s3.create_bucket("inkray-faults")
    words = [*LOCAL, f"data.dataset={formulas_dataset}", "epochs=30"]
    words += ["runs_dir=s3://inkray-faults/runs", "checkpoint.every_steps=10"]
    with running(*words, environment=own_s3.env) as command:
        for _ in range(2):  # a slow one may have been left out for the next
            command.until("Checkpoint checkpoint-")
        own_s3.stop_gateway()
        command.until("The checkpoint is tried again; training continues, the one before it stays")
        before = command.until(" step ")
        for _ in range(5):
            command.until(" step ")
        own_s3.start_gateway()
        assert command.end() == 0, command.text
    text = command.text
    assert int(before.split(" step ")[1].split("/")[0]) < 450 and "Checkpoint checkpoint-0000450" in text
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own_s3.env.items():
            patch.setenv(name, value)
        run = open_storage(command.run.uri)
        names = complete_checkpoints(run)
        assert max(names).startswith("checkpoint-0000450") and len(last_state(run)["step"]["optimizer"]) > 0
        rows = [json.loads(line) for line in run.child("metrics.jsonl").read_bytes().splitlines()]
        assert [row["step"] for row in rows if "train/loss" in row] == list(range(1, 451)), (
            "no step was taken twice or left out"
        )


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A real file system of that size at `folder`."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "inkray-test", str(folder)]
    mounted = subprocess.run(words, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs ({mounted.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_costs_no_step_and_no_checkpoint(formulas_dataset: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 12) as disk:
        words = [*LOCAL, f"data.dataset={formulas_dataset}", "epochs=30"]
        with running(*words, f"runs_dir={disk}", "checkpoint.every_steps=10") as command:
            command.until("Checkpoint checkpoint-0000020")
            with contextlib.suppress(OSError):
                (disk / "filler").write_bytes(b"\0" * 12 * 2**20)
            command.until("tried again; training continues")
            good = complete_checkpoints(command.run)
            assert good, "the one before stays"
            step = int(command.until(" step ").split(" step ")[1].split("/")[0])
            (disk / "filler").unlink()
            assert command.end() == 0, command.text
        assert step < 450 and max(complete_checkpoints(command.run)).startswith("checkpoint-0000450")
        rows = [json.loads(line) for line in command.run.child("metrics.jsonl").read_bytes().splitlines()]
        assert [row["step"] for row in rows if "train/loss" in row] == list(range(1, 451))


def test_a_disk_that_stays_full_ends_the_run_with_the_reason_and_the_last_good_checkpoint(
    formulas_dataset: str, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 12) as disk:
        words = [*LOCAL, f"data.dataset={formulas_dataset}", "epochs=2"]
        words += [f"runs_dir={disk}", "checkpoint.every_steps=5", "checkpoint.timeout_s=2"]
        with running(*words) as command:
            command.until("Checkpoint checkpoint-0000005")
            with contextlib.suppress(OSError):
                (disk / "filler").write_bytes(b"\0" * 12 * 2**20)
            assert command.end() == 2, command.text
        assert (
            "could not be written within checkpoint.timeout_s=2: No space left" in command.lines[-1]
            and "--resume" in command.lines[-1]
        )
        (disk / "filler").unlink()
        with running("-m", "trainers.train", "--local", "--resume", command.run.uri) as resumed:
            assert resumed.end() == 0, resumed.text
        assert max(complete_checkpoints(command.run)).startswith("checkpoint-0000030")


def test_a_driver_that_is_killed_is_started_again(calm: Calm, formulas: str, tmp_path: Path) -> None:
    words = ["-m", "trainers.train", *SMALL, *CALM, f"data.dataset={formulas}", f"runs_dir={tmp_path}", "report.enabled=false"]
    with running(*words) as command:
        command.until(" step 40/")
        os.kill(command.process.pid, signal.SIGKILL)  # the command alone: what it started has to notice
        command.process.wait(30)
    with running("-m", "trainers.train", "--resume", command.run.uri) as resumed:
        assert resumed.end() == 0, resumed.text
    assert "Resumed from checkpoint-00000" in resumed.text
    assert not differences(last_state(command.run), calm[1])


_ON_MACHINES = """
import socket, sys, time
import ray
from ray.cluster_utils import Cluster
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True, "dashboard_port": port})
add = lambda: cluster.add_node(num_cpus=2, object_store_memory=3 * 10**8)
nodes = [add(), add()]
ray.init(address=cluster.address, log_to_driver=False)
cluster.wait_for_nodes()
from cluster.session import quiet_ray
quiet_ray()
from tests.support.runs import losses, small_config, train
what, done = sys.argv[1], []

def on_row(row):
    if row["step"] >= 50 and not done:
        done.append(row["step"])
        if what == "lost":
            cluster.remove_node(nodes[0], allow_graceful=False)
        else:
            from ray._raylet import GcsClient
            gcs, deadline = GcsClient(address=cluster.address), int(time.time() * 1000) + 600_000
            print("drained:", gcs.drain_node(nodes[0].node_id, 2, "the cloud takes it back", deadline))
    elif what == "lost" and row["step"] >= 120 and len(done) == 1:
        done.append(row["step"])
        nodes.append(add())

overrides = ["scaling.cpus_per_worker=1.5", "stream.execution=threads", *sys.argv[4:]]
run, result, printed = train(small_config(sys.argv[2], sys.argv[3], *overrides), on_row=on_row)
print(printed)
print("steps", sorted(losses(result)) == list(range(1, 601)))
ray.shutdown()
cluster.shutdown()
"""


def on_two_machines(what: str, formulas: str, tmp_path: Path, *overrides: str) -> str:
    """Train on a cluster of two machines (processes of this one) of which one is `lost` or `drained`; what was printed."""
    environment = os.environ | {
        "RAY_TMPDIR": f"/tmp/inkray-{what}-{os.getpid()}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_failure_threshold": "4",
    }
    environment.pop("RAY_ADDRESS")
    words = [sys.executable, "-c", _ON_MACHINES, what, formulas, str(tmp_path), *overrides]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_lost_machine_leaves_fewer_workers_and_one_that_is_found_more(formulas: str, tmp_path: Path) -> None:
    elastic = ["scaling.min_train_workers=1", "scaling.resize_interval_s=5"]
    printed = on_two_machines("lost", formulas, tmp_path, "epochs=40", "checkpoint.every_steps=7", *elastic)
    worlds = re.findall(r"(\d) workers? on cpu", printed)
    assert worlds == ["2", "1", "2"] and printed.count("Resumed from checkpoint-0000") == 2, printed[-3000:]
    assert "steps True" in printed, "every step once in the history"


def test_a_machine_that_is_taken_back_gets_a_checkpoint_first(formulas: str, tmp_path: Path) -> None:
    # Long epochs: hardly ever is the checkpoint of an epoch's end the one that is asked for.
    printed = on_two_machines("drained", formulas, tmp_path, "epochs=4", "global_batch_size=2", "checkpoint.every_steps=0")
    assert "is about to be taken away: a checkpoint is written now" in printed, printed[-3000:]
    after = printed[printed.index("is about to be taken away") :]
    first = int(after.split("Checkpoint checkpoint-")[1][:7])
    assert first % 150, f"it is there before its time: {first}"
    assert "steps True" in printed
