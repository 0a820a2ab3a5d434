"""The kinds of sources as a user prepares them: what is stored, what is printed, what is rejected."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.importers.labels.summary import class_lines, class_notes
from data_pipeline.preparation.images import decode, encode_png
from tests.data_pipeline.importers.labels.test_manifest import hugging_face
from tests.support.commands import command_here, only_message
from tests.support.datasets import _one_by_one
from tests.support.labeled_images import noise, write_images


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are built in this process, without Ray."""
    monkeypatch.setattr("data_pipeline.preparation.build._run", _one_by_one)
    monkeypatch.setattr("data_pipeline.importers.labels.options.ray_session", contextlib.nullcontext)


def test_class_folders_become_a_dataset_that_keeps_their_numbers(ray_cluster: None, tmp_path: Path) -> None:
    source, out = tmp_path / "faces", str(tmp_path / "out")
    write_images(source, [f"{label}/{i}.{'jpg' if i else 'png'}" for label in (0, 1, 2, 10) for i in range(6)])
    (source / "2" / "bad.jpg").write_bytes(b"\xff\xd8\xffnothing")
    (source / "11").mkdir()
    turned = Image.fromarray(np.repeat(np.array([[0] * 8 + [255] * 8], np.uint8), 8, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be seen, it is turned by 90 degrees to the right
    turned.convert("RGB").save(source / "10" / "turned.png", exif=exif)
    done = command_here(
        "data_pipeline.prepare", "folder", str(source), out, "--height", "16", "--width", "12", "--resize", "crop",
        "--val", "0.25", "--test", "0", "--group-regex", r"/(\w+)\.", "--license", "ours",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = open_dataset(out).manifest
    assert manifest.target == {"classes": ["0", "1", "2", "10", "11"]} and manifest.license == "ours"
    assert manifest.rejected == 1 and sum(split.rows for split in manifest.splits.values()) == 25
    assert pq.read_table(f"{out}/rejected.parquet").to_pylist()[0]["path"] == "2/bad.jpg"
    tables = {name: read_split(open_dataset(out), name, ["id", "image", "label", "writer"]) for name in ("train", "val")}
    assert not set(tables["train"]["writer"].to_pylist()) & set(tables["val"]["writer"].to_pylist())
    rows = [row for table in tables.values() for row in table.to_pylist()]
    assert all(row["label"] == row["id"].split("/")[0] for row in rows)
    assert all(decode(row["image"], "rgb").shape == (16, 12, 3) for row in rows)
    assert all((row["image"][:3] == b"\xff\xd8\xff") == row["id"].endswith(".jpg") for row in rows)
    upright = decode(next(row["image"] for row in rows if "turned" in row["id"]), "gray")
    assert upright[0].max() < 50 and upright[-1].min() > 200
    assert "0 0 (" in done.stdout and "3 10 (" in done.stdout and "4 11 (0/0)" in done.stdout
    assert "warning: classes without rows: 11\n" in done.stdout
    assert "  2/bad.jpg: " in done.stdout and f"{out}: multiclass, images 12x16 rgb; rows: train " in done.stdout


def test_letters_become_a_dataset_of_several_labels(here: None, tmp_path: Path) -> None:
    source = tmp_path / "v1.5"
    write_images(source / "dirty", [f"{i:05}.png" for i in range(40)], 16, 16, channels=1)
    text = "".join(f"{i},{i % 2},{i % 3 % 2}\n" for i in range(40)) + "99,1,1\n"
    (source / "dirty_answer.csv").write_text("index,a,b\n" + text)
    out = str(tmp_path / "out")
    for inside in (source, source / "out"):
        refused = command_here("data_pipeline.prepare", "letters", str(source), str(inside))
        assert "files of both would be mixed" in only_message(refused)
    write_images(tmp_path / "above" / "train", ["cat/1.png"])
    refused = command_here(
        "data_pipeline.prepare",
        "folder",
        str(tmp_path / "above" / "train"),
        str(tmp_path / "above"),
        "--val",
        "0",
        "--test",
        "0",
    )
    assert "has a folder for the split 'train', where SOURCE is" in only_message(refused)
    done = command_here("data_pipeline.prepare", "letters", str(source), out, "--size", "16", "--folds", "4")
    assert done.returncode == 0, done.stderr
    manifest = open_dataset(out).manifest
    assert (manifest.name, manifest.task, list(manifest.splits)) == (
        "v1.5",
        "multilabel",
        ["test", *(f"fold-{i}" for i in range(4))],
    )
    assert sum(split.rows for split in manifest.splits.values()) == 40 and manifest.rejected == 1
    row = next(row for row in read_split(open_dataset(out), "fold-0", ["id", "image", "labels"]).to_pylist())
    number = int(row["id"].removesuffix(".png"))
    assert row["labels"] == ["a"] * (number % 2) + ["b"] * (number % 3 % 2)
    assert np.array_equal(decode(row["image"], "gray"), noise(row["id"], 16, 16, 1)), "what fits already is not touched"
    assert "there is no image of index '99'" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="names of other systems are Unicode")
def test_a_source_whose_name_is_not_utf_8_is_prepared_and_its_warnings_stay(here: None, tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    write_images(source, [f"{split}/cat/{person}-{split}.png" for person in "ab" for split in ("train", "val")])
    out = str(tmp_path / "out")
    done = command_here("data_pipeline.prepare", "folder", str(source), out, "--size", "8", "--group-regex", "(.)-")
    assert done.returncode == 0, done.stderr
    manifest = open_dataset(out).manifest
    warning = "2 of 2 groups are in several splits, as the source has them: 'a' (train, val), 'b' (train, val)"
    assert (manifest.name, manifest.preparation["notes"]) == (r"\xff", [warning]) and f"warning: {warning}\n" in done.stdout


def test_the_image_parquet_of_hugging_face_becomes_a_dataset(here: None, tmp_path: Path) -> None:
    hugging_face(tmp_path / "hf" / "train-0.parquet", ["dog", "cat"], [0, 1, 0, 1, 1])
    hugging_face(tmp_path / "hf" / "test-0.parquet", ["dog", "cat"], [1])
    out = str(tmp_path / "out")
    done = command_here("data_pipeline.prepare", "manifest", str(tmp_path / "hf"), out, "--size", "20", "--resize", "stretch")
    assert done.returncode == 0, done.stderr
    rows = read_split(open_dataset(out), "train", ["id", "label"]).to_pylist()
    assert {row["id"]: row["label"] for row in rows} == {f"train-0-{i:06}": ["dog", "cat"][i in (1, 3, 4)] for i in range(5)}
    assert "The source has no split val" in done.stdout and "in one split only: dog (train)" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["manifest", ".", "out", "--label", "a", "--heads", "b"], "--label and --heads: labels come in one way"),
        (["manifest", ".", "out", "--joint", "b"], "--joint joins the classes of --heads; there are none"),
        (["manifest", ".", "out", "--label-columns", "a", "--classes", "b"], "--classes is for --label and --labels"),
        (["manifest", ".", "out", "--separator", ""], "--separator is empty"),
        (["folder", ".", "out", "--classes", "a", "--heads", "b=c"], "--classes and --heads"),
        (["folder", ".", "out", "--heads", "b,c"], "--heads takes NAME=CLASS,CLASS for class folders"),
        (["folder", ".", "out", "--heads", "b=x,x"], "'x' is there twice"),
        (["folder", ".", "bogus://out"], "bogus://"),
        (["folder", "cats", "out"], "None of the 1 inputs of 'cats' could be used; the first: a.png: lies in no class folder"),
        (["folder", "none", "out"], "'none' holds no images"),
    ],
)
def test_mistakes_on_the_command_line_are_one_message(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    write_images(tmp_path / "cats", ["a.png"])
    (tmp_path / "cats" / "cat").mkdir()
    (tmp_path / "none" / "cat").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert message in only_message(command_here("data_pipeline.prepare", *words))


def test_a_class_in_one_split_only_is_named(tmp_path: Path) -> None:
    rows = {"train": {"a": 3, "b": 2, "c": 0}, "val": {"a": 1, "b": 0, "c": 0}}
    assert class_notes("", ["a", "b", "c"], rows) == ["classes without rows: c", "classes in one split only: b (train)"]
    rows = {"train": {"a": 3, "b": 0, "c": 0}, "val": {"a": 1, "b": 1, "c": 1}, "test": {"a": 1, "b": 1, "c": 0}}
    assert class_notes("", ["a", "b", "c"], rows) == ["classes that cannot be learned, train has none: b, c"]
    assert class_notes("age", ["b"], {"train": {"b": 2}}) == []
    assert class_notes(
        "", ["Cat", "cat", "é", "e\u0301 ", "dog"], {"train": dict.fromkeys(["Cat", "cat", "é", "e\u0301 ", "dog"], 1)}
    ) == ["classes that differ little: 'Cat' and 'cat', 'é' and 'e\u0301 '"]
    many = [f"class {i}" for i in range(100)]
    lines = class_lines("age", many, {"train": dict.fromkeys(many, 1234)})
    assert lines[0] == "Classes of age: index, name (rows of train)" and len(lines) < 25
    assert "".join(lines).count("(1234)") == 100 and "99 class 99 (1234)" in lines[-1]


def test_a_transparent_or_damaged_image_in_a_cell_is_named(here: None, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(buffer, "PNG")
    import pyarrow as pa

    table = pa.table({"image": [buffer.getvalue(), b"no", None, encode_png(noise("x"))], "label": list("abab")})
    pq.write_table(table, tmp_path / "table.parquet")
    out = str(tmp_path / "out")
    done = command_here(
        "data_pipeline.prepare", "manifest", str(tmp_path / "table.parquet"), out, "--size", "8", "--val", "0", "--test", "0"
    )
    assert done.returncode == 0, done.stderr
    rejected = {row["path"]: row["reason"] for row in pq.read_table(f"{out}/rejected.parquet").to_pylist()}
    assert rejected == {
        "table.parquet row 2": "not an image: UnidentifiedImageError",
        "table.parquet row 3": "the column holds no image",
    }
    rows = {row["id"]: row["image"] for row in read_split(open_dataset(out), "train", ["id", "image"]).to_pylist()}
    assert decode(rows["table-000000"], "gray").min() == 255 and set(rows) == {"table-000000", "table-000003"}
