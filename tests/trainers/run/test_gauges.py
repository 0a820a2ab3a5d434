"""Metrics on the dashboard: exported by Ray where Prometheus fetches them."""

from __future__ import annotations

import time
import urllib.request

import ray

from trainers.run.gauges import Gauges


def exported() -> str:
    (node,) = (node for node in ray.nodes() if node["Alive"])
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


def test_metrics_of_a_run_are_exported(ray_cluster: None) -> None:
    gauges = Gauges("formulas-test")
    gauges.set({"data/wait_share": 0.125, "data/images_per_s": 321.0, "train/lr": 0.1})
    deadline = time.monotonic() + 60
    while 'run="formulas-test"' not in (text := exported()) or "ray_inkray_wait_share" not in text:
        assert time.monotonic() < deadline, "not exported within a minute"
        time.sleep(1)
        gauges.set({"data/wait_share": 0.125, "data/images_per_s": 321.0})
    lines = [line for line in text.splitlines() if line.startswith("ray_inkray_") and 'run="formulas-test"' in line]
    values = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert values["ray_inkray_wait_share"] == 0.125 and values["ray_inkray_images_per_s"] == 321.0
