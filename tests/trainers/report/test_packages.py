from pathlib import Path

import pytest

from cluster.errors import UserError
from trainers.config.load import load_config
from trainers.report import packages
from trainers.run.preflight import preflight


def test_a_run_whose_report_could_not_be_written_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "jinja2" else name)
    own = [f"data.dataset={tmp_path}"]
    with pytest.raises(UserError, match=r"report\.enabled=true needs jinja2, .* set report\.enabled=false"):
        preflight(load_config(None, own))
    with pytest.raises(UserError, match="No dataset"):
        preflight(load_config(None, [*own, "report.enabled=false"]))
    monkeypatch.undo()
    with pytest.raises(UserError, match="No dataset"):
        preflight(load_config(None, own))
