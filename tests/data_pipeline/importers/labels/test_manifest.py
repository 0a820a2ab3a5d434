"""Any table of images and labels: kinds of files, ways to hold labels, splits, and rows that cannot be used."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from data_pipeline.importers.labels.label_targets import LabelOptions
from data_pipeline.importers.labels.manifest import ManifestOptions, read_manifest
from data_pipeline.importers.labels.source import Cell, LabelSource
from data_pipeline.preparation.images import encode_png
from tests.support.labeled_images import noise, write_images

FILES = [f"{number}.png" for number in range(1, 7)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path, FILES)


def csv(folder: Path, text: str, name: str = "labels.csv") -> Path:
    (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    return folder / name


def targets(source: LabelSource) -> dict[str, Any]:
    return {item.id: item.target for item in source.items}


def reasons(source: LabelSource) -> list[str]:
    return [row.reason for row in source.rejected]


def labeled(values: Sequence[str], folder: Path, **labels: Any) -> LabelSource:
    """A table of one column `label` with these values."""
    table = csv(folder, "image,label\n" + "".join(f"{i}.png,{value}\n" for i, value in enumerate(values, 1)))
    return read_manifest(table, ManifestOptions(labels=LabelOptions(**labels)))


def test_all_kinds_of_tables_say_the_same(folder: Path) -> None:
    rows = [{"image": "1.png", "label": "10"}, {"image": "2.png", "label": "9"}, {"image": "3.png", "label": "10"}]
    tables = [
        csv(folder, "image,label\n1.png,10\n2.png,9\n3.png,10\n"),
        csv(folder, 'image;label\r\n"1.png";"10"\r\n2.png;9\r\n\r\n3.png;10', "b.csv"),
        csv(folder, "label\timage\n10\t1.png\n9\t2.png\n10\t3.png\n", "c.tsv"),
        csv(folder, "\n".join(json.dumps(row) for row in rows), "d.jsonl"),
        csv(folder, json.dumps([row | {"label": int(row["label"])} for row in rows]), "e.json"),
        folder / "f.parquet",
    ]
    pq.write_table(pa.Table.from_pylist(rows).cast(pa.schema([("image", "string"), ("label", "large_string")])), tables[-1])
    for table in tables:
        source = read_manifest(table, ManifestOptions())
        assert source.task == "multiclass" and source.target == {"classes": ["9", "10"]}, table
        assert targets(source) == {"1.png": {"label": "10"}, "2.png": {"label": "9"}, "3.png": {"label": "10"}}


def test_whole_numbers_with_a_decimal_point_are_the_same_classes_or_an_error(folder: Path) -> None:
    """pandas writes a column of whole numbers as floats as soon as one value is missing."""
    source = labeled(["10.0", "2.0", "", "nan"], folder)
    assert source.target == {"classes": ["2", "10"]}
    assert reasons(source) == ["column 'label' has no label"] * 2
    with pytest.raises(UserError, match=r"holds '1' \(labels.csv line 3\) beside '1.0' \(labels.csv line 2\)"):
        labeled(["1.0", "1"], folder)
    with pytest.raises(UserError, match=r"holds '1.5' \(labels.csv line 2\) with a fraction"):
        labeled(["1.5", "2.0"], folder)
    assert labeled(["1.5", "2.0"], folder, classes=["1.5", "2.0"]).target == {"classes": ["1.5", "2.0"]}
    pq.write_table(pa.table({"image": ["1.png", "2.png", "3.png"], "label": [1.0, float("nan"), None]}), folder / "f.parquet")
    source = read_manifest(folder / "f.parquet", ManifestOptions())
    assert source.target == {"classes": ["1"]} and len(source.rejected) == 2


def test_declared_classes_keep_their_order_and_other_labels_are_rejected(folder: Path) -> None:
    source = labeled(["b", " a ", "c", "B", "nan"], folder, classes=["b", "a", "nan"])
    assert source.target == {"classes": ["b", "a", "nan"]}
    assert [item.target["label"] for item in source.items] == ["b", "a", "nan"]
    assert reasons(source)[0] == "label 'c' of column 'label' is none of the 3 classes b, a, nan"
    assert len(source.items) + len(source.rejected) == 5


def test_several_labels_are_lists_texts_or_columns(folder: Path) -> None:
    rows = [{"file_name": "1.png", "labels": ["b", "a", "b"]}, {"file_name": "2.png", "labels": []}, {"file_name": "3.png"}]
    source = read_manifest(csv(folder, "\n".join(map(json.dumps, rows)), "a.jsonl"), ManifestOptions())
    expected = {"1.png": {"labels": ["a", "b"]}, "2.png": {"labels": []}}
    assert (source.task, source.target, targets(source)) == ("multilabel", {"classes": ["a", "b"]}, expected)
    assert reasons(source) == ["column 'labels' has no label; where there is none, write []"]
    table = csv(folder, "image,tags\n1.png,b | a\n2.png,[]\n3.png,\"['b']\"\n4.png,c\n")
    options = LabelOptions(labels="tags", separator="|", classes=["b", "a"])
    source = read_manifest(table, ManifestOptions(labels=options))
    assert targets(source) == {"1.png": {"labels": ["b", "a"]}, "2.png": {"labels": []}, "3.png": {"labels": ["b"]}}
    assert reasons(source) == ["label 'c' of column 'tags' is none of the 2 classes b, a"]
    table = csv(folder, "image,a,b\n1.png,1,1\n2.png,0.0,0\n3.png,2,0\n")
    source = read_manifest(table, ManifestOptions(labels=LabelOptions(label_columns=["b", "a"])))
    assert source.target == {"classes": ["b", "a"]} and source.items[0].target == {"labels": ["b", "a"]}
    assert reasons(source) == ["column 'a' is '2', which is neither 0 nor 1"]
    with pytest.raises(UserError, match=r"Column 'labels' holds a list \(a.jsonl row 1\)"):
        read_manifest(folder / "a.jsonl", ManifestOptions(labels=LabelOptions(label="labels")))


def test_heads_have_a_column_each_and_may_be_joined(folder: Path) -> None:
    table = csv(folder, "image,mask,age\n1.png,worn,2\n2.png,none,10\n3.png,worn,\n4.png,upside,2\n")
    options = LabelOptions(heads={"mask": ["worn", "none"], "age": None}, joint="both")
    source = read_manifest(table, ManifestOptions(labels=options))
    assert source.target == {
        "heads": {"mask": ["worn", "none"], "age": ["2", "10"]},
        "joint": {"name": "both", "classes": ["worn/2", "worn/10", "none/2", "none/10"]},
    }
    assert targets(source) == {"1.png": {"mask": "worn", "age": "2"}, "2.png": {"mask": "none", "age": "10"}}
    assert reasons(source) == [
        "column 'age' has no label",
        "label 'upside' of column 'mask' is none of the 2 classes worn, none",
    ]
    csv(folder, "image,writer\n1.png,a\n", "taken.csv")
    with pytest.raises(UserError, match="head 'writer': the name is taken"):
        read_manifest(folder / "taken.csv", ManifestOptions(labels=LabelOptions(heads={"writer": None})))


def test_paths_lead_where_they_say_and_each_image_counts_once(folder: Path) -> None:
    write_images(folder / "deep", ["7.png"])
    write_images(folder.parent / "elsewhere", ["8.png"])
    (folder / "é.png").write_bytes((folder / "1.png").read_bytes())
    names = [
        "1.png", "./1.png", "deep\\7.png", str(folder / "2.png"), "../elsewhere/8.png", "absent.png", "", "s3://bucket/1.png",
        "deep", "3.png", "3.png", "é.png", "a\0b.png",
    ]  # fmt: skip
    labels = ["a"] * len(names)
    labels[10] = "b"
    table = csv(
        folder,
        "image,label,who,from\n" + "".join(f"{n},{v},w{i},s\n" for i, (n, v) in enumerate(zip(names, labels, strict=True))),
    )
    source = read_manifest(table, ManifestOptions(group="who", source="from"))
    outside = str(folder.parent / "elsewhere" / "8.png")
    assert [item.id for item in source.items] == ["1.png", "deep/7.png", "2.png", outside, "é.png"]
    assert [(item.group, item.source) for item in source.items[:2]] == [("w0", "s"), ("w2", "s")]
    found = {row.path.removeprefix("labels.csv line "): row.reason for row in source.rejected}
    assert found == {
        "3": "the same image as in labels.csv line 2",
        "7": "'absent.png': there is no such file",
        "8": "column 'image' names no image",
        "9": "'s3://bucket/1.png' is a URI; copy the images to this machine",
        "10": "'deep': not a regular file",
        "11": "the same image as in labels.csv line 12, with other labels",
        "12": "the same image as in labels.csv line 11, with other labels",
        "14": r"'a\x00b.png': embedded null byte",
    }
    csv(folder, "image,label\nx/1.png,a\nx/2.png,a\n")
    with pytest.raises(UserError, match=r"No row names an image: the first is 'x/1.png' \(labels.csv line 2\) below '"):
        read_manifest(folder / "labels.csv", ManifestOptions())
    (folder / "x").symlink_to(folder)
    assert len(read_manifest(folder / "labels.csv", ManifestOptions(images=folder)).items) == 2


def test_splits_and_folds_come_from_columns(folder: Path) -> None:
    rows = ["1.png,a,training,1", "2.png,a,valid,2", "3.png,a,test,", "4.png,a,,1", "5.png,a,extra,", "6.png,a,../x,2"]
    table = csv(folder, "\n".join(["image,label,part,fold", *rows]))
    source = read_manifest(table, ManifestOptions(split="part"))
    assert {item.id: item.split for item in source.items} == {
        "1.png": "train",
        "2.png": "val",
        "3.png": "test",
        "5.png": "extra",
    }
    assert reasons(source) == ["column 'part' has no split", "column 'part' is '../x', which cannot name a split"]
    source = read_manifest(table, ManifestOptions(split="part", fold="fold"))
    assert {item.id: item.split for item in source.items} == {"1.png": "fold-0", "2.png": "fold-1", "3.png": "test"}
    assert "column 'fold' has no fold" in reasons(source) and "numbered from 1" in source.notes[0]
    for values, message in [
        ("035", "holds the folds 0, 3, 5"),
        ("000", "holds the folds 0"),
        ("0xx", "'x', which is no number"),
    ]:
        csv(folder, "image,label,fold\n" + "".join(f"{i}.png,a,{fold}\n" for i, fold in enumerate(values, 1)))
        with pytest.raises(UserError, match=message):
            read_manifest(table, ManifestOptions(fold="fold"))


def hugging_face(path: Path, names: list[str], labels: list[int], lists: bool = False) -> None:
    """Rows as Hugging Face's library writes them: images as structs, classes as indices, their names in the metadata."""
    label = {"names": names, "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "label": {"feature": label, "_type": "List"} if lists else label}
    images = [{"bytes": encode_png(noise(f"{path.name}{i}")), "path": "same.png"} for i in range(len(labels))]
    table = pa.table({"image": images, "label": [[label] for label in labels] if lists else labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path, 2)


def test_the_image_parquet_of_hugging_face_is_read_as_it_is(tmp_path: Path) -> None:
    hugging_face(tmp_path / "data" / "train-00000-of-00001.parquet", ["dog", "cat", "cow"], [1, 0, 1])
    hugging_face(tmp_path / "data" / "validation-00000-of-00001.parquet", ["dog", "cat", "cow"], [0, -1, 3])
    source = read_manifest(tmp_path, ManifestOptions())
    assert source.target == {"classes": ["dog", "cat", "cow"]}
    assert [(item.split, item.target["label"]) for item in source.items] == [
        ("train", "cat"), ("train", "dog"), ("train", "cat"), ("val", "dog"),
    ]  # fmt: skip
    assert [item.image for item in source.items[1:3]] == [
        Cell(str(tmp_path / "data" / "train-00000-of-00001.parquet"), group, row, "image") for group, row in [(0, 1), (1, 0)]
    ]
    assert len({item.id for item in source.items}) == 4 and source.items[0].id == "data/train-00000-of-00001-000000"
    assert reasons(source) == [
        "column 'label' has no label",
        "label '3' of column 'label' is none of the 3 classes dog, cat, cow",
    ]
    hugging_face(tmp_path / "several.parquet", ["dog", "cat"], [1, 0], lists=True)
    source = read_manifest(tmp_path / "several.parquet", ManifestOptions())
    assert source.task == "multilabel" and [item.target["labels"] for item in source.items] == [["cat"], ["dog"]]
    assert {item.split for item in source.items} == {""}
    hugging_face(tmp_path / "data" / "test-00000-of-00001.parquet", ["cat", "dog", "cow"], [1])
    with pytest.raises(UserError, match=r"other classes in 'train-.*' than in 'test-"):
        read_manifest(tmp_path / "data", ManifestOptions())
    (tmp_path / "data" / "test-00000-of-00001.parquet").unlink()
    hugging_face(tmp_path / "data" / "more.parquet", ["dog", "cat", "cow"], [1])
    with pytest.raises(UserError, match=r"not those of more.parquet"):
        read_manifest(tmp_path / "data", ManifestOptions())


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", b"image,label\n", {"group": "who"}, "'a.csv' has no column 'who'. It has: image, label"),
        ("a.csv", b"image,thing\n1.png,a\n", {}, "Which columns of 'a.csv' hold the labels"),
        ("a.csv", b"photo,label\n1.png,a\n", {}, "Which column of 'a.csv' names the images"),
        ("a.csv", b"image,label,label\n", {}, "several columns with the name label"),
        ("a.csv", b"", {}, "'a.csv' has no header"),
        ("a.csv", b"image,label\n", {}, "No row has a label: column 'label' has no value in any of 0"),
        ("a.csv", b"image,label\n1.png,\n", {}, "No row has a label"),
        ("a.csv", b'image,label\n1.png,"a\nb"\n', {}, "line 2: column 'label' has several lines"),
        ("a.jsonl", b'{"image": ["1.png"], "label": 1}\n', {}, r"Column 'image' holds a list \(a.jsonl row 1\)"),
        ("a.jsonl", b'{"image": "1.png", "label": "a\\u0000"}\n', {}, "has a control character in it"),
        ("a.jsonl", b'{"image": "1.png", "label": 1, "who": [1]}\n', {"group": "who"}, "Column 'who' holds a list"),
        ("a.csv", b"image,label,who\n1.png,a,1\n2.png,a,1.0\n", {"group": "who"}, "holds '1' .* beside '1.0'"),
        ("a.csv", b"image,label,f\n1.png,a," + b"9" * 5000 + b"\n", {"fold": "f"}, "'9{40}', which is no number of a fold"),
        ("a.csv", b"image,label\n1.png,b\xe9\n", {}, "a.csv line 2: 'label' is .*: that is not UTF-8. Save the table as UTF-8"),
        ("a.csv", b"image,b\xe9\n1.png,1\n", {}, "'a.csv' names a column .*: that is not UTF-8"),
        ("a.jsonl", b'{"image": "1.png", "label": "b\xe9"}\n', {}, "a.jsonl row 1: 'label' is .*: that is not UTF-8"),
        ("a.json", b"[1, ", {}, "'a.json' is not JSON"),
        ("a.jsonl", b"x\n", {}, "'a.jsonl' has no rows"),
        ("a.parquet", b"PAR1", {}, "Cannot read '.*a.parquet' as Parquet"),
        ("a.xlsx", b"PK", {}, "is no table: its name ends with none of"),
        ("absent", None, {}, "No table '.*absent'"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_message(
    folder: Path, name: str, content: bytes | None, options: dict[str, str], message: str
) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_manifest(folder / name, ManifestOptions(**options))  # type: ignore[arg-type]


def test_a_damaged_line_is_rejected_alone(folder: Path) -> None:
    source = read_manifest(
        csv(folder, '{"image": "1.png", "label": NaN}\nx\n{"image": "2.png", "label": 3}\n', "a.jsonl"), ManifestOptions()
    )
    assert targets(source) == {"2.png": {"label": "3"}}
    assert {row.path: row.reason for row in source.rejected} == {
        "a.jsonl row 1": "column 'label' has no label",
        "a.jsonl row 2": "is no JSON object",
    }
    source = read_manifest(csv(folder, "image,label,key\n1.png,a,k\n2.png,a,k\n3.png,a,\n"), ManifestOptions(id="key"))
    assert [item.id for item in source.items] == ["k"]
    assert sorted(reasons(source)) == ["column 'key' has no value", "its id is that of labels.csv line 2"]


def test_a_list_that_is_not_written_as_one_is_rejected(folder: Path) -> None:
    """NumPy writes ['cat' 'dog'], which Python reads as one text."""
    rows = ["['cat' 'dog']", '["cat", null]', '["cat", "dog"]', "", "[]", "cat"]
    pq.write_table(pa.table({"image": FILES, "tags": rows}), folder / "a.parquet")
    source = read_manifest(folder / "a.parquet", ManifestOptions(labels=LabelOptions(labels="tags")))
    assert source.target == {"classes": ["cat", "dog"]}
    assert targets(source) == {"3.png": {"labels": ["cat", "dog"]}, "5.png": {"labels": []}, "6.png": {"labels": ["cat"]}}
    assert reasons(source) == [
        "column 'tags' is \"['cat' 'dog']\", which is no list of labels",
        "column 'tags' has a list with a label that is missing",
        "column 'tags' has no label; where there is none, write []",
    ]


def test_bytes_are_texts_where_they_are_no_images(folder: Path) -> None:
    table = {
        "image": pa.array(FILES[:2]), "label": pa.array([b"a", "\u00fc".encode()]), "who": pa.array([b"x", None]),
        "part": pa.array([b"train", b"val"], pa.large_binary()),
    }  # fmt: skip
    pq.write_table(pa.table(table), folder / "a.parquet")
    source = read_manifest(folder / "a.parquet", ManifestOptions(group="who", split="part"))
    assert [(item.target["label"], item.group, item.split) for item in source.items] == [
        ("a", "x", "train"),
        ("\u00fc", "", "val"),
    ]
    pq.write_table(pa.table(table | {"label": pa.array([b"a", b"\xff"])}), folder / "a.parquet")
    with pytest.raises(UserError, match=r"Column 'label' of 'a\.parquet' holds bytes that are no text in UTF-8"):
        read_manifest(folder / "a.parquet", ManifestOptions())
    pq.write_table(pa.Table.from_arrays([*table.values(), table["who"]], [*table, "who"]), folder / "a.parquet")
    with pytest.raises(UserError, match="several columns with the name who"):
        read_manifest(folder / "a.parquet", ManifestOptions())


def test_a_column_of_images_is_no_name(tmp_path: Path) -> None:
    hugging_face(tmp_path / "a.parquet", ["dog", "cat"], [1, 0])
    for options in ({"id": "image"}, {"split": "image"}, {"labels": LabelOptions(label="image")}):
        with pytest.raises(UserError, match="Column 'image' holds an image or a structure"):
            read_manifest(tmp_path / "a.parquet", ManifestOptions(**options))


def test_a_value_of_several_lines_in_another_column_is_noted(folder: Path) -> None:
    table = csv(folder, 'image,label,text\n1.png,a,"x\n2.png,a,y\n3.png,a,z"\n4.png,b,\n')
    source = read_manifest(table, ManifestOptions())
    assert source.notes == ["Rows with a value of several lines: 1, the first labels.csv line 2 (3 lines)."]


def test_groups_and_ids_are_names(folder: Path) -> None:
    def groups(values: list[Any]) -> list[str]:
        pq.write_table(
            pa.table({"image": FILES[: len(values)], "label": ["a"] * len(values), "who": values}), folder / "a.parquet"
        )
        return [item.group for item in read_manifest(folder / "a.parquet", ManifestOptions(group="who")).items]

    assert groups([1.0, 2.0, None, 1e18]) == ["1", "2", "", "1000000000000000000"]
    assert groups(["Nan", "nan", "01", ""]) == ["Nan", "nan", "01", ""]
    assert groups(["3.10", "3.1", "3.0"]) == ["3.10", "3.1", "3.0"], "names of versions are no numbers"


def test_large_whole_numbers_stay_exact(folder: Path) -> None:
    numbers = ["9007199254740993.0", "9007199254740992.0", "9" * 5000 + "."]
    assert labeled(numbers, folder).target["classes"] == [number.partition(".")[0] for number in (*numbers[1::-1], numbers[2])]


def test_a_number_of_any_length_is_a_label(folder: Path) -> None:
    table = csv(folder, '{"image": "1.png", "label": ' + "9" * 5000 + "}\n", "a.jsonl")
    assert read_manifest(table, ManifestOptions()).target["classes"] == ["9" * 5000]


def test_classes_are_those_of_rows_that_can_be_used(folder: Path) -> None:
    table = csv(folder, "image,label,part\n1.png,a,train\nabsent.png,b,train\n2.png,c,../x\n3.png,d," + "x" * 101 + "\n")
    source = read_manifest(table, ManifestOptions(split="part"))
    assert source.target == {"classes": ["a"]} and len(source.rejected) == 3
    csv(folder, "image,label,part\n1.png,a,Dataset.json\n2.png,b,rejected.parquet\n")
    with pytest.raises(UserError, match=r"None of the 2 inputs .*'Dataset.json', which cannot name a split"):
        read_manifest(table, ManifestOptions(split="part"))


def test_indices_of_names_may_be_floats(tmp_path: Path) -> None:
    """A table with a missing value makes floats of them."""
    hugging_face(tmp_path / "a.parquet", ["dog", "cat"], [1.0, None, 0.0])  # type: ignore[list-item]
    source = read_manifest(tmp_path / "a.parquet", ManifestOptions())
    assert [item.target["label"] for item in source.items] == ["cat", "dog"] and len(source.rejected) == 1


@pytest.mark.skipif(os.sys.platform != "linux", reason="names of other systems are Unicode")  # type: ignore[attr-defined]
def test_a_parquet_file_whose_path_is_not_utf_8_is_named(tmp_path: Path) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.parquet"))
    place.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"its path is not UTF-8. Rename it"):
        read_manifest(place, ManifestOptions())
