"""A run is the same run with Ray and without: the same losses, the same end, and each resumes what the other began."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from data_pipeline.storage.base import Storage
from tests.support.commands import Finished, command_here
from tests.support.processes import differences, last_state, running
from tests.support.runs import SMALL
from trainers.checkpoint.format import CARD
from trainers.checkpoint.select import find_checkpoint
from trainers.run.directory import open_run
from trainers.run.finalize import EVALUATION, REPORT

RAY, LOCAL = ["trainers.train"], ["trainers.train", "--local"]
ONE_WORKER = "scaling.num_train_workers=1"


class Ended(NamedTuple):
    """A run that has come to its end, and what its command printed."""

    run: Storage
    printed: str

    def losses(self) -> dict[int, float]:
        rows = [json.loads(line) for line in self.run.child("metrics.jsonl").read_bytes().splitlines()]
        return {int(row["step"]): row["train/loss"] for row in rows if "train/loss" in row}

    def evaluation(self) -> Any:
        return json.loads(self.run.child(EVALUATION).read_bytes())["metrics"]

    def table(self) -> list[str]:
        """The printed table of metrics: as many lines as there are rows of them, below a head."""
        lines = self.printed.splitlines()
        (head,) = [index for index, line in enumerate(lines) if re.match(r" +images +exact +WER ", line)]
        return lines[head : head + 1 + len(self.evaluation())]

    def card(self) -> str:
        """The model card, without what depends on the place and the time of a run."""
        text = find_checkpoint(self.run.uri).child(CARD).read_bytes().decode().replace(self.run.uri, "RUN")
        text = text.replace(self.run.name, "NAME").replace(self.run.uri.rpartition("/")[0], "RUNS")
        text = re.sub(r"checkpoint-(\d+)-\w+", r"checkpoint-\1", text)
        return re.sub(r"duration: .*", "duration: some", text)


def arguments(formulas: str, runs_dir: Path, *overrides: str) -> list[str]:
    return [*SMALL, "epochs=2", f"data.dataset={formulas}", f"runs_dir={runs_dir}", *overrides]


def ended(command: list[str], *words: str) -> Ended:
    result: Finished = command_here(command[0], *command[1:], *words)
    assert result.returncode == 0, result.stderr
    (uri,) = re.findall(r"^Run (\S+)$", result.stdout, re.MULTILINE)
    return Ended(open_run(uri)[0], result.stdout)


@pytest.fixture(scope="module")
def on_ray(formulas: str, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return ended(RAY, *arguments(formulas, tmp_path_factory.mktemp("ray"), ONE_WORKER))


def require_same_end(one: Ended, other: Ended) -> None:
    """The metrics of every row of the evaluation, the table, the report and the card."""
    assert one.losses() == other.losses() and not differences(last_state(one.run), last_state(other.run))
    assert one.evaluation() == other.evaluation() and one.evaluation()["test"]["count"] == 40
    assert one.table() == other.table() and len(one.table()) >= 4
    assert one.card() == other.card() and "Exact match" in one.card()
    names = [set(run.child(REPORT).names()) for run in (one.run, other.run)]
    assert names[0] == names[1] >= {"index.html", "learning_curves.png", "samples.png", "attention.png", "examples"}
    for name in ("samples.png", "attention.png"):
        mine, theirs = (np.asarray(Image.open(run.child(REPORT, name).path)) for run in (one.run, other.run))
        assert np.array_equal(mine, theirs), name
    for end in (one, other):
        assert f"Report {end.run.uri}/{REPORT}/index.html" in end.printed and end.printed.count("Trained in") == 1


@pytest.mark.services
def test_a_run_without_ray_ends_as_one_on_ray_does(on_ray: Ended, formulas: str, tmp_path: Path) -> None:
    require_same_end(on_ray, ended(LOCAL, *arguments(formulas, tmp_path)))


@pytest.mark.services
@pytest.mark.parametrize(("first", "then"), [(LOCAL, RAY), (RAY, LOCAL)], ids=["local, then ray", "ray, then local"])
def test_a_run_begun_in_one_way_is_resumed_in_the_other(
    on_ray: Ended, formulas: str, tmp_path: Path, first: list[str], then: list[str]
) -> None:
    with running("-m", *first, *arguments(formulas, tmp_path, ONE_WORKER)) as command:
        command.until(" step 6/")
        os.kill(command.process.pid, signal.SIGINT)
        assert command.end() == 130, command.text
    resumed = ended(then, "--resume", command.run.uri)
    assert "Resumed from checkpoint-00000" in resumed.printed
    require_same_end(on_ray, resumed)


@pytest.mark.services
def test_two_processes_of_torchrun_train_as_two_workers_of_ray(formulas: str, tmp_path: Path) -> None:
    expected = ended(RAY, *arguments(formulas, tmp_path / "ray"))
    words = [
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "-m",
        "trainers.train",
        *arguments(formulas, tmp_path / "torchrun"),
    ]
    with running(*words) as command:
        assert command.end() == 0, command.text
    assert "2 workers on cpu" in command.text and command.text.count("Run ") == 1, "one of the two speaks"
    require_same_end(expected, Ended(command.run, command.text))
