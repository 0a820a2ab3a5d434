"""`python -m benchmarks.gpu`: every part runs, a little of each; a check that fails does not keep the others from running."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_parts.outcome import Skipped, require
from benchmarks.gpu_parts.scene import Scene

WHOLE_RUNS = ("whole_run", "killed")
# Of what is checked in seconds, what takes longest on a CPU; the rest of it is in `make test`.
LONG = ("overflow", "precisions", "fused", "ddp", "recompute", "resume", "two_ranks", "tokens")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The datasets, which the first part makes."""
    return tmp_path_factory.mktemp("gpu-data")


def run(part: str, data: Path, out: Path, *more: str) -> tuple[int, dict[str, str]]:
    """The exit status of a part on the CPU, and the status of each check."""
    status = gpu.main([part, *more, "--tiny", "--cpu", "--data", str(data), "--out", str(out)])
    found = json.loads((out / f"{part}.json").read_text())
    assert "torch" in found["machine"] and (out / f"{part}.md").exists()
    return status, {outcome["name"]: outcome["status"] for outcome in found["outcomes"]}


LONG_PARTS = ("check", "throughput")  # tens of seconds


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.services] * (part in LONG_PARTS)) for part in gpu.PARTS]
)
def test_every_part_runs(part: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in gpu.TINY[part] if name not in LONG]
    status, found = run(part, data, tmp_path, *names)
    assert status == 0 and list(found) == names, capsys.readouterr().out
    skipped = {name for name, status in found.items() if status == "skipped"}
    assert skipped == ({"micro_batch", "halving", "other_device"} if part == "check" else set())
    if part == "throughput":
        row = json.loads((tmp_path / "throughput.jsonl").read_text())
        assert row["inkray_images_per_s"] > 0 and row["bare_images_per_s"] > 0 and row["parameters"] > 800_000
        assert (tmp_path / "profile-satrn_small-bf16.json.gz").stat().st_size > 1000


@pytest.mark.services
@pytest.mark.parametrize("names", [LONG[:3], LONG[3:6], LONG[6:], WHOLE_RUNS[:1], WHOLE_RUNS[1:]], ids=lambda names: names[0])
def test_the_checks_that_take_long_run(data: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    status, found = run("check", data, tmp_path, *names, "--limit", "500")
    logs = {path.name: path.read_text()[-500:] for path in (*tmp_path.rglob("*.log"), *tmp_path.rglob("*.txt"))}
    assert status == 0 and found == dict.fromkeys(names, "passed"), logs


def test_what_fails_does_not_keep_the_rest_from_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(scene: Scene) -> str:
        require(False, "3 of 4 | differ")
        return ""

    def broken(scene: Scene) -> str:
        raise RuntimeError("no such kernel")

    def unable(scene: Scene) -> str:
        raise Skipped("needs a GPU")

    def endless(scene: Scene) -> str:
        try:
            time.sleep(60)
        except Exception:
            return "swallowed"
        raise AssertionError

    scene = Scene(torch.device("cpu"), True, tmp_path, tmp_path, tmp_path)
    part = gpu.Part("check", scene, 2)
    part.run({"wrong": wrong, "broken": broken, "unable": unable, "right": lambda scene: "fine", "endless": endless})
    part.run({"late": endless})
    found = json.loads((tmp_path / "check.json").read_text())["outcomes"]
    statuses = {outcome["name"]: outcome["status"] for outcome in found}
    assert statuses == {
        "wrong": "FAILED",
        "broken": "BROKEN",
        "unable": "skipped",
        "right": "passed",
        "endless": "OUT OF TIME",
        "late": "OUT OF TIME",
    }
    assert "| wrong | FAILED |" in gpu.table(part.outcomes) and "3 of 4 / differ" in gpu.table(part.outcomes)
    assert "no such kernel" in capsys.readouterr().err, "with its traceback"


def test_a_check_in_a_process_of_its_own_is_of_this_run(data: Path, tmp_path: Path) -> None:
    earlier = {"outcomes": [{"name": "tokens", "status": "passed", "reading": "of an earlier run", "seconds": 1.0}]}
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "check.json").write_text(json.dumps(earlier))
    begun = time.monotonic()
    status, found = run("check", data, tmp_path, "choices", "tokens", "--limit", "3")
    assert status == 1 and found == {"choices": "passed", "tokens": "OUT OF TIME"} and time.monotonic() - begun < 30
    assert not [child for child in psutil.Process().children() if "benchmarks.gpu" in " ".join(child.cmdline())]


def test_a_name_that_is_unknown_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["decode", "satrn_tiny", "--out", str(tmp_path / "out")])
    assert "'satrn_tiny' is not in decode, which has: satrn_small" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
