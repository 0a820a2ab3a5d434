"""A user's mistake is found in whatever Ray wraps around it, and shown without a traceback."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import ray
import ray.data

from cluster.errors import UserError, user_error_in
from data_pipeline.storage.base import StorageError

MESSAGE = "data.dataset: there is no 'x'. Check the path."


def fail(kind: type[Exception] = UserError) -> None:
    raise kind(MESSAGE)


def caught(error: pytest.ExceptionInfo[BaseException]) -> UserError:
    mistake = user_error_in(error.value)
    assert mistake is not None
    assert str(mistake) == MESSAGE
    return mistake


def test_it_is_found_in_itself_and_in_causes() -> None:
    error = UserError(MESSAGE)
    assert user_error_in(error) is error
    try:
        try:
            raise error
        except UserError as cause:
            raise RuntimeError("outer") from cause
    except RuntimeError as outer:
        assert user_error_in(outer) is error
    assert user_error_in(None) is None and user_error_in(ValueError("a bug")) is None


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError(1), ValueError(2)
    first.__cause__, second.__cause__ = second, first
    assert user_error_in(first) is None


def test_a_group_of_workers_tells_the_mistake_of_one() -> None:
    error = RuntimeError("2 workers failed")
    error.worker_failures = {0: ConnectionError("peer gone"), 1: StorageError(MESSAGE)}  # type: ignore[attr-defined]
    assert isinstance(user_error_in(error), StorageError)


def test_it_survives_pickling_and_what_others_append() -> None:
    error = StorageError(MESSAGE)
    error.args = (MESSAGE + "\nTo change retry attempts, configure something.",)
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, StorageError) and str(copy) == str(error) == MESSAGE


@pytest.mark.parametrize("kind", [UserError, StorageError])
def test_it_comes_out_of_a_task(ray_cluster: None, kind: type[UserError]) -> None:
    with pytest.raises(Exception) as raised:
        ray.get(ray.remote(num_cpus=0.1)(fail).remote(kind))
    assert isinstance(caught(raised), kind)


def test_it_comes_out_of_a_task_of_a_task(ray_cluster: None) -> None:
    def outer() -> None:
        ray.get(ray.remote(num_cpus=0.1)(fail).remote())

    with pytest.raises(Exception) as raised:
        ray.get(ray.remote(num_cpus=0.1)(outer).remote())
    caught(raised)


def test_it_comes_out_of_ray_data(ray_cluster: None) -> None:
    with pytest.raises(Exception) as raised:
        ray.data.range(3).map(lambda row: fail()).materialize()
    caught(raised)


def test_a_bug_in_a_task_is_no_mistake_of_the_user(ray_cluster: None) -> None:
    with pytest.raises(Exception) as raised:
        ray.get(ray.remote(num_cpus=0.1)(fail).remote(ValueError))
    assert user_error_in(raised.value) is None


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("raise UserError('Set x.')", 2, "error: Set x.\n"),
        ("raise RuntimeError('around') from UserError('Set x.')", 2, "error: Set x.\n"),
        ("raise KeyboardInterrupt", 130, "Interrupted.\n"),
        ("return 3", 3, ""),
        ("return None", 0, ""),
    ],
)
def test_a_command_ends_with_a_status_and_one_line(body: str, status: int, said: str) -> None:
    program = f"from cluster.errors import *\ndef main():\n    {body}\nrun_command(main)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, said)


def test_a_bug_keeps_its_traceback() -> None:
    program = "from cluster.errors import *\ndef main():\n    return 1 / 0\nrun_command(main)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" in done.stderr and "ZeroDivisionError" in done.stderr
