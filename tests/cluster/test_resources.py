"""What a cluster can hold is said before anything waits for it. Figures relative to the cluster at hand."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray
from ray._private.ray_constants import AUTOSCALER_RESOURCE_REQUEST_CHANNEL
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.experimental.internal_kv import _internal_kv_get

from cluster.errors import UserError
from cluster.resources import DATA_CPUS, MIN_CPUS_PER_WORKER, plan_workers


@pytest.fixture(scope="module")
def cpus(ray_cluster: None) -> float:
    if ray.cluster_resources().get("GPU"):
        pytest.skip("these figures are those of a cluster without GPUs")
    return float(ray.cluster_resources()["CPU"])


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_leave_room_for_reading(cpus: float, workers: int) -> None:
    plan = plan_workers(workers, None, None)
    assert plan.num_workers == workers and not plan.use_gpu and "GPU" not in plan.to_ray()
    assert plan.to_ray()["CPU"] == plan.cpus_per_worker <= 1
    assert workers * plan.cpus_per_worker + DATA_CPUS <= cpus


def test_many_workers_share_cpus_to_a_limit(cpus: float) -> None:
    max_workers = int((cpus - DATA_CPUS) / MIN_CPUS_PER_WORKER)
    plan = plan_workers(max_workers, None, None)
    assert MIN_CPUS_PER_WORKER <= plan.cpus_per_worker <= 1 and max_workers * plan.cpus_per_worker + DATA_CPUS <= cpus
    with pytest.raises(UserError, match=f"too many for the CPUs: there are {cpus:g}") as raised:
        plan_workers(max_workers + 1, None, None)
    assert f"Set scaling.num_train_workers={max_workers} or fewer" in str(raised.value)


def test_gpus_that_are_not_there_are_counted(cpus: float) -> None:
    with pytest.raises(UserError, match=r"needs 2 GPUs, there are 0 GPUs.*scaling\.use_gpu=false"):
        plan_workers(2, True, None)
    assert not plan_workers(2, False, None).use_gpu


def test_cpus_that_are_asked_for_are_checked(cpus: float) -> None:
    assert plan_workers(1, False, cpus - DATA_CPUS).cpus_per_worker == cpus - DATA_CPUS
    with pytest.raises(UserError, match=f"need {cpus + 2:g} CPUs, there are {cpus:g}") as raised:
        plan_workers(2, False, (cpus + 1) / 2)
    fits = float(re.findall(r"\(to ([\d.]+)\)", str(raised.value))[0])
    assert plan_workers(2, False, fits).cpus_per_worker == fits


def test_concurrent_runs_take_equal_parts(cpus: float) -> None:
    plan = plan_workers(1, None, None, concurrent_runs=4)
    assert 4 * (plan.cpus_per_worker + min(DATA_CPUS, cpus / 8)) <= cpus
    with pytest.raises(UserError, match=f"there (is|are) {cpus / 4:g}"):
        plan_workers(1, False, cpus / 2, concurrent_runs=4)


def asked_of_the_autoscaler() -> list[dict[str, float]]:
    """The bundles that a cluster's autoscaler is asked for at this moment, of whichever generation it is."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    if not is_autoscaler_v2():
        return list(json.loads(_internal_kv_get(AUTOSCALER_RESOURCE_REQUEST_CHANNEL) or b"[]"))
    state = get_cluster_resource_state(GcsClient(ray.get_runtime_context().gcs_address))
    return [
        dict(each.request.resources_bundle)
        for constraint in state.cluster_resource_constraints
        for each in constraint.resource_requests
        for _ in range(each.count)
    ]


def test_it_asks_an_autoscaler_for_as_long_as_it_waits(cpus: float) -> None:
    started, seen = time.monotonic(), []
    with ThreadPoolExecutor() as pool:
        plan = pool.submit(plan_workers, 2, True, None, wait_s=3)
        while not plan.done():
            seen.append(asked_of_the_autoscaler())
            time.sleep(0.1)
    with pytest.raises(UserError, match="needs 2 GPUs"):
        plan.result()
    assert time.monotonic() - started >= 3
    assert {"CPU": 1, "GPU": 1} in max(seen, key=len) and max(seen, key=len).count({"CPU": 1, "GPU": 1}) == 2
    assert asked_of_the_autoscaler() == []


def test_who_waits_for_nodes_says_of_which_kind(cpus: float) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=r"scaling\.use_gpu=true .* scaling\.use_gpu=false"):
        plan_workers(1, None, None, wait_s=60)
    assert time.monotonic() - started < 60  # nothing is waited for
    assert not plan_workers(1, False, None, wait_s=60).use_gpu
