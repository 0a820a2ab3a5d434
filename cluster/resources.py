"""Whether the cluster can hold the workers that a run asks for: said at once, where Ray would wait without a word."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources

from cluster.errors import UserError

DATA_CPUS = 1.0  # kept free of workers: the tasks that read and decode run there
MIN_CPUS_PER_WORKER = 0.25


@dataclass(frozen=True)
class WorkerResources:
    """What each training worker gets."""

    num_workers: int
    use_gpu: bool
    cpus_per_worker: float

    def to_ray(self) -> dict[str, float]:
        """As Ray counts them."""
        return {"CPU": self.cpus_per_worker, **({"GPU": 1.0} if self.use_gpu else {})}


def plan_workers(
    num_workers: int,
    use_gpu: bool | None,
    cpus_per_worker: float | None,
    wait_s: float = 0.0,
    concurrent_runs: int = 1,
    min_workers: int = 0,
) -> WorkerResources:
    """Fit `num_workers` into the connected cluster, of which `concurrent_runs` runs take equal parts.

    With `min_workers` above 0 room for so many is enough to begin with; the answer then still counts all `num_workers`.

    `use_gpu` None: GPUs if there is one for each worker, CPUs if there is none at all. `cpus_per_worker` None: one CPU,
    less where the machine is small. `wait_s`: how long an autoscaling cluster may take to bring the nodes; it is asked for
    them meanwhile, and no longer.

    Raises:
        UserError: too few CPUs or GPUs: what is there, and what to set. Or it is open whether GPUs are to be waited for.
    """
    deadline = time.monotonic() + wait_s
    if use_gpu is None:
        use_gpu = ray.cluster_resources().get("GPU", 0.0) / concurrent_runs >= 1
        if wait_s > 0 and not use_gpu:
            raise UserError(
                f"scaling.wait_for_nodes_s={wait_s:g} waits for nodes, but for which: an autoscaling cluster's GPUs are not "
                "there yet to be seen. Set scaling.use_gpu=true to train on GPUs, or scaling.use_gpu=false to train on CPUs."
            )
    asked = False
    try:
        while True:
            try:
                return _plan(num_workers, use_gpu, cpus_per_worker, concurrent_runs)
            except UserError:
                if time.monotonic() >= deadline and min_workers:
                    smallest = _plan(min_workers, use_gpu, cpus_per_worker, concurrent_runs)
                    return WorkerResources(num_workers, use_gpu, smallest.cpus_per_worker)
                if time.monotonic() >= deadline:
                    raise
            _request(num_workers, use_gpu, cpus_per_worker, concurrent_runs)
            asked = True
            time.sleep(2)
    finally:
        if asked:
            request_resources(bundles=[])  # else the nodes are held for as long as the cluster lives


def spare_machines(worker_nodes: Collection[str]) -> bool:
    """Whether the cluster has machines with CPUs besides those with the ids `worker_nodes`."""
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    return any(node["NodeID"] not in worker_nodes for node in alive)


def _plan(num_workers: int, use_gpu: bool, cpus_per_worker: float | None, runs: int) -> WorkerResources:
    available = ray.cluster_resources()
    cpus, gpus = available.get("CPU", 0.0) / runs, available.get("GPU", 0.0) / runs
    if use_gpu and gpus < num_workers:
        raise UserError(
            f"scaling.num_train_workers={num_workers} needs {num_workers} GPUs, there {_are(gpus)} GPUs. "
            f"Set scaling.num_train_workers={max(1, int(gpus))}, or scaling.use_gpu=false to train on CPUs."
        )
    reserve = min(DATA_CPUS, cpus / 2)
    if cpus_per_worker is None:
        # Two decimals, rounded down: Ray counts in ten-thousandths.
        cpus_per_worker = min(1.0, math.floor((cpus - reserve) / num_workers * 100) / 100)
        if cpus_per_worker < MIN_CPUS_PER_WORKER:
            raise UserError(
                f"scaling.num_train_workers={num_workers} is too many for the CPUs: there {_are(cpus)}, "
                f"{reserve:g} of them for reading data. "
                f"Set scaling.num_train_workers={max(1, int((cpus - reserve) / MIN_CPUS_PER_WORKER))} or fewer."
            )
    elif num_workers * cpus_per_worker + reserve > cpus:
        raise UserError(
            f"{num_workers} workers with scaling.cpus_per_worker={cpus_per_worker:g} and {reserve:g} CPU for reading data need "
            f"{num_workers * cpus_per_worker + reserve:g} CPUs, there {_are(cpus)}. Lower scaling.num_train_workers or "
            f"scaling.cpus_per_worker (to {max(0.0, (cpus - reserve) / num_workers):.2f})."
        )
    return WorkerResources(num_workers, use_gpu, cpus_per_worker)


def _are(count: float) -> str:
    return f"is {count:g}" if count == 1 else f"are {count:g}"


def _request(num_workers: int, use_gpu: bool, cpus_per_worker: float | None, runs: int) -> None:
    """Ask an autoscaler for what `_plan` wants to see; a cluster without one ignores it."""
    worker = {"CPU": math.ceil(cpus_per_worker or 1), **({"GPU": 1} if use_gpu else {})}
    request_resources(bundles=([worker] * num_workers + [{"CPU": math.ceil(DATA_CPUS)}]) * runs)
