"""Secrets are planted wherever a user may have them; no file below a run's folder and no line of output holds one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import UserError
from tests.support.commands import command_here
from tests.support.overrides import SMALL
from trainers.checkpoint.load import read_config
from trainers.config.load import load_config, merge_overrides, to_yaml
from trainers.run.directory import new_run
from trainers.run.preflight import preflight
from trainers.studies.arms import arm_config, arms_of, load_study

MARK = "pLaNtEd"
PASSWORD, TOKEN, KEY = f"7/{MARK}+pw/0", f"{MARK}-token-1", f"{MARK}EnvironmentKey0123456789"
SECRET_URIS = [
    f"s3://AKIA:{PASSWORD}@bucket/x",
    f"s3://bucket/x?secret_key={TOKEN}",
    f"https://host/x?token={TOKEN}",
    f"simplecache::sftp://me:{PASSWORD}@host/x",
]
TRACKED = ["tracking.wandb=true", "tracking.tensorboard=true", "epochs=1"]


@pytest.fixture
def environment(tmp_path: Path, formulas_dataset: str) -> dict[str, str]:
    """What a user's shell has: a key, a token, and a variable that says where the data lies, in a place with a telling name."""
    shutil.copytree(formulas_dataset, tmp_path / MARK / "formulas")
    return {"AWS_SECRET_ACCESS_KEY": KEY, "MY_API_TOKEN": TOKEN, "INKRAY_DATA": str(tmp_path / MARK / "formulas")}


def run(environment: dict[str, str], *words: str) -> tuple[int, str]:
    """A command as a user starts it: its status and all that it printed."""
    done = subprocess.run(
        [sys.executable, *words], env=os.environ | environment, capture_output=True, text=True, timeout=500, check=False
    )
    return done.returncode, done.stdout + done.stderr


def run_here(environment: dict[str, str], module: str, *words: str) -> tuple[int, str]:
    """The same in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        result = command_here(module, *words)
    return result.returncode, result.stdout + result.stderr


def require_none(printed: str, folder: Path) -> None:
    assert MARK not in printed, [line for line in printed.splitlines() if MARK in line]
    found = [str(file) for file in folder.rglob("*") if file.is_file() and MARK.encode() in file.read_bytes()]
    assert not found and MARK not in "".join(map(str, folder.rglob("*")))


@pytest.mark.parametrize("uri", SECRET_URIS)
def test_a_secret_in_a_uri_is_refused_by_every_command(environment: dict[str, str], tmp_path: Path, uri: str) -> None:
    from trainers import evaluate, predict, train

    runs = tmp_path / "runs"
    for main, words in (
        (train.main, [f"data.dataset={uri}", f"runs_dir={runs}"]),
        (train.main, [f"data.dataset={environment['INKRAY_DATA']}", f"runs_dir={uri}"]),
        (train.main, ["--resume", uri]),
        (evaluate.main, [uri, environment["INKRAY_DATA"]]),
        (predict.main, [uri, str(tmp_path), str(tmp_path / "out")]),
    ):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as raised:
            patch.setattr("sys.argv", ["command", *words])
            main()
        assert MARK not in str(raised.value) and "is not opened" in str(raised.value)
    assert not list(tmp_path.glob("runs/*"))


def test_a_run_holds_no_secret(environment: dict[str, str], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = ["-m", "trainers.train", "--local", *SMALL, *TRACKED, f"runs_dir={runs}", "scaling.num_train_workers=1"]
    status, printed = run(environment, *words, "data.dataset=${oc.env:INKRAY_DATA}")
    assert status == 0, printed
    require_none(printed, runs)
    (folder,) = runs.iterdir()
    warm = [*words, "tracking.wandb=false", "report.enabled=false", "epochs=1", f"runs_dir={tmp_path}/warm"]
    start = {"INKRAY_START": str(shutil.copytree(folder, tmp_path / MARK / "run"))}
    status, printed = run_here(
        environment | start, *warm[1:], "data.dataset=${oc.env:INKRAY_DATA}", "init.checkpoint=${oc.env:INKRAY_START}"
    )
    assert status == 0 and "Warm start from '${oc.env:INKRAY_START}/checkpoint-" in printed, printed
    require_none(printed, tmp_path / "warm")
    assert {"tensorboard", "wandb", "metrics.jsonl", "report"} <= {file.name for file in folder.iterdir()}
    assert "dataset: ${oc.env:INKRAY_DATA}" in (folder / "config.yaml").read_text()
    # It is looked up again: elsewhere now. And the error of a failing run shows where it looked, not what a key is.
    resumed = ("trainers.train", "--local", "--resume", str(folder), "epochs=2")
    status, printed = run_here(environment | {"INKRAY_DATA": "/nowhere"}, *resumed)
    assert status == 2 and "No dataset at '/nowhere'" in printed
    require_none(printed, runs)
    without = {name: value for name, value in environment.items() if name != "INKRAY_DATA"}
    status, printed = run_here(without, *resumed)
    assert status == 2 and "'data.dataset'" in printed and "the environment variable 'INKRAY_DATA' is not set" in printed


def test_an_unexpected_error_shows_no_secret(environment: dict[str, str], tmp_path: Path) -> None:
    """A traceback, as the interpreter prints it, of an exception that quotes what it was given."""
    script = (
        "import os; from cluster.errors import run_command\n"
        f"def main(): raise RuntimeError('{SECRET_URIS[0]} {SECRET_URIS[1]} ' + os.environ['AWS_SECRET_ACCESS_KEY'])\n"
        "run_command(main)"
    )
    status, printed = run(environment, "-c", script)
    assert status == 1 and "Traceback" in printed and "RuntimeError: s3://***@bucket/x s3://bucket/x?secret_key=***" in printed
    require_none(printed, tmp_path / "none")


@pytest.mark.services
def test_training_studies_and_predictions_hold_no_secret(environment: dict[str, str], tmp_path: Path) -> None:
    """On Ray, where workers and trials are processes of their own; and failing ones."""
    runs, study = tmp_path / "runs", tmp_path / "study.yaml"
    small = [*SMALL, "scaling.num_train_workers=1", "data.dataset=${oc.env:INKRAY_DATA}", f"runs_dir={runs}", "epochs=1"]
    status, printed = run(environment, "-m", "trainers.train", *small, *TRACKED)
    assert status == 0, printed
    require_none(printed, runs)
    (folder,) = runs.iterdir()
    out = tmp_path / "out"
    status, printed = run(environment, "-m", "trainers.predict", str(folder), environment["INKRAY_DATA"], str(out))
    assert status == 0 and (out / "job.json").exists(), printed
    assert KEY not in printed and TOKEN not in printed and MARK not in (out / "job.json").read_text()
    overrides = "".join(f"  - '{word}'\n" for word in small[:-2])
    head = f"name: s\nruns_dir: {tmp_path}/studies\nmax_concurrent: 1\n"
    study.write_text(f"{head}overrides:\n{overrides}  - epochs=1\narms:\n  a: []\n")
    status, printed = run(environment, "-m", "trainers.tune", str(study))
    assert status == 0, printed
    require_none(printed, tmp_path / "studies")
    bad = f"  b: ['data.dataset={SECRET_URIS[1]}']\n"
    study.write_text(study.read_text().replace("name: s", "name: t") + bad)
    for words in (
        ["trainers.train", *small, "optim.lr=1e30", "loss_guard.on_bad_step=stop"],
        ["trainers.predict", str(folder), SECRET_URIS[0], str(out)],
        ["trainers.tune", str(study)],
    ):
        status, printed = run(environment, "-m", *words)
        assert status == 2, printed
        require_none(printed, runs)
    require_none("", tmp_path / "studies")


def test_a_value_from_the_environment_is_stored_as_its_expression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", f"/{MARK}")
    config = load_config(None, ["data.dataset=${oc.env:PLACE}/x", "name=${data.train_split}", "runs_dir=${oc.env:NO,runs}"])
    assert (config.data.dataset, config.name) == (f"/{MARK}/x", "train") and config.runs_dir.endswith("/runs")
    changed = merge_overrides(config, ["epochs=3"], "the command line")
    for text in (to_yaml(config), to_yaml(changed)):
        assert MARK not in text and "dataset: ${oc.env:PLACE}/x" in text and "name: train\n" in text
    assert changed.data.dataset == f"/{MARK}/x"
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    monkeypatch.setenv("PLACE", "/elsewhere")
    assert read_config(file.read_bytes()).data.dataset == "/elsewhere/x"
    monkeypatch.delenv("PLACE")
    assert read_config(file.read_bytes(), missing_variables=True).data.dataset.endswith("$PLACE/x")
    # One that was changed is what it was changed to.
    assert "dataset: /mine" in to_yaml(merge_overrides(config, ["data.dataset=/mine"], "the command line"))


def test_the_runs_of_a_study_look_up_the_environment_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", f"/{MARK}")
    file = tmp_path / "study.yaml"
    text = "name: x\noverrides: ['data.dataset=${oc.env:PLACE}', 'tracking.project=${name}']\narms: {a: ['epochs=2']}\n"
    file.write_text(text)
    study = load_study(file)
    assert study.overrides == ["data.dataset=${oc.env:PLACE}", "tracking.project=x"] and study.arms == {"a": ["epochs=2"]}
    config = arm_config(study, arms_of(study)[0], str(tmp_path))
    assert config.data.dataset == f"/{MARK}" and MARK not in to_yaml(config)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("name=${oc.env:MY_API_TOKEN}", "'MY_API_TOKEN', which holds a secret"),
        ("runs_dir=s3://b/${oc.env:AWS_SECRET_ACCESS_KEY}", "'AWS_SECRET_ACCESS_KEY', which holds a secret"),
        ("epochs=${oc.env:COUNT}", "'epochs' takes the environment variable 'COUNT': only texts"),
    ],
)
def test_what_may_not_come_from_the_environment_is_refused(override: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    monkeypatch.setenv("COUNT", "3")
    with pytest.raises(UserError, match=reason) as raised:
        load_config(None, [override])
    assert MARK not in str(raised.value)


def test_a_forged_id_is_one_line(formulas_dataset: str, tmp_path: Path) -> None:
    import io

    from trainers.engine.events import ImagesRejected
    from trainers.run.log import RunLog
    from trainers.tracking import Console

    config = load_config(None, [f"data.dataset={formulas_dataset}", f"runs_dir={tmp_path}", "tracking.wandb=false"])
    printed = io.StringIO()
    log = RunLog(preflight(config), new_run(config), Console(printed))
    log.handle(ImagesRejected("train", {"a\nCheckpoint saved\x1b[2J": "no image\r\n\u202e"}))
    log.close()
    assert printed.getvalue() == "warning: image 'a\\nCheckpoint saved\\x1b[2J' is left out: no image\\r\\n\\u202e\n"
