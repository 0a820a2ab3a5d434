"""Training while data workers are killed, machines go and storage fails: it ends as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.storage.base import open_storage
from data_pipeline.synthesis.formulas.build import synthesize_formulas
from data_pipeline.synthesis.formulas.grammar import FormulaConfig
from tests.support.chaos import Faults, failing
from tests.support.runs import losses, small_config, train
from tests.support.s3 import S3Server


class Killer:
    """Kills -9 a process that reads or decodes for this session: 5 s after the last at the earliest, once training went on.

    On a machine where a worker needs 5 s to start, one killed every 5 s would leave none that ever works.
    """

    def __init__(self, every_steps: int) -> None:
        self.killed: list[int] = []
        self._every_steps, self._step, self._stop = every_steps, 0, threading.Event()

    def on_row(self, row: dict[str, float]) -> None:
        """Training has come this far."""
        self._step = int(row["step"])

    def _work(self) -> None:
        after_step, at = self._every_steps, time.monotonic() + 5
        while not self._stop.wait(0.05):  # a task may be short: its worker is looked for until one is found at work
            if self._step < after_step or time.monotonic() < at:
                continue
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # one that has ended meanwhile
                    name = " ".join(process.cmdline())
                    if "MapBatches(decode)" in name or "MapBatches(read)" in name:
                        process.kill()
                        self.killed.append(process.pid)
                        after_step, at = self._step + self._every_steps, time.monotonic() + 5
                        break

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Meanwhile."""
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


@pytest.mark.services
def test_a_run_amid_chaos_has_the_losses_of_the_calm_one(
    s3_server: S3Server, ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From S3, data workers killed again and again, three requests of 100 failing; the calm run reads files by threads."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    local = str(tmp_path / "formulas")
    synthesize_formulas(
        local, {"train": 1500, "val": 40, "test": 40}, 0, ImagePolicy(64, 256), FormulaConfig(), overwrite=False
    )
    bucket = s3_server.create_bucket("inkray-chaos")
    open_storage(f"{bucket}/formulas").copy_from(Path(local))
    epochs = "epochs=4"  # of 75 steps
    _, calm, _ = train(small_config(local, tmp_path / "calm", epochs, "stream.execution=threads"))
    faults, killer = Faults(share=0.03), Killer(every_steps=40)
    with failing(s3_server.endpoint, faults) as endpoint, killer.at_work():
        uri = f"{bucket}/formulas?endpoint_override={endpoint.removeprefix('http://')}&scheme=http"
        _, amid, printed = train(small_config(uri, tmp_path / "chaos", epochs, "stream.execution=ray"), on_row=killer.on_row)
    failed = sum(faults.counts[kind] for kind in faults.kinds)
    assert len(killer.killed) >= 3 and failed >= 3, (killer.killed, faults.counts)
    assert "tasks of the cluster" in printed
    assert losses(amid) == losses(calm) and len(losses(calm)) == 75 * 4
    validations = [[row["val/loss"] for row in result.history if "val/loss" in row] for result in (calm, amid)]
    assert validations[0] == validations[1]


_WITH_A_MACHINE_LOST = """
import sys, threading, time
import ray
from ray.cluster_utils import Cluster
from cluster.resources import spare_machines
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.stream import StreamPosition, StreamConfig, TrainStream
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1, object_store_memory=3 * 10**8) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False)
cluster.wait_for_nodes()
assert spare_machines([ray.get_runtime_context().get_node_id()])
assert not spare_machines([node["NodeID"] for node in ray.nodes()])
dataset = open_dataset(sys.argv[1])

def batches(execution):
    config = StreamConfig(window_row_groups=2, execution=execution)
    targets = TokenTargets(Tokenizer(dataset.manifest.charset))
    return TrainStream(dataset, "train", targets, config, seed=3, global_batch_size=32).batches(StreamPosition(), 40)

expected = [(batch.ids, batch.images.tobytes()) for batch in batches("threads")]
for number, batch in enumerate(batches("ray")):
    if number == 100:
        cluster.remove_node(nodes[0], allow_graceful=False)
    assert (batch.ids, batch.images.tobytes()) == expected[number], number
assert number == len(expected) - 1
assert sum(node["Alive"] for node in ray.nodes()) == 2
print("all there")
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.services
def test_a_lost_data_machine_costs_no_batch(formulas: str, tmp_path: Path) -> None:
    """Two machines read and decode; one of them goes, without a word, amid the run."""
    folder = Path("/tmp") / f"inkray-lost-{os.getpid()}-{int(time.time()) % 1000}"
    environment = os.environ | {"RAY_TMPDIR": str(folder), "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS")
    done = subprocess.run(
        [sys.executable, "-c", _WITH_A_MACHINE_LOST, formulas],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "all there" in done.stdout, done.stderr[-3000:]
