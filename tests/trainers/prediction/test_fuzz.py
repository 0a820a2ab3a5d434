"""The short form of the fuzz: mutated images and lists as systems write them, each accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkpoints import write_checkpoint
from tests.support.fuzz_predict import fuzz_lists, make_images, outcomes
from tests.support.predict_here import predict_here


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "checkpoint"
    write_checkpoint(folder)
    return folder


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what is damaged
def test_each_mutated_image_is_a_row_an_error_or_named(checkpoint: Path, tmp_path: Path) -> None:
    names = make_images(tmp_path / "images", 300, seed=1)
    done = predict_here(str(checkpoint), str(tmp_path / "images"), str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    results, wrong = outcomes(tmp_path / "out", names)
    assert not wrong and {"read", "error", "no image"} <= {outcome for _, outcome in results}


def test_each_list_is_read_or_refused_in_words(checkpoint: Path, tmp_path: Path) -> None:
    results, wrong = fuzz_lists(tmp_path, checkpoint, 30, seed=1)
    assert not wrong and results[("whole", "status 0")] > 15
