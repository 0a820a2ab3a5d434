"""Samples: the same for the same seed and number, wherever and in whatever order they are made."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline.synthesis.formulas.grammar import FormulaConfig, charset
from data_pipeline.synthesis.formulas.sample import FormulaSample, make_sample
from tests.support.formula_samples import digest

_ELSEWHERE = """
import random, sys
import numpy as np
from tests.support.formula_samples import digest
from data_pipeline.synthesis.formulas.grammar import FormulaConfig
from data_pipeline.synthesis.formulas.sample import FormulaSample, make_sample
random.seed(99)
np.random.seed(99)
made = {index: make_sample(5, index, FormulaConfig()) for index in reversed(range(24))}
print(digest(made[index] for index in range(24)))
"""


def test_another_process_makes_the_same_bytes_in_another_order() -> None:
    here = digest(make_sample(5, index, FormulaConfig()) for index in range(24))
    command = [sys.executable, "-c", _ELSEWHERE]
    environment = {"PYTHONHASHSEED": "123", "PYTHONPATH": ":".join(sys.path)}
    elsewhere = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert elsewhere.strip() == here


def test_settings_of_matplotlib_do_not_change_a_sample() -> None:
    import matplotlib as mpl

    before = digest([make_sample(5, 0, FormulaConfig())])
    with mpl.rc_context({"text.hinting": "none", "text.antialiased": False, "mathtext.default": "rm"}):
        assert digest([make_sample(5, 0, FormulaConfig())]) == before


def test_global_random_state_is_neither_read_nor_moved() -> None:
    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    make_sample(5, 1, FormulaConfig())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # type: ignore[index]


@pytest.fixture(scope="module")
def samples() -> list[FormulaSample]:
    return [make_sample(3, index, FormulaConfig()) for index in range(200)]


def test_seeds_and_numbers_make_different_samples(samples: list[FormulaSample]) -> None:
    assert len({sample.image.tobytes() for sample in samples}) == len(samples)
    assert make_sample(4, 0, FormulaConfig()).text != samples[0].text


def test_halves_are_exact_and_writers_named(samples: list[FormulaSample]) -> None:
    assert [sample.source for sample in samples] == ["printed", "handwritten"] * 100
    assert {sample.writer.split("-")[0] for sample in samples[::2]} == {"font"}
    assert {sample.writer.split("-")[0] for sample in samples[1::2]} == {"writer"}
    assert len({sample.writer for sample in samples[::2]}) == 5
    assert len({sample.writer for sample in samples[1::2]}) > 50


def test_num_writers_is_kept() -> None:
    made = {make_sample(3, index, FormulaConfig(num_writers=2)).writer for index in range(1, 40, 2)}
    assert made == {"writer-0000", "writer-0001"}


def test_images_can_be_read_at_the_size_of_training(samples: list[FormulaSample]) -> None:
    for sample in samples:
        height, width, channels = sample.image.shape
        assert sample.image.dtype == np.uint8 and channels == 3
        assert 24 <= height <= 240 and 30 <= width <= 600
        assert np.ptp(sample.image) > 80
    assert np.mean([sample.image.shape[1] > 5 * sample.image.shape[0] for sample in samples]) < 0.08


def test_text_is_tokens_of_the_charset(samples: list[FormulaSample]) -> None:
    known = set(charset(FormulaConfig()))
    for sample in samples:
        assert set(sample.text.split(" ")) <= known
        assert sample.level == sum(token in ("\\frac", "\\sqrt") for token in sample.text.split()) + sum(
            token == "_" or (token == "^" and not closes_a_subscript(sample.text.split(), position))
            for position, token in enumerate(sample.text.split())
        )


def closes_a_subscript(text: list[str], position: int) -> bool:
    """Whether the script at a position follows a subscript on the same base, so that both are one structure."""
    if text[position - 1] != "}":
        return False
    level = 0
    for start in range(position - 1, -1, -1):
        level += {"}": 1, "{": -1}.get(text[start], 0)
        if level == 0:
            return text[start - 1] == "_"
    return False
