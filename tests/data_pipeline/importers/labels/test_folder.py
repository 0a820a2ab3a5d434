"""Class folders: which class and which split each image gets, and what becomes of images that have none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.errors import UserError
from data_pipeline.importers.labels.classes import ordered, read_classes, read_heads
from data_pipeline.importers.labels.folder import read_folder
from data_pipeline.importers.labels.source import LabelSource
from tests.support.labeled_images import write_images

MASKS = {"mask": ["worn", "wrong", "none"], "gender": ["male", "female"], "age": ["young", "middle", "old"]}


def labels(source: LabelSource) -> dict[str, str]:
    return {item.id: item.target["label"] for item in source.items}


def reasons(source: LabelSource) -> dict[str, str]:
    return {row.path: row.reason for row in source.rejected}


def test_numeric_class_folders_keep_their_numbers(tmp_path: Path) -> None:
    """Sorted as texts, folder 10 would be class 2."""
    write_images(tmp_path, [f"{number}/a.png" for number in range(18)])
    source = read_folder(tmp_path)
    assert source.target == {"classes": [str(number) for number in range(18)]}
    assert all(source.target["classes"].index(item.target["label"]) == int(item.id.split("/")[0]) for item in source.items)
    assert ordered(["b", "10", "9"]) == ["10", "9", "b"] and ordered(["-1", "2", "10"]) == ["-1", "2", "10"]
    assert ordered(["10.5", "1.5", "2.5"]) == ["1.5", "2.5", "10.5"] and ordered(["9" * 5000, "7"]) == ["7", "9" * 5000]


def test_each_file_is_an_item_or_rejected_with_its_reason(tmp_path: Path) -> None:
    write_images(
        tmp_path,
        ["cat/1.png", "cat/2.png", "dog/1.png", "dog/deep/2.PNG", "loose.png", "cow/1.png", ".hidden/x.png", "cat/._1.png"],
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "notes.txt").touch()
    os.link(tmp_path / "cat" / "1.png", tmp_path / "dog" / "9.png")
    (tmp_path / "cat" / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "dog" / "up").symlink_to(tmp_path)  # must not be walked forever
    source = read_folder(tmp_path, ["dog", "cat", "empty"], group_regex=r"(\d)\.")
    assert source.target == {"classes": ["dog", "cat", "empty"]}
    assert labels(source) == {"cat/2.png": "cat", "dog/1.png": "dog", "dog/deep/2.PNG": "dog"}, (
        "one name in two folders is fine"
    )
    assert [item.group for item in source.items] == ["2", "1", "2"]
    assert reasons(source) == {
        "loose.png": "lies in no class folder",
        "cow/1.png": "its folder 'cow' is none of the 3 classes dog, cat, empty",
        "cat/1.png": "the same image as in dog/9.png, with other labels",
        "dog/9.png": "the same image as in cat/1.png, with other labels",
        "dog/up": "a link to a folder that it lies in",
        "cat/broken.png": "a link that leads nowhere",
    }
    assert source.notes == ["Not images, or hidden, left alone: 1 .txt, 2 hidden."]
    assert read_folder(tmp_path).target["classes"] == ["cat", "cow", "dog", "empty"]


def test_folders_of_splits_are_those_of_torchvision_and_hugging_face(tmp_path: Path) -> None:
    write_images(tmp_path, ["train/cat/1.png", "train/dog/1.png", "validation/cat/1.png", "test/unlabeled.png"])
    source = read_folder(tmp_path)
    assert source.target["classes"] == ["cat", "dog"]
    assert {item.id: item.split for item in source.items} == {
        "train/cat/1.png": "train",
        "train/dog/1.png": "train",
        "validation/cat/1.png": "val",
    }
    assert [(row.split, row.reason) for row in source.rejected] == [("test", "lies in no class folder")]
    (tmp_path / "extra").mkdir()
    with pytest.raises(UserError, match=r"folders of splits \(test, train, validation\) beside others \(extra\)"):
        read_folder(tmp_path)
    write_images(tmp_path / "vehicles", ["train/1.png", "car/1.png", "test/deep/1.png"])
    assert read_folder(tmp_path / "vehicles").target["classes"] == ["car", "test", "train"], "a class may be called train"


@pytest.mark.parametrize("folder", ["{i}", "{a}_{b}_{c}", "{a}/{b}/{c}"])
def test_folders_become_heads_row_major(tmp_path: Path, folder: str) -> None:
    combinations = [(a, b, c) for a in MASKS["mask"] for b in MASKS["gender"] for c in MASKS["age"]]
    for i, (a, b, c) in enumerate(combinations):
        write_images(tmp_path, [folder.format(i=i, a=a, b=b, c=c) + "/x.png"])
    if folder != "{i}":
        write_images(tmp_path, ["worn_male/x.png"])
    source = read_folder(tmp_path, heads=MASKS)
    assert source.task == "multitask" and source.target["heads"] == MASKS
    joint = source.target["joint"]
    assert joint["name"] == "class"
    assert joint["classes"] == ([str(i) for i in range(18)] if folder == "{i}" else ["/".join(names) for names in combinations])
    found = {item.id: tuple(item.target.values()) for item in source.items}
    assert found == {folder.format(i=i, a=a, b=b, c=c) + "/x.png": (a, b, c) for i, (a, b, c) in enumerate(combinations)}
    assert len(reasons(source)) == (folder != "{i}")
    assert all(reason.endswith("no combination of the classes of mask, gender, age") for reason in reasons(source).values())


def test_declared_classes_are_a_list_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes("\ufeffdog\r\ncat\r\n\r\n".encode())
    assert read_classes(str(file)) == read_classes("dog, cat") == ["dog", "cat"]
    assert read_heads(["mask,age"]) == {"mask": None, "age": None}
    assert read_heads(["mask=worn,none", "age=1,2"]) == {"mask": ["worn", "none"], "age": ["1", "2"]}
    for wrong, message in [("a,,b", "no name of a class"), ("a,b,a", "'a' is there twice")]:
        with pytest.raises(UserError, match=message):
            read_classes(wrong)
    with pytest.raises(UserError, match="--heads names 'mask' twice"):
        read_heads(["mask=a,b", "mask=c"])


def test_mistakes_about_folders_are_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No folder '.*absent'"):
        read_folder(tmp_path / "absent")
    write_images(tmp_path, ["1.png"])
    with pytest.raises(UserError, match="holds no class folders"):
        read_folder(tmp_path)
    write_images(tmp_path, ["cat/1.png"])
    with pytest.raises(UserError, match="not a regular expression"):
        read_folder(tmp_path, group_regex="(")
    with pytest.raises(UserError, match=r"nothing of 'cat/1.png' matches"):
        read_folder(tmp_path, group_regex="person")
    with pytest.raises(UserError, match="the name is taken"):
        read_folder(tmp_path, heads={"label": ["a", "b"]})


@pytest.mark.skipif(os.sys.platform != "linux", reason="names of other systems are Unicode")  # type: ignore[attr-defined]
def test_a_name_that_is_not_utf_8_is_shown_with_its_bytes(tmp_path: Path) -> None:
    write_images(tmp_path, ["cat/1.png"])
    os.rename(os.fsencode(tmp_path / "cat" / "1.png"), os.fsencode(tmp_path / "cat") + b"/\xff.png")
    (item,) = read_folder(tmp_path).items
    assert item.id == r"cat/\xff.png" and Path(str(item.image)).is_file()


def test_a_linked_folder_is_read_by_its_own_path_and_contradicts_another(tmp_path: Path) -> None:
    write_images(tmp_path / "all", ["cat/1.png", "dog/1.png", "cat/more/2.png"])
    (tmp_path / "all" / "hound").symlink_to(tmp_path / "all" / "dog")
    (tmp_path / "all" / "cat" / "again").symlink_to(tmp_path / "all" / "cat" / "more")
    source = read_folder(tmp_path / "all")
    assert labels(source) == {"cat/1.png": "cat", "cat/again/2.png": "cat"}
    assert reasons(source) == {
        "cat/more/2.png": "the same image as in cat/again/2.png",
        "dog/1.png": "the same image as in hound/1.png, with other labels",
        "hound/1.png": "the same image as in dog/1.png, with other labels",
    }
    for name in "abcdefg":
        (tmp_path / "web" / name).mkdir(parents=True)
        for other in "abcdefg":
            (tmp_path / "web" / name / other).symlink_to(tmp_path / "web" / other)
    write_images(tmp_path / "web", ["a/1.png"])
    assert len(read_folder(tmp_path / "web").rejected) < 200, "folders that link to each other are read without an end"


def test_class_folders_that_look_like_something_else_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, ["train2017/cat/1.png", "val2017/dog/1.png"])
    with pytest.raises(UserError, match=r"No image of .* lies in a class folder itself, .*below train2017, val2017\. If"):
        read_folder(tmp_path)
    assert len(read_folder(tmp_path, ["train2017", "val2017"]).items) == 2
    write_images(tmp_path, ["val2017/1.png"])
    assert read_folder(tmp_path).warnings == [
        "images of these classes lie in folders below theirs alone: train2017",
        "all classes have names of splits: train2017, val2017",
    ]


def test_folders_of_heads_that_may_mean_two_things_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "joined", ["a_b_c/1.png"])
    with pytest.raises(UserError, match="Folder 'a_b_c' may be a_b and c, or a and b_c"):
        read_folder(tmp_path / "joined", heads={"x": ["a_b", "a"], "y": ["c", "b_c"]})
    write_images(tmp_path / "short", [f"{number}/1.png" for number in range(6)])
    with pytest.raises(UserError, match=r"Folder 4 is beyond the 4 combinations of x, y, .*Name all classes of each head"):
        read_folder(tmp_path / "short", heads={"x": ["a", "b"], "y": ["c", "d"]})
    write_images(tmp_path / "one", ["1/1.png", "2/1.png", "06/1.png"])
    with pytest.raises(UserError, match=r"Folder 06 is beyond the 6 combinations .*rename each to its number less 1"):
        read_folder(tmp_path / "one", heads={"x": ["a", "b"], "y": ["c", "d", "e"]})


@pytest.mark.skipif(os.sys.platform != "linux", reason="names of other systems are Unicode")  # type: ignore[attr-defined]
def test_two_folders_that_are_shown_alike_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, [r"\xff/1.png"])
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(UserError, match="holds several class folders that are shown as"):
        read_folder(tmp_path)
