"""A study of two arms in parallel on real Ray Tune; started again, it trains only what is missing."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest

from cluster.errors import UserError
from data_pipeline.storage.base import open_storage
from data_pipeline.storage.claim import InUse, claim
from tests.support.overrides import SMALL
from tests.support.places import ROOT
from tests.support.processes import running
from trainers.config.criterion import Criterion
from trainers.config.load import ConfigError, load_config, to_yaml
from trainers.studies.arms import StudyConfig, arms_of, load_study
from trainers.studies.runner import TABLE, _require_same_arm, run_study
from trainers.studies.table import RESULT, Outcome, result_table
from trainers.tasks.metrics.sequence import HEADLINES


def study_of(formulas: str, **changes: object) -> StudyConfig:
    # A path as users write it: a trial works in a folder of its own.
    overrides = [*SMALL, f"data.dataset={os.path.relpath(formulas)}", "epochs=1", "scaling.num_train_workers=1"]
    study = StudyConfig(name="s", overrides=overrides, arms={"pre": [], "post": ["model.encoder.norm=post"]})
    for key, value in changes.items():
        setattr(study, key, value)
    return study


def test_arms_run_and_a_second_start_trains_only_what_is_missing(formulas: str, tmp_path: Path) -> None:
    folder = open_storage(str(tmp_path / "s"))
    # The first fails in its trial, before workers start.
    arms = {"worst": ["scaling.num_train_workers=100", "global_batch_size=100"], "pre": []}
    table, failed = run_study(study_of(formulas, arms=arms), folder)
    assert "| pre | 1 |" in table
    assert table.index("| worst | 0 of 1 | – |") > table.index("| pre"), "what failed stands last"
    assert list(failed) == ["worst-seed0"] and "num_train_workers=100 is too many" in failed["worst-seed0"]
    assert f"- worst-seed0: {failed['worst-seed0']}" in table
    assert folder.child(TABLE).read_bytes().decode() == table
    results = {arm: tmp_path / "s" / f"{arm}-seed0" / RESULT for arm in ("pre", "post")}
    first = json.loads(results["pre"].read_text())
    assert first["val/count"] == 40
    assert not results["post"].exists()
    before = results["pre"].stat().st_mtime_ns
    table, failed = run_study(study_of(formulas), folder)
    assert table.count("| 1 |") == 2 and not failed
    assert results["pre"].stat().st_mtime_ns == before and results["post"].exists()
    # Another metric is read from the histories of the runs, and ranks them its own way.
    losses = {arm: json.loads(results[arm].read_text())["val/loss"] for arm in results}
    table, _ = run_study(study_of(formulas, metric="val/loss"), folder)
    ranked = sorted(losses, key=lambda arm: losses[arm])
    assert table.index(f"| {ranked[0]} | 1 | {losses[ranked[0]]:.4f}") < table.index(f"| {ranked[1]} |")
    changed = study_of(formulas)
    changed.overrides.append("optim.lr=1e-4")
    with pytest.raises(UserError, match="another configuration"):
        run_study(changed, folder)
    with claim(folder, "study"), pytest.raises(InUse, match="in use by a study"):
        run_study(study_of(formulas), folder)


@pytest.mark.services
def test_ctrl_c_leaves_a_study_that_the_same_command_resumes(formulas_dataset: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    overrides = [*SMALL, f"data.dataset={formulas_dataset}", "epochs=400", "scaling.num_train_workers=1"]
    file.write_text(json.dumps({"name": "s", "overrides": overrides, "arms": {"a": []}, "runs_dir": str(tmp_path)}))
    with running("-m", "trainers.tune", str(file)) as command:
        command.until("a-seed0 epoch 0")
        os.kill(command.process.pid, signal.SIGINT)
        assert command.end() == 130, command.text
    assert "The same command resumes it." in command.text and "Traceback" not in command.text
    with running("-m", "trainers.tune", str(file)) as again:
        epoch = int(again.until("a-seed0 epoch ").split()[2])
        os.kill(again.process.pid, signal.SIGINT)
        assert again.end() == 130 and epoch > 0, again.text


def test_a_table_has_the_finished_seeds_and_the_reasons_of_the_rest() -> None:
    arms = arms_of(StudyConfig(arms={"a": [], "b": [], "c": []}, seeds=[0, 1]))
    values = {"a-seed0": 0.5, "a-seed1": 0.7, "b-seed0": 0.2, "c-seed1": math.nan}
    outcomes = {arm.key: Outcome({}, reason="no\nmemory") for arm in arms}
    outcomes |= {key: Outcome({"val/loss": value}, seconds=60) for key, value in values.items()}
    rows = result_table(Criterion("val/loss", "min"), HEADLINES, arms, outcomes).splitlines()
    assert rows[2:5] == [
        "| b | 1 of 2 | 0.2000 | – | – | 1.0 |",
        "| a | 2 | 0.6000 ± 0.1414 | – | – | 1.0 |",
        "| c | 1 of 2 | – | – | – | 1.0 |",
    ]
    assert rows[-2:] == ["- b-seed1: no memory", "- c-seed0: no memory"]
    nothing = {arm.key: Outcome({}, reason="no memory") for arm in arms}
    assert result_table(Criterion(), HEADLINES, arms, nothing).count("| 0 of 2 | – | – | – | – |") == 3


def test_an_arm_of_which_nothing_is_trained_may_change(tmp_path: Path) -> None:
    run, config = open_storage(tmp_path / "arm"), load_config(None)
    run.child("config.yaml").write_bytes(to_yaml(load_config(None, ["optim.lr=1"])).encode())
    _require_same_arm(run, config)
    run.child("checkpoint-0000001-a", "checkpoint.json").write_bytes(b"{}")
    with pytest.raises(UserError, match="another configuration"):
        _require_same_arm(run, config)


def test_a_grid_is_the_product_of_its_values() -> None:
    study = StudyConfig(grid={"optim.lr": [1e-3, 2e-3], "model.encoder.norm": ["pre", "post"]}, seeds=[0, 1])
    arms = arms_of(study)
    assert len(arms) == 8 and len({arm.key for arm in arms}) == 8
    assert arms[0].overrides == ["optim.lr=0.001", "model.encoder.norm=pre"]
    assert arms[0].key == "lr=0.001+norm=pre-seed0"


def test_two_arms_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="two arms of one name"):
        arms_of(StudyConfig(arms={"a/b": [], "a_b": []}))


def test_a_wrong_arm_is_refused_before_anything_is_trained(formulas: str, tmp_path: Path) -> None:
    study = study_of(formulas, arms={"good": [], "bad": ["model.encoder.norm=middle"]})
    with pytest.raises(UserError, match=r"model\.encoder\.norm.*middle"):
        run_study(study, open_storage(str(tmp_path / "s")))
    assert not (tmp_path / "s").exists()


def test_a_study_file_names_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("arm: {}\n")
    with pytest.raises(UserError, match=r"Unknown key 'arm'.*arms"):
        load_study(file)
    file.write_text("name: x\n")
    with pytest.raises(UserError, match="neither arms nor a grid"):
        load_study(file)


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "tune").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_load(file: Path) -> None:
    assert arms_of(load_study(file))


def test_a_grid_without_values_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("grid: {optim.lr: [], seed: [1]}")
    with pytest.raises(UserError, match=r"grid\.optim\.lr has no values"):
        load_study(file)


@pytest.mark.parametrize("override", ["seed=3", "report.enabled=true", "name=mine"])
def test_a_key_that_a_study_sets_itself_is_refused(override: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"'{override}': a study sets {override.partition('=')[0]}=.*Leave it out"):
        run_study(StudyConfig(name="s", arms={"one": [override]}), open_storage(str(tmp_path)))


def test_the_mistakes_of_all_arms_are_one_error_that_names_them(tmp_path: Path) -> None:
    arms = {"one": ["optim.lr=fast"], "two": ["foo=1"], "three": []}
    study = StudyConfig(name="s", overrides=["guard.on_bad_step=skip"], arms=arms, seeds=[0, 1])
    with pytest.raises(ConfigError) as caught:
        run_study(study, open_storage(str(tmp_path)))
    for sentence in (
        "'guard.on_bad_step' in the study's overrides was renamed",
        "Bad value for 'optim.lr' in arm 'one'",
        "Unknown key 'foo' in arm 'two'",
    ):
        assert str(caught.value).count(sentence) >= 1, sentence
