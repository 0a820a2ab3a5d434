"""Who can speak with a private session, and what the workers of a joined cluster get."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray

from tests.support.places import ROOT

PRIVATE = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}


def run_python(program: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, at `folder`, with no token but what `settings` give."""
    environment = {name: value for name, value in os.environ.items() if name not in PRIVATE}
    environment |= {"HOME": str(folder), "PYTHONPATH": str(ROOT), **settings}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False)


def outsiders_view(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    address = ray.get_runtime_context().gcs_address
    # What `ray.init` does first; it repeats it for 20 s when it is refused.
    program = f"from ray._raylet import GcsClient; GcsClient('{address}', None).cluster_id; print('joined')"
    return run_python(program, folder, RAY_ADDRESS="", **settings)


def listeners_of(process: psutil.Process) -> set[str]:
    """The addresses at which it and its descendants accept connections."""
    found = set()
    for each in (process, *process.children(recursive=True)):
        try:
            found |= {c.laddr.ip for c in each.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture
def private(ray_cluster: None) -> str:
    if os.environ.get("RAY_AUTH_MODE") != "token" or "RAY_AUTH_TOKEN" not in os.environ:
        pytest.fail("the session has no token in this process's environment")
    return os.environ["RAY_AUTH_TOKEN"]


def test_a_private_session_listens_on_loopback_alone(ray_cluster: None) -> None:
    assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
    # Ray's servers are children of this process; other tests' servers are on loopback as well.
    found = listeners_of(psutil.Process())
    assert found and found <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_a_private_session_is_closed_to_who_lacks_its_token(private: str, tmp_path: Path) -> None:
    assert outsiders_view(tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=private).stdout == "joined\n"
    other = outsiders_view(tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    none = outsiders_view(tmp_path, RAY_AUTH_MODE="disabled")
    for refused in (other, none):
        assert refused.returncode != 0 and "joined" not in refused.stdout and "AuthenticationError" in refused.stderr
        assert private not in refused.stdout + refused.stderr


def test_the_token_is_in_no_file_and_no_command_line(private: str) -> None:
    folder = Path(os.environ["RAY_TMPDIR"])
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files and not [path for path in files if private.encode() in path.read_bytes()]
    commands = [each.cmdline() for each in psutil.Process().children(recursive=True) if each.is_running()]
    assert not any(private in word for command in commands for word in command)


@pytest.mark.slow
def test_ray_that_does_not_start_is_one_message_and_leaves_nothing_running(tmp_path: Path) -> None:
    """As on a machine that is too busy: Ray's node is stopped as it starts, and Ray gives up after 30 s."""
    command = [sys.executable, "-m", "data_pipeline.synthesize", "formulas", str(tmp_path / "out"), "--count=4"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    started: list[psutil.Process] = []
    while not any(each.name() == "raylet" for each in started):
        assert process.poll() is None, "it ended before Ray's node was there"
        started = psutil.Process(process.pid).children(recursive=True)
    for each in started:
        if each.name() == "raylet":
            each.suspend()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert printed.startswith("error: Ray could not start on this machine (The current node timed out")
    assert "Traceback" not in printed and printed.count("\n") == 1
    assert not psutil.wait_procs(started, timeout=20)[1]


def test_the_state_api_answers_inside_an_actor(ray_cluster: None) -> None:
    """Ray Train asks it whether a controller lives, to free the machines of one that does not."""

    class Asking:
        def alive(self, actor_id: str, address: str) -> bool:
            os.environ["RAY_ADDRESS"] = address  # other sessions on this machine are none of this test's business
            from ray.train.v2._internal.state.util import is_actor_alive

            return bool(is_actor_alive(actor_id, timeout=20))

    actor = ray.remote(num_cpus=0.1)(Asking).remote()
    assert ray.get(actor.alive.remote(actor._actor_id.hex(), ray.get_runtime_context().gcs_address), timeout=60)


JOIN = """
import os, ray
from cluster.session import ray_session

def there():
    import data_pipeline.storage.base
    return data_pipeline.storage.base.__file__, {n: v for n, v in os.environ.items() if n.startswith('AWS_')}, os.listdir()

with ray_session():
    file, settings, names = ray.get(ray.remote(there).remote())
print(file, settings['AWS_ENDPOINT_URL'], settings['AWS_REGION'], 'AWS_SECRET_ACCESS_KEY' in settings)
print('tests' in names, '.git' in names, 'configs' in names)
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    time.sleep(0.1)
    return False


def test_workers_of_a_joined_cluster_get_the_code_and_the_store(tmp_path: Path) -> None:
    gcs, client, agent = free_ports(3)
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=1"]
    command += [f"--port={gcs}", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
    command += ["--node-ip-address=127.0.0.1", "--include-dashboard=false", "--object-store-memory=100000000"]
    environment = {name: value for name, value in os.environ.items() if name not in PRIVATE | {"RAY_ADDRESS", "PYTHONPATH"}}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    nowhere = subprocess.DEVNULL
    head = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=nowhere, stderr=nowhere)
    try:
        while not listens(gcs):
            assert head.poll() is None, "it ended before it listened"
        done = run_python(
            JOIN,
            tmp_path,
            RAY_ADDRESS=f"127.0.0.1:{gcs}",
            RAY_AUTH_MODE="disabled",
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
            AWS_ENDPOINT_URL="http://127.0.0.1:9",
            AWS_REGION="eu-x-1",
            AWS_SECRET_ACCESS_KEY="never-sent",
        )
    finally:
        started = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        psutil.wait_procs(started, timeout=20)
        head.wait(20)
    assert done.returncode == 0, done.stderr
    where, names = done.stdout.splitlines()
    assert where.split()[1:] == ["http://127.0.0.1:9", "eu-x-1", "False"]
    assert not where.startswith(str(ROOT)) and "/working_dir_files/" in where
    assert names == "False False True"
