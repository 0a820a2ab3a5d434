"""Glyphs that a user brings: what is read, how it is divided among splits, and what is refused with its row."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import UserError
from data_pipeline.preparation.images import encode_png
from data_pipeline.synthesis.letters.glyph_files import read_glyphs
from data_pipeline.synthesis.letters.glyphs import LETTERS, Glyphs, divide
from data_pipeline.synthesis.letters.hands import stroked_glyphs
from data_pipeline.synthesis.parts import fold_parts, parts_of

GLYPHS = stroked_glyphs(0, range(2))
HEADER = ",".join(["id", "digit", "letter", *map(str, range(784))])
EMNIST = [
    f"{number + 1}," + ",".join(map(str, glyph.T.ravel())) for number in range(26) for glyph in GLYPHS.of(number)
]  # fmt: skip
LETTERED = [
    f"{number},5,{letter.upper()}," + ",".join(map(str, glyph.ravel()))
    for number, letter in enumerate(LETTERS)
    for glyph in GLYPHS.of(number)
]


def write(path: Path, lines: list[str], end: str = "\n", start: str = "") -> Path:
    path.write_bytes((start + end.join(lines) + end).encode())
    return path


def same(a: Glyphs, b: Glyphs) -> bool:
    return a.starts == b.starts and bool((a.pixels == b.pixels).all())


def test_every_layout_gives_the_same_glyphs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "glyphs.csv"
    assert same(read_glyphs(write(file, [HEADER, *LETTERED])), GLYPHS)
    assert same(read_glyphs(write(file, [HEADER.upper(), *LETTERED], "\r\n", "\ufeff")), GLYPHS)
    short = [",".join((id_, f'"{rest.lower()}"', pixels)) for id_, _, rest, pixels in (row.split(",", 3) for row in LETTERED)]
    assert same(read_glyphs(write(file, [HEADER.replace("digit,", ""), *short, ""])), GLYPHS)
    assert same(read_glyphs(write(file, EMNIST, start="\ufeff")), GLYPHS)
    assert same(read_glyphs(write(file, [",".join(["label", *(f"pixel{i}" for i in range(784))]), *EMNIST])), GLYPHS)
    assert not capsys.readouterr().out
    for number, letter in enumerate(LETTERS):
        folder = tmp_path / "folder" / (letter.upper() if number % 2 else letter)
        folder.mkdir(parents=True)
        for place, glyph in enumerate(GLYPHS.of(number)):
            (folder / f"{place}.png").write_bytes(encode_png(255 - glyph if place else glyph))
    assert same(read_glyphs(tmp_path / "folder"), GLYPHS)
    assert "26 of 52 glyphs are dark on a light border and were inverted" in capsys.readouterr().out


def changed(row: int, column: int, value: str, rows: list[str] = LETTERED) -> list[str]:
    fields = rows[row].split(",")
    fields[column] = value
    return [*rows[:row], ",".join(fields), *rows[row + 1 :]]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "1 columns"),
        ([HEADER], "none of the letters a, b, c"),
        ([HEADER, *LETTERED[4:]], "none of the letters a, b. All 26"),
        ([HEADER, *changed(7, 3, "nan")], "line 9: pixel 0 is 'nan'. Wanted: whole numbers from 0 to 255"),
        ([HEADER, *changed(7, 786, "256")], "line 9: pixel 783 is '256'"),
        ([HEADER, *changed(7, 9, "")], "line 9: pixel 6 is ''"),
        ([HEADER, *changed(7, 9, "1.5")], "line 9: pixel 6 is '1.5'"),
        ([HEADER, *changed(7, 9, "1_0")], "line 9: pixel 6 is '1_0'"),
        ([HEADER, *changed(7, 9, "white")], "line 9: pixel 6 is 'white'"),
        ([HEADER, *changed(7, 9, "1,2")], "line 9: 788 columns, not the 787"),
        ([HEADER, *changed(7, 2, "Ä")], "line 9: the letter is 'Ä'. Wanted: one of A to Z"),
        ([HEADER, *LETTERED[:9], "x"], "line 11: 1 columns, not the 787"),
        ([HEADER.replace(",783", ""), *LETTERED], "786 columns, the first 'id'"),
        (["a,b,c", "1,2,3"], "3 columns, the first 'a'"),
        (changed(3, 0, "27", EMNIST), "line 4: the letter is '27'. Wanted: a number from 1 to 26"),
        (changed(3, 0, "", EMNIST), "line 4: the letter is ''"),
        ([HEADER, *LETTERED, "9,5,A," + ",".join(["0"] * 784)], "1 are empty, the first of them of letter 'a'"),
    ],
)
def test_a_bad_table_is_one_message_with_its_row(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(UserError) as raised:
        read_glyphs(write(tmp_path / "bad.csv", lines))
    assert said in str(raised.value) and "bad.csv" in str(raised.value)


def test_bad_files_and_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "zipped.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="not a CSV in UTF-8"):
        read_glyphs(tmp_path / "zipped.csv")
    with pytest.raises(UserError, match="none of the letters a, b"):
        read_glyphs(folder)
    (folder / "a" / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a/x\.png': not an image"):
        read_glyphs(folder)
    (folder / "1").mkdir()
    with pytest.raises(UserError, match="folder '1' is not named by a letter"):
        read_glyphs(folder)
    with pytest.raises(UserError, match="cannot be read"):
        read_glyphs(Path("x" * 300))


def test_glyphs_are_divided_so_that_no_split_has_one_of_another() -> None:
    many = stroked_glyphs(1, range(20))
    twice = Glyphs(np.repeat(many.pixels, 2, axis=0), tuple(2 * start for start in many.starts))
    for parts in (parts_of({"train": 9, "val": 9, "test": 9}), fold_parts(9, 3, 9)):
        divided = divide(twice, parts, 0)
        held = {split: {glyph.tobytes() for glyph in glyphs.pixels} for split, glyphs in divided.items()}
        assert not any(a & b for a, b in itertools.combinations(held.values(), 2))
        assert set().union(*held.values()) == {glyph.tobytes() for glyph in many.pixels}
        assert all(len(glyphs.of(letter)) for glyphs in divided.values() for letter in range(26))
        backwards = Glyphs(np.concatenate([twice.of(letter)[::-1] for letter in range(26)]), twice.starts)
        assert all(same(glyphs, divide(backwards, parts, 0)[split]) for split, glyphs in divided.items())
    usual = divide(many, parts_of({"train": 1, "val": 1, "test": 1}), 0)
    train, val, test = (len(glyphs.pixels) / 26 for glyphs in usual.values())
    assert train > 12 and val >= 2 and test >= 2
    with pytest.raises(UserError, match="letter 'a' has 2 different glyphs, and the 3 splits need one each"):
        divide(GLYPHS, parts_of({"train": 9, "val": 9, "test": 9}), 0)
