"""The leak check as a user calls it: shared images and writers between splits and datasets, and its status."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cluster.errors import UserError
from data_pipeline import leaks
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Manifest, Split, open_dataset
from data_pipeline.dataset.shards import Row, write_shard
from data_pipeline.exploration.leak_check import find_leaks
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import open_storage
from tests.data_pipeline.dataset.test_perceptual_hash import board

Labeled = tuple[str, bytes, list[str], str]  # id, image, labels, writer


def write_letters(folder: Path, splits: dict[str, list[Labeled]]) -> str:
    columns, made = {"labels": "list<string>"}, {}
    for name, labeled in splits.items():
        rows = [Row(key, image, 128, 128, {"labels": labels}, "", writer) for key, image, labels, writer in labeled]
        made[name] = Split([write_shard(open_storage(folder), f"{name}/part-00000.parquet", rows, columns)] if rows else [])
    target = {"classes": ["a", "b", "c"]}
    manifest = Manifest("letters", "multilabel", target, columns, ImagePolicy(128, 128), made, 0, {})
    open_storage(folder).child("dataset.json").write_bytes(manifest.to_json())
    return str(folder)


def plain(first: int, last: int, writer: str = "") -> list[Labeled]:
    rows = range(first, last)
    return [(f"row-{row}", encode_png(board(row)), ["a"], writer and f"{writer}{row % 3}") for row in rows]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["leaks", *arguments])
    return leaks.main()


def test_shared_images_and_writers_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, jpeg = cv2.imencode(".jpg", board(3), [cv2.IMWRITE_JPEG_QUALITY, 90])
    blank = encode_png(np.full((128, 128), 255, np.uint8))
    train = [*plain(0, 30, "person "), ("blank", blank, [], "")]
    val = [
        *plain(100, 120),
        ("copy", bytes(jpeg), ["a", "b"], ""),
        ("again", encode_png(board(5)), ["a"], "person 1"),
        ("white", blank, ["c"], ""),
        ("broken", b"no image", ["c"], ""),
    ]
    dataset = write_letters(tmp_path / "one", {"train": train, "val": val, "test": plain(200, 220), "empty": []})
    out = tmp_path / "new" / "leaks.json"
    assert call(monkeypatch, dataset, "--json", str(out)) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split() == ["train,", "val", "2", "1", "2", "+", "2", "1", "10", "+", "1"]
    assert printed[2] == "2 of 3 pairs of splits share nothing."
    assert printed[3] == "train 'row-3' = val 'copy': other labels: a | a b"
    assert printed[4] == "train 'row-5' = val 'again': both a"
    assert printed[5] == "writer 'person 1': rows of train 10, val 1"
    assert printed[6] == "Blank images, compared with none: 2 of 75."
    assert printed[7].startswith("warning: image 'broken' of val was not compared: ")
    content = json.loads(out.read_bytes())
    assert [len(image["rows"]) for image in content["images"]] == [2, 2] and content["unreadable"][0]["id"] == "broken"
    assert content["writers"] == [{"name": "person 1", "rows": {"train": 10, "val": 1}}]

    for content, said in ((b"{}", "--json: '.*mine.json' is there"), (b"\0", "--json: "), (out.read_bytes(), "")):
        (tmp_path / "mine.json").write_bytes(content)
        with pytest.raises(UserError, match=said) if said else contextlib.nullcontext():
            call(monkeypatch, dataset, "--json", str(tmp_path / "mine.json"))
    capsys.readouterr()

    other = write_letters(tmp_path / "two", {"train": plain(210, 215, "person "), "more": plain(300, 310)})
    assert call(monkeypatch, dataset, other, "--images-only", "--examples", "1") == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split()[:5] == ["test,", "other:train", "5", "0", "5"] and printed[2].startswith("5 of 6 pairs")
    assert call(monkeypatch, other, write_letters(tmp_path / "three", {"train": plain(400, 410)})) == 0
    assert capsys.readouterr().out == "2 of 2 pairs of splits share nothing.\n"


def test_labels_are_compared_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = encode_png(board(1))
    dataset = write_letters(tmp_path, {"train": [("1", image, ["a", "b"], "")], "val": [("2", image, ["a b"], "")]})
    (shared,) = find_leaks(open_dataset(dataset)).images
    assert shared.labels_differ


def test_what_cannot_be_compared_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = write_letters(tmp_path / "empty", {"train": [], "val": []})
    single = write_letters(tmp_path / "single", {"train": plain(0, 2), "val": []})
    for arguments, said in (
        ([empty], "empty' has no rows"),
        ([single, empty], "empty' has no rows"),
        ([single], "one split with rows, 'train': .* Pass another dataset"),
        ([single, str(tmp_path)], "No dataset at"),
        ([single, single, "--json", "/proc/nowhere/x.json"], "Cannot write"),
    ):
        with pytest.raises(UserError, match=said):
            call(monkeypatch, *arguments)
