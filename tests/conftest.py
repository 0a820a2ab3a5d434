"""What all tests share: an environment that reaches nothing outside, one Ray session, one small dataset."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

pytest_plugins = ["tests.support.s3", "tests.support.gloo_ranks"]

# A directory of its own, so that no session that runs on this machine is joined; short, for Ray keeps sockets in it and a
# socket's path may have 107 characters.
_RAY_DIRECTORY = tempfile.mkdtemp(prefix="inkray-test-", dir="/tmp")
# Before anything imports Ray; the processes that tests start inherit it.
os.environ |= {
    "RAY_ADDRESS": "local",
    "RAY_TMPDIR": _RAY_DIRECTORY,
    "RAY_worker_niceness": "8",  # at Ray's 15 the tests beside the session starve it, at 0 it them: both are to end together
    "WANDB_MODE": "offline",
    "MPLBACKEND": "agg",
    "AWS_EC2_METADATA_DISABLED": "true",
}
# Nor may a developer's own object store or cluster settings reach in.
for _name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_EC2_METADATA_DISABLED"]:
    del os.environ[_name]
# The tensors of tests are small: a second thread costs each operation more than it brings, a third of the time of all.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A machine that does other work beside the tests is slow at times: that is no failure.
settings.register_profile("inkray", deadline=None)
settings.load_profile("inkray")


# Where tests start and join sessions of their own; elsewhere they are known by their fixtures.
_WITH_SESSIONS = str(Path(__file__).parent / "cluster")
# Files whose own fixtures take long to make: in two processes they would be made twice.
_TOGETHER = {"test_launch_local", "test_resume"}


@pytest.hookimpl(tryfirst=True)  # before markers are selected and pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the markers that follow from fixtures, and what follows from markers: S3 is a service, and services are slow.

    All tests that join the session or need S3 are one group: with `-n 2 --dist loadgroup` one process has them, one the rest.
    So are all that need two ranks, which are started once then.
    One group each: pytest-xdist makes another group of a test with two, which may get a process without the session.
    """
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "ray_cluster" in fixtures:
            item.add_marker(pytest.mark.ray)
        if "s3_server" in fixtures:
            item.add_marker(pytest.mark.s3)
        if item.get_closest_marker("s3") is not None:
            item.add_marker(pytest.mark.services)
        if item.get_closest_marker("services") is not None:
            item.add_marker(pytest.mark.slow)
        joins = "ray_cluster" in fixtures or item.get_closest_marker("s3") is not None
        if joins or str(item.path).startswith(_WITH_SESSIONS):
            item.add_marker(pytest.mark.xdist_group("sessions"))
        elif "two_ranks" in fixtures:
            item.add_marker(pytest.mark.xdist_group("two_ranks"))
        elif item.path.stem in _TOGETHER:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_unconfigure() -> None:
    shutil.rmtree(_RAY_DIRECTORY, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """The one Ray session of all tests, of at least 4 CPU slots. Takes 3 to 20 s to start."""
    from cluster.session import ray_session

    # Workers know of the S3 server what was in the environment when the session started.
    with pytest.MonkeyPatch.context() as patch:
        if any("s3_server" in getattr(item, "fixturenames", ()) for item in request.session.items):
            try:
                server = request.getfixturevalue("s3_server")
            except pytest.skip.Exception:
                server = None  # the tests that need it say so themselves
            for name, value in server.env.items() if server else ():
                patch.setenv(name, value)
        session = ray_session(min_cpus=4)
        session.__enter__()
    try:
        yield
    finally:
        session.__exit__(None, None, None)


@pytest.fixture(scope="session")
def formulas(ray_cluster: None, formulas_dataset: str) -> str:
    """A dataset of synthesized formulas beside the session: 300 of train, 40 of val, 40 of test. Read it, never write to it."""
    return formulas_dataset


@pytest.fixture(scope="session")
def formulas_dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same for tests that need no Ray themselves: they run beside those that do. Takes some seconds to make, once."""
    from data_pipeline.dataset.manifest import MANIFEST
    from tests.support.datasets import synthesize_here

    beside = "PYTEST_XDIST_WORKER" in os.environ  # then the folder above is that of all processes of these tests
    folder = tmp_path_factory.getbasetemp().parent if beside else tmp_path_factory.getbasetemp()
    out = folder / "formulas"
    with FileLock(f"{out}.lock"):
        if not (out / MANIFEST).exists():
            synthesize_here(out, {"train": 300, "val": 40, "test": 40})
    return str(out)
