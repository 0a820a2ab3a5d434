"""Boards of letters: what each difficulty key does, and the dataset that they make."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import UserError
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.preparation.images import decode
from data_pipeline.synthesis.letters.board import draw_board, draw_letters, noise
from data_pipeline.synthesis.letters.build import make_board, stored_png, stroked, synthesize_letters, writers_of
from data_pipeline.synthesis.letters.command import absent_share
from data_pipeline.synthesis.letters.config import BOARD_SIDE, BoardConfig
from data_pipeline.synthesis.letters.glyphs import LETTERS, Glyphs, as_glyphs
from data_pipeline.synthesis.letters.hands import stroked_glyphs
from data_pipeline.synthesis.parts import Part, fold_parts, parts_of
from tests.support.datasets import built_here

QUIET = BoardConfig(noise=0, rotation=0, min_scale=1, max_scale=1, dim=0, dilate=0)


@pytest.fixture(scope="module")
def glyphs() -> Glyphs:
    return stroked_glyphs(0, range(3))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_board_is_a_function_of_seed_and_number(glyphs: Glyphs) -> None:
    boards = {index: make_board(5, index, BoardConfig(), glyphs) for index in range(8)}
    for index in reversed(range(8)):
        pixels, letters = make_board(5, index, BoardConfig(), glyphs)
        assert (pixels == boards[index][0]).all() and letters == boards[index][1]
    assert len({pixels.tobytes() for pixels, _ in boards.values()}) == 8
    assert make_board(6, 0, BoardConfig(), glyphs)[0].tobytes() != boards[0][0].tobytes()


def test_letters_are_distinct_sorted_and_as_many_as_asked(glyphs: Glyphs) -> None:
    drawn = [draw_board(generator(seed), BoardConfig(), glyphs)[1] for seed in range(200)]
    assert all(letters == sorted(set(letters)) for letters in drawn)
    assert {len(letters) for letters in drawn} == {10, 11, 12, 13, 14}
    counts = np.bincount(np.concatenate(drawn), minlength=26) / len(drawn)
    assert np.abs(counts - 12 / 26).max() < 0.15
    assert draw_board(generator(), replace(QUIET, min_letters=0, max_letters=0), glyphs)[1] == []
    assert draw_board(generator(), replace(QUIET, min_letters=26, max_letters=26), glyphs)[1] == list(range(26))


@pytest.mark.parametrize("largest", [1, 99, 127, 200, 254, 255])
def test_noise_is_uniform_up_to_its_largest_value(largest: int) -> None:
    counts = np.bincount(np.concatenate([noise(generator(seed), largest).ravel() for seed in range(4)]), minlength=256)
    expected = 4 * BOARD_SIDE**2 / (largest + 1)
    assert not counts[largest + 1 :].any()
    # Chi squared of `largest` degrees of freedom, six deviations.
    assert ((counts[: largest + 1] - expected) ** 2 / expected).sum() < largest + 6 * np.sqrt(2 * largest)


def test_without_noise_boards_are_black_and_letters_add_up(glyphs: Glyphs) -> None:
    full = np.full((1, 28, 28), 50, np.uint8)
    gray = as_glyphs(dict.fromkeys(LETTERS, full))
    pixels, _ = draw_board(generator(), replace(QUIET, min_letters=26, max_letters=26), gray)
    assert (pixels[pixels < 255] % 100 == 0).all() and {0, 100, 200} <= set(np.unique(pixels).tolist())  # doubled, and added
    assert draw_board(generator(), replace(BoardConfig(), min_letters=0, max_letters=0), glyphs)[0].max() == 254


def test_letters_stand_upright_without_rotation_and_are_turned_with_it(glyphs: Glyphs) -> None:
    one = as_glyphs({letter: glyphs.of(0)[:1] for letter in LETTERS})
    (upright,) = draw_letters(generator(), QUIET, one, [0])
    doubled = np.minimum(glyphs.of(0)[0].astype(int) * 2, 255)
    assert (upright == doubled).all()
    turned = [draw_letters(generator(seed), replace(QUIET, rotation=360), one, [0])[0] for seed in range(20)]
    assert len({ink.shape for ink in turned}) > 5 and all(28 <= len(ink) <= 40 for ink in turned)
    # What is turned has lost nothing at the edges of its canvas.
    assert all(abs(int(ink.sum()) - int(doubled.sum())) < 0.03 * doubled.sum() for ink in turned)


def test_scale_dimming_and_dilation_change_letters(glyphs: Glyphs) -> None:
    plain, large, dim, thick = (
        draw_letters(generator(), config, glyphs, [3])[0]
        for config in (QUIET, replace(QUIET, min_scale=4, max_scale=4), replace(QUIET, dim=1), replace(QUIET, dilate=1))
    )
    assert len(large) == 4 * len(plain) and 4 < (large > 127).sum() / (plain > 127).sum() < 17
    assert 0.28 * 255 <= dim.max() <= 0.72 * 255
    assert (thick >= plain).all() and (thick > plain).any()


def test_without_overlap_no_letter_lies_on_another(glyphs: Glyphs) -> None:
    # Letters of different gray, so that what covers another would make a third.
    gray = as_glyphs({letter: (glyphs.of(i)[:1] > 127).astype(np.uint8) * np.uint8(60) for i, letter in enumerate(LETTERS)})
    config = replace(QUIET, overlap=False, min_letters=14, max_letters=14)
    for seed in range(10):
        assert set(np.unique(draw_board(generator(seed), config, gray)[0]).tolist()) == {0, 120}
    assert any(draw_board(generator(seed), replace(config, overlap=True), gray)[0].max() == 240 for seed in range(10))
    crowded, letters = draw_board(generator(), replace(config, min_scale=4.0, max_scale=4.0, max_letters=26), gray)
    assert len(letters) >= 14 and crowded.any()  # no room: placed all the same


def test_impossible_difficulty_is_refused_by_key() -> None:
    for keys, said in (({"noise": 256}, "noise=256"), ({"dim": -0.1}, "dim"), ({"min_scale": 3.0}, "min_scale=3.0 is more")):
        with pytest.raises(UserError, match=said):
            BoardConfig(**keys)


def test_writers_know_all_letters_and_each_has_a_hand(glyphs: Glyphs) -> None:
    assert len({glyph.tobytes() for glyph in glyphs.pixels}) == 3 * 26
    assert all(glyph.max() == 255 and 20 < (glyph > 127).sum() < 250 for glyph in glyphs.pixels)
    assert not glyphs.pixels[:, (0, -1)].any()  # no letter touches the upper or the lower edge


def test_splits_have_writers_of_their_own() -> None:
    for parts in (parts_of({"train": 9, "val": 9, "test": 9}), fold_parts(9, 3, 9)):
        writers = writers_of(parts, 10)
        assert set(writers) == set(parts) and all(writers.values())
        assert not any(set(a) & set(b) for a, b in itertools.combinations(writers.values(), 2))
    assert len(set().union(*(writers_of(fold_parts(9, 3, 9), 10)[f"fold-{fold}"] for fold in range(3)))) == 10
    drawn = stroked(parts_of({"train": 1, "val": 1, "test": 1}), 4, 0)
    seen = [{glyph.tobytes() for glyph in glyphs.pixels} for glyphs in drawn.values()]
    assert not any(a & b for a, b in itertools.combinations(seen, 2)) and len(seen[0]) == 4 * 26


def test_a_dataset_of_boards(tmp_path: Path) -> None:
    parts = fold_parts(10, 2, 6)
    glyphs = stroked(parts, 2, 1)
    with built_here():
        made = synthesize_letters(str(tmp_path / "a"), parts, glyphs, 1, BoardConfig(), 128)
        again = synthesize_letters(str(tmp_path / "b"), parts, glyphs, 1, BoardConfig(), 128)
        easy = synthesize_letters(str(tmp_path / "c"), {"train": Part(0, 5)}, {"train": glyphs["test"]}, 1, QUIET)
    assert made.digest == again.digest != easy.digest
    assert (made.task, made.target, made.columns) == ("multilabel", {"classes": list(LETTERS)}, {"labels": "list<string>"})
    assert {name: split.rows for name, split in made.splits.items()} == {"fold-0": 5, "fold-1": 5, "test": 6}
    dataset = open_dataset(str(tmp_path / "a"))
    rows = read_split(dataset, "fold-1", ["id", "image", "width", "height", "labels", "source"]).to_pylist()
    for number, row in enumerate(rows):
        pixels, letters = make_board(1, 5 + number, BoardConfig(), glyphs["fold-1"], 128)
        assert row == {"id": f"fold-1-{number:08d}", "image": stored_png(pixels), "width": 128, "height": 128,
                       "labels": letters, "source": "synthetic"}  # fmt: skip
        assert (decode(row["image"], "gray") == pixels).all()
    counted = {letter: sum(letter in row["labels"] for row in rows) for letter in LETTERS}
    assert made.split("fold-1").target_stats == {"class_rows": counted}
    present = sum(sum(split.target_stats["class_rows"].values()) for split in made.splits.values())
    assert absent_share(made) == pytest.approx(1 - present / (16 * 26)) and 0.46 <= absent_share(made) <= 0.62
