"""A checkpoint says what is wrong with it, and is loaded without unpickling anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data_pipeline.images import ImagePolicy
from data_pipeline.stream.plan import Position
from data_pipeline.tokenizer import Tokenizer
from tests.trainers.runs import SMALL
from trainers.checkpoint import (
    PREFIX,
    STATE,
    WEIGHTS,
    CheckpointError,
    DataInfo,
    build_recognizer,
    find_checkpoint,
    load_checkpoint,
    load_trainer_state,
    save_checkpoint,
)
from trainers.config import load_config
from trainers.step import TrainStep
from trainers.task import SequenceTask

TOKENIZER = Tokenizer(["a", "b"])
DATA = DataInfo("letters", "sha256:0", "", ImagePolicy(32, 64), 8)


def write(folder: Path, score: float = 0.5) -> torch.nn.Module:
    config = load_config(None, SMALL)
    task = SequenceTask(TOKENIZER)
    model = build_recognizer(config, task, DATA)
    step = TrainStep(model, task, config.optim, 10, torch.device("cpu"))
    folder.mkdir(parents=True)
    save_checkpoint(folder, model, config, TOKENIZER, DATA, step.state_dict(), Position(3, 64), {"val/score": score}, "card")
    return model


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model = write(tmp_path / "c")
    loaded = load_checkpoint(str(tmp_path / "c"))
    assert loaded.data == DATA and loaded.task.tokenizer.charset == ["a", "b"] and not loaded.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name]), name
    position, state, metrics = load_trainer_state(tmp_path / "c")
    assert (position, state["steps"], metrics) == (Position(3, 64), 0, {"val/score": 0.5})


def test_a_run_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    for number, score in enumerate([0.2, 0.9, 0.4]):
        write(tmp_path / "run" / f"{PREFIX}{number}", score)
    assert find_checkpoint(str(tmp_path / "run")).name == f"{PREFIX}1"


@pytest.mark.parametrize("name", [WEIGHTS, "config.yaml", "vocab.json", "data.json"])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_checkpoint_that_is_not_whole_is_one_message(tmp_path: Path, name: str, how: str) -> None:
    write(tmp_path / "run" / f"{PREFIX}0")
    file = tmp_path / "run" / f"{PREFIX}0" / name
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(b"\x00\x01 no")
    with pytest.raises(CheckpointError, match=f"{PREFIX}0"):
        load_checkpoint(str(tmp_path / "run" / f"{PREFIX}0"))


def test_trainer_state_that_would_run_code_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "c")

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    torch.save({"position": Attack()}, tmp_path / "c" / STATE)
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        load_trainer_state(tmp_path / "c")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "c")
    config = (tmp_path / "c" / "config.yaml").read_text().replace("mlp_dim: 32", "mlp_dim: 48")
    (tmp_path / "c" / "config.yaml").write_text(config)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(str(tmp_path / "c"))
