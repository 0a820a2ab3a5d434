"""Images and their table of 0 and 1: each row and each image is an item, or rejected with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import UserError
from data_pipeline.importers.labels.letters import read_letters
from tests.support.labeled_images import write_images


def write_letters(folder: Path, text: str, names: list[str], table: str = "dirty_answer.csv") -> Path:
    write_images(folder / "dirty", names)
    (folder / table).write_bytes(text.encode(errors="surrogateescape"))
    return folder


def test_rows_and_images_are_matched_by_number_or_name(tmp_path: Path) -> None:
    text = "index,a,b,c\n00000,1,0,1\n12,0,0,0\n3.0,0,1,0\nx,1,1,1\n50001,0,1,1\n"
    write_letters(tmp_path, text, ["00000.png", "00012.png", "00003.png", "x.png", "050001.png"])
    (tmp_path / "sample_submission.csv").write_text("index,a\n")
    source = read_letters(tmp_path)
    assert source.task == "multilabel" and source.target == {"classes": ["a", "b", "c"]} and not source.rejected
    assert {item.id: item.target["labels"] for item in source.items} == {
        "00000.png": ["a", "c"],
        "00012.png": [],
        "00003.png": ["b"],
        "x.png": ["a", "b", "c"],
        "050001.png": ["b", "c"],
    }


def test_what_cannot_be_used_is_rejected_and_nothing_is_lost(tmp_path: Path) -> None:
    rows = [
        "1,1,0", "2,0.5,1", "3,yes,1", "4,,1", "5,nan,1", "6,1", "7,1,0", "7,1,0", "8,1,0", "8,0,0", ",1,1", "9,1,1",
        "10,1.0,0.0", "11,1,1,1", "20,2,1", "30,1,1",
    ]  # fmt: skip
    text = "\ufeffindex,a,b\r\n" + "\r\n".join(rows) + "\r\n\r\n"
    names = [f"{number:05}.png" for number in (*range(1, 9), 10, 11, 12, 20, 30)] + ["030.png"]
    source = read_letters(write_letters(tmp_path, text, names))
    assert source.target == {"classes": ["a", "b"]}, "a byte order mark or a line end is part of a name"
    assert {item.id: item.target["labels"] for item in source.items} == {
        "00001.png": ["a"],
        "00007.png": ["a"],
        "00010.png": ["a"],
    }
    reasons = {row.path: row.reason for row in source.rejected}
    assert reasons == {
        "dirty_answer.csv line 3": "column 'a' is '0.5', which is neither 0 nor 1",
        "dirty_answer.csv line 4": "column 'a' is 'yes', which is neither 0 nor 1",
        "dirty_answer.csv line 5": "column 'a' has no value",
        "dirty_answer.csv line 6": "column 'a' has no value",
        "dirty_answer.csv line 7": "has 2 fields, the header names 3",
        "dirty_answer.csv line 9": "the same image as in dirty_answer.csv line 8",
        "dirty_answer.csv line 10": "the same image as in dirty_answer.csv line 11, with other labels",
        "dirty_answer.csv line 11": "the same image as in dirty_answer.csv line 10, with other labels",
        "dirty_answer.csv line 12": "column 'index' has no value",
        "dirty_answer.csv line 13": "there is no image of index '9'",
        "dirty_answer.csv line 15": "has 4 fields, the header names 3",
        "dirty_answer.csv line 16": "column 'a' is '2', which is neither 0 nor 1",
        "dirty_answer.csv line 17": "the index '30' is that of several images: 00030.png, 030.png",
        "00006.png": "has no row in dirty_answer.csv",
        "00011.png": "has no row in dirty_answer.csv",
        "00012.png": "has no row in dirty_answer.csv",
    }
    assert len(source.items) + len(source.rejected) == len(rows) + 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no header"),
        ("00000,0,1\n", "has no header `index,a,b,...`: its first line is '00000,0,1'"),
        ("index,a,b,a\n1,1,1,1\n", "has several columns with the name a"),
        ("index\n1\n", "has no header `index,a,b"),
        ("index,a,\n1,1,1\n", "has no header `index,a,b"),
        ('index,a\n1,"0\n' + "x" * 50, 'line 2: a " begins a value that never ends'),
        ('index,a\n0,0\n1,"0\n1"\n', "line 3: column 'a' has several lines"),
    ],
)
def test_a_table_without_a_usable_header_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    write_letters(tmp_path, text, ["1.png"])
    with pytest.raises(UserError, match=message.replace("(", "[(]")):
        read_letters(tmp_path)


def test_table_and_images_are_found_when_there_is_one_or_named(tmp_path: Path) -> None:
    write_letters(tmp_path, "index,a\n1,1\n", ["1.png"])
    write_letters(tmp_path, "index,a\n1,0\n", ["1.png"], "other_answer.csv")
    write_images(tmp_path / "more", ["1.png"])
    with pytest.raises(UserError, match=r"not one table of labels but dirty_answer.csv, other_answer.csv. Name it by --csv"):
        read_letters(tmp_path)
    with pytest.raises(UserError, match=r"not one folder of images but dirty, more. Name it by --images"):
        read_letters(tmp_path, "other_answer.csv")
    assert len(read_letters(tmp_path, "dirty_answer.csv").items) == 1, "the folder has the table's name"
    assert len(read_letters(tmp_path, "other_answer.csv", "more").items) == 1
    with pytest.raises(UserError, match=r"Cannot read '.*absent.csv'"):
        read_letters(tmp_path, "absent.csv")
    (tmp_path / "utf16.csv").write_text("index,a\n", "utf-16")
    with pytest.raises(UserError, match=r"'utf16.csv' is UTF-16. Save it as UTF-8"):
        read_letters(tmp_path, "utf16.csv", "more")
