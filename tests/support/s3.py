"""A real S3 server for tests: Ceph's gateway on loopback, started once per test session and ended with it.

Named in `pytest_plugins` of the root conftest. Tests that read or write remote storage take the fixture `s3_server`.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
from pyarrow import fs

from tests.support.places import SHARED

START_SCRIPT = SHARED / "tools" / "s3_server.sh"
PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool", "curl")
# The monitor refuses a storage daemon that speaks before it has learned the cluster's id ("wrong fsid"), once in five to
# ten starts; the script then ends after two to five seconds, and the next start is independent of it.
START_ATTEMPTS = 10
START_TIMEOUT_S = 120


@dataclass(frozen=True)
class S3Server:
    """A running server. `env` is what a client's process needs to reach it, checksum settings included."""

    endpoint: str
    env: dict[str, str]
    directory: Path

    def filesystem(self) -> fs.S3FileSystem:
        """A client of this server that needs nothing from the environment; it may create and delete buckets."""
        with _environment(self.env):  # the SDK reads the checksum settings when a client is made, and only then
            return fs.S3FileSystem(
                access_key=self.env["AWS_ACCESS_KEY_ID"],
                secret_key=self.env["AWS_SECRET_ACCESS_KEY"],
                region=self.env["AWS_DEFAULT_REGION"],
                scheme="http",
                endpoint_override=self.endpoint.removeprefix("http://"),
                allow_bucket_creation=True,
                allow_bucket_deletion=True,
            )

    def create_bucket(self, name: str) -> str:
        """Make a bucket (3 characters or more, no underscores), or leave it as it is; returns its URI `s3://name`."""
        self.filesystem().create_dir(name)
        return f"s3://{name}"

    def stop_gateway(self) -> None:
        """Have nobody answer any more; what is stored stays."""
        pid = int((self.directory / "client.rgw.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        while _runs_from(pid, self.directory):
            time.sleep(0.05)

    def start_gateway(self) -> None:
        """Answer again, after `stop_gateway`."""
        command = ["radosgw", "-c", str(self.directory / "ceph.conf"), "-n", "client.rgw"]
        subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = int(self.endpoint.rpartition(":")[2])
        deadline = time.monotonic() + 60
        while not _answers(port):
            if time.monotonic() > deadline:
                raise RuntimeError("the gateway does not come back")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the server's processes, whose ids it left in pid files. Safe to call twice."""
        _kill(self.directory)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for all tests of a session, in a directory of its own, gone afterwards. Takes 12 s to start."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking or not START_SCRIPT.is_file():
        reason = "needs Debian's radosgw, ceph-mon, ceph-osd: see .ci/run"
        detail = f"not installed: {', '.join(lacking)}" if lacking else f"no {START_SCRIPT}"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason} ({detail})", pytrace=False)
        pytest.skip(f"{reason} ({detail})")
    # Not pytest's tmp_path: the daemons' sockets lie in this directory, and a socket's path may have 107 characters.
    directory = Path(tempfile.mkdtemp(prefix="inkray-s3-", dir="/tmp"))
    server = None
    try:
        server = start_server(directory)
        yield server
    finally:
        _kill(directory)
        shutil.rmtree(directory, ignore_errors=True)


def start_server(directory: Path) -> S3Server:
    """Start a server in `directory`, which is emptied first. Raises RuntimeError with the script's last words."""
    error = ""
    for _ in range(START_ATTEMPTS):
        port = _free_port_pair()
        # Files, not pipes: the daemons inherit them and would keep a pipe open for as long as they live.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            try:
                code = _run_script([str(directory), str(port)], out, err)
            except subprocess.TimeoutExpired:
                code = -1
            out.seek(0)
            err.seek(0)
            printed, error = out.read(), f"exit status {code}: {err.read()[-2000:]}"
        env = parse_exports(printed)
        if code == 0 and _answers(port):
            return S3Server(endpoint=env["AWS_ENDPOINT_URL"], env=env, directory=directory)
        _kill(directory)
    raise RuntimeError(f"{START_SCRIPT.name} failed {START_ATTEMPTS} times, last with {error}")


def parse_exports(text: str) -> dict[str, str]:
    """The variables of lines such as `export A=1 B=2`; values without spaces or quotes."""
    lines = [line.removeprefix("export ") for line in text.splitlines() if line.startswith("export ")]
    return dict(pair.split("=", 1) for line in lines for pair in line.split())


def _run_script(arguments: list[str], out: IO[str], err: IO[str]) -> int:
    # A session of its own: Ctrl-C ends the tests, which then end the server in order.
    process = subprocess.Popen(
        ["bash", str(START_SCRIPT), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )
    try:
        return process.wait(START_TIMEOUT_S)
    finally:
        if process.poll() is None:  # too slow, or interrupted: the script and what it waits for, not the daemons
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _free_port_pair() -> int:
    """A port that is free, with the next one: the gateway's and the monitor's."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            # A failed bind means that the neighbor is taken; the kernel offers another one next time.
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _kill(directory: Path) -> None:
    """End every process that has a pid file in `directory` and was started from it, and wait until it is gone."""
    pids = {int(text) for file in directory.glob("*.pid") if re.fullmatch(r"\d+", text := file.read_text().strip())}
    pids = {pid for pid in pids if _runs_from(pid, directory)}
    for pid in pids:
        # SIGKILL: nothing is to be saved, and a storage daemon that outlives its monitor waits 10 s for it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(_runs_from(pid, directory) for pid in pids):
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes {sorted(pids)} of the S3 server in {directory} do not end")
        time.sleep(0.05)


def _runs_from(pid: int, directory: Path) -> bool:
    """Whether `pid` is a live process of the server in `directory`; a dead one that nobody has reaped is not."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return str(directory / "ceph.conf").encode() in command
