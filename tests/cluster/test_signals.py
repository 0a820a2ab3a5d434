"""Ctrl-C ends every command with one line and status 130: while it imports, and the second in the midst of any call."""

from __future__ import annotations

import signal
import socket
import time

import psutil
import pytest

from cluster.signals import SAME_S
from tests.support.started_processes import HEAD, read_until, started

RESUME = "Interrupted. Resume with: X"
# Each is in a call that no Python handler interrupts. What it prints comes right before.
STUCK = {
    "storage": """
def main():
    from data_pipeline.storage.base import open_storage
    say_when_interrupted("Interrupted. Resume with: X")
    open_storage("s3://bucket/run").exists()
""",
    "the storage of a run that has begun": """
def main():
    from data_pipeline.storage.base import open_storage
    say_when_interrupted("Interrupted. Resume with: X")
    with counted_signals():
        open_storage("s3://bucket/run").exists()
""",
    "a thread that the end of the process waits for": """
def main():
    from concurrent.futures import ThreadPoolExecutor
    from data_pipeline.storage.base import open_storage
    say_when_interrupted("Interrupted. Resume with: X")
    ThreadPoolExecutor(1).submit(open_storage("s3://bucket/run").exists).result()
""",
}


@pytest.mark.parametrize(
    ("command", "imported"),
    [
        ("trainers.train", "import 'cluster.environment'"),
        ("trainers.solo", "import 'torch._C'"),
        ("data_pipeline.prepare", "import 'numpy'"),
        ("models.summary", "import 'torch._C'"),
    ],
)
def test_ctrl_c_during_imports_is_one_line(command: str, imported: str) -> None:
    with started("-v", "-m", command, "--help") as process:  # -v: Python says on standard error what it has imported
        read_until(process.stderr, imported)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.endswith("Interrupted.\n"), said[-2000:]
    assert not printed and "Traceback" not in said


@pytest.mark.parametrize("where", STUCK)
def test_the_second_ctrl_c_ends_a_command_wherever_it_is(where: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and never answers
        silent.settimeout(60)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        keys = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        with started("-c", HEAD + STUCK[where] + "run_command(main)", **keys) as process:
            silent.accept()
            process.send_signal(signal.SIGINT)
            time.sleep(1.5 * SAME_S)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)  # the storage would be waited for longer
    assert process.returncode == 130 and set(said.splitlines()) == {RESUME}, said


@pytest.mark.parametrize("context", ["contextlib.nullcontext", pytest.param("ray_session", marks=pytest.mark.services)])
def test_sigterm_ends_a_command_as_ctrl_c_does(context: str) -> None:
    program = f"""
import contextlib, time
from cluster.session import ray_session
def main():
    say_when_interrupted("Interrupted. Resume with: X")
    with {context}():
        print("ready", flush=True)
        time.sleep(60)
run_command(main)"""
    with started("-c", HEAD + program) as process:
        read_until(process.stdout, "ready")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)  # as timeout(1) sends it
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed, said.strip()) == (130, "", RESUME)


@pytest.mark.services
def test_sigterm_while_ray_starts_ends_a_command_as_ctrl_c_does() -> None:
    program = """
from cluster.session import ray_session
def main():
    say_when_interrupted("Interrupted. Resume with: X")
    with ray_session():
        raise RuntimeError("Ray has started")
run_command(main)"""
    with started("-c", HEAD + program) as process:
        children = psutil.Process(process.pid).children
        while not any("gcs_server" in " ".join(child.cmdline()) for child in children() if child.is_running()):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        printed, said = process.communicate(timeout=120)
    assert (process.returncode, printed, said.strip()) == (130, "", RESUME)


def test_one_ctrl_c_that_comes_twice_is_one() -> None:
    """As timeout(1) sends it: to the process, and to its group."""
    program = """
import time
def main():
    with counted_signals() as signals:
        print("ready", flush=True)
        while not signals:
            time.sleep(0.01)
        time.sleep(1)
    print(len(signals))
run_command(main)"""
    with started("-c", HEAD + program) as process:
        read_until(process.stdout, "ready")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed, said) == (0, "1\n", "")
