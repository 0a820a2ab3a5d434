"""An address where no Ray cluster answers is one message within seconds, whatever else is there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from cluster import address
from cluster.address import require_cluster
from cluster.errors import UserError
from tests.support.places import ROOT


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("127.0.0.1:{}", "nothing listens there"),
        ("ray://127.0.0.1:{}", "nothing listens there"),
        ("nowhere.invalid:{}", "host 'nowhere.invalid' is not known"),
        ("ray://nowhere.invalid:{}", "host 'nowhere.invalid' is not known"),
        ("http://127.0.0.1:{}", "the dashboard"),
        ("127.0.0.1:1{}", "HOST:PORT"),
        ("nowhere", "HOST:PORT"),
        ("ray://", "HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_named_with_the_reason(form: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "TIMEOUT_S", 1)
    named = form.format(free_port())
    with pytest.raises(UserError) as raised:
        require_cluster(named)
    assert f"RAY_ADDRESS={named} (" in str(raised.value) and reason in str(raised.value), raised.value


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_what_listens_but_is_no_ray_is_not_waited_for(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match="is not Ray, or hangs"):
        require_cluster(form.format(silent.getsockname()[1]))


def test_a_cluster_that_asks_for_a_token_answers(ray_cluster: None) -> None:
    require_cluster(ray.get_runtime_context().gcs_address)


def test_a_command_says_nothing_else_and_makes_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "data_pipeline.synthesize", "formulas", str(tmp_path / "out"), "--count", "4"]
    environment = os.environ | {"RAY_ADDRESS": f"127.0.0.1:{free_port()}"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: No Ray cluster answers") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
