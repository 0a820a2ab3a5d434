"""A study of two arms in parallel on real Ray Tune; started again, it trains only what is missing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from cluster.errors import UserError
from data_pipeline.storage import open_storage
from tests.trainers.runs import SMALL
from trainers.study import StudyConfig, arms_of, load_study
from trainers.tune import RESULT, run_study

ROOT = Path(__file__).parents[2]


def study_of(formulas: str, **changes: object) -> StudyConfig:
    # A path as users write it: a trial works in a folder of its own.
    overrides = [*SMALL, f"data.dataset={os.path.relpath(formulas)}", "epochs=1", "scaling.num_train_workers=1"]
    study = StudyConfig(name="s", overrides=overrides, arms={"pre": [], "post": ["model.encoder.norm=post"]})
    for key, value in changes.items():
        setattr(study, key, value)
    return study


def test_arms_run_and_a_second_start_trains_only_what_is_missing(formulas: str, tmp_path: Path) -> None:
    folder = open_storage(str(tmp_path / "s"))
    table = run_study(study_of(formulas), folder)
    assert "| pre | 1 |" in table and "| post | 1 |" in table
    results = {arm: tmp_path / "s" / f"{arm}-seed0" / RESULT for arm in ("pre", "post")}
    first = json.loads(results["pre"].read_text())
    assert first["val/count"] == 40
    shutil.rmtree(results["post"].parent)
    before = results["pre"].stat().st_mtime_ns
    assert run_study(study_of(formulas), folder).count("| 1 |") == 2
    assert results["pre"].stat().st_mtime_ns == before and results["post"].exists()
    changed = study_of(formulas)
    changed.overrides.append("optim.lr=1e-4")
    with pytest.raises(UserError, match="another configuration"):
        run_study(changed, folder)


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
