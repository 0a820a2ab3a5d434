from __future__ import annotations

import csv
import io
import itertools
import json

import numpy as np
import pytest

from trainers.prediction.label_doctor.confident_learning import suggest
from trainers.prediction.label_doctor.corrections import Correction, corrections_csv
from trainers.prediction.label_doctor.doubts import Doubt, find_doubts, most_listed
from trainers.prediction.label_doctor.label_columns import LabelColumn


def column(name: str, classes: str, given: np.ndarray, probs: np.ndarray, several: bool = False) -> LabelColumn:
    return LabelColumn(name, tuple(classes), several, given, probs)


def test_doubts_of_all_columns_are_ranked_by_margin() -> None:
    one = np.tile([0.9, 0.1], (40, 1))
    one[3], one[7] = [0.02, 0.98], [0.2, 0.8]
    several = np.tile([0.95, 0.05, 0.5], (40, 1))
    several[5] = [0.01, 0.04, 0.5]
    several[6] = [0.96, 0.97, 0.5]
    given = np.zeros((40, 3), bool)
    given[:, 0] = given[20:, 2] = given[0, 1] = True
    several[0, 1] = 0.9
    head = np.zeros((40, 2), bool)
    head[:20, 0] = head[20:, 1] = True
    one[20:] = one[20:, ::-1]
    doubts = find_doubts([column("mask", "ab", head, one), column("labels", "xyz", given, several, several=True)], suggest)
    assert [(doubt.row, doubt.column, doubt.given, doubt.suggested) for doubt in doubts[:2]] == [
        (3, "mask", "a", "b"),
        (6, "labels", "", "y"),
    ]
    assert all(one.sureness >= other.sureness > 0 for one, other in itertools.pairwise(doubts))
    assert doubts[0] == Doubt(3, "mask", "a", "b", 0.02, 0.98)
    present = {(doubt.row, doubt.given, doubt.suggested) for doubt in doubts if doubt.column == "labels"}
    assert (6, "", "y") in present and not any("z" in (given, new) for _, given, new in present)


@pytest.mark.parametrize(
    ("labels", "share", "count", "most"),
    [
        (100, None, None, 100),
        (100, 0.02, None, 2),
        (101, 0.02, None, 3),
        (3, 0.001, None, 1),
        (100, None, 7, 7),
        (100, 1.0, None, 100),
    ],
)
def test_a_share_or_a_count_limits_what_is_listed(labels: int, share: float | None, count: int | None, most: int) -> None:
    assert most_listed(labels, share, count) == most


def test_corrections_keep_any_name_and_tell_no_labels_from_no_suggestion() -> None:
    names = ['a "quoted", one', "line\nbreak", "文字", ""]
    lines = [
        Correction("1", "labels", names[:2], []),
        Correction('x,"y"', "labels", [], names[2:3]),
        Correction("3", "labels", names[:1], None),
    ]
    rows = list(csv.DictReader(io.StringIO(corrections_csv(lines, with_column=False, accept=True))))
    assert [row["id"] for row in rows] == ["1", 'x,"y"', "3"]
    assert [json.loads(row["given"]) for row in rows] == [names[:2], [], names[:1]]
    assert [row["new"] for row in rows] == ["[]", '["文字"]', ""] == [row["suggested"] for row in rows]
    text = corrections_csv([Correction("1", "mask", "worn", "none")], with_column=True, accept=False)
    assert text == "id,column,given,suggested,new\n1,mask,worn,none,\n"
