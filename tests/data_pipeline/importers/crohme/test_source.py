import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from cluster.errors import UserError
from data_pipeline.importers.crohme import source as source_module
from data_pipeline.importers.crohme.source import iter_inkml

_FILES = {"set/b.inkml": b"<b/>", "set/a.inkml": b"<a/>", "set/deep/c.INKML": b"", "list.txt": b"x", "set/a.lg": b"y"}


def _folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def _archive(path: Path, files: dict[str, bytes], mode: str = "w:xz") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def _sources(tmp_path: Path) -> list[Path]:
    return [
        _folder(tmp_path / "folder", _FILES),
        _archive(tmp_path / "a.tar.xz", _FILES),
        _archive(tmp_path / "a.tar.gz", _FILES, "w:gz"),
        _archive(tmp_path / "a.tar", _FILES, "w"),
    ]


def test_a_folder_and_its_archives_give_the_same_files_in_the_same_order(tmp_path: Path) -> None:
    for source in _sources(tmp_path):
        skipped: Counter[str] = Counter()
        files = list(iter_inkml(source, skipped))
        assert [(file.id, file.path, file.data) for file in files] == [
            ("a", "set/a.inkml", b"<a/>"),
            ("b", "set/b.inkml", b"<b/>"),
            ("c", "set/deep/c.INKML", b""),
        ]
        assert not any(file.problem for file in files)
        assert skipped == {".txt": 1, ".lg": 1}


def test_a_folder_of_archives_is_read_archive_by_archive(tmp_path: Path) -> None:
    _archive(tmp_path / "two.tar.xz", {"x/c.inkml": b"2"})
    _archive(tmp_path / "one.tar.gz", {"x/d.inkml": b"1", "notes": b""}, "w:gz")
    _folder(tmp_path, {"loose.inkml": b"0"})
    skipped: Counter[str] = Counter()
    paths = [file.path for file in iter_inkml(str(tmp_path), skipped)]
    assert paths == ["loose.inkml", "one.tar.gz/x/d.inkml", "two.tar.xz/x/c.inkml"]
    assert skipped == {"without suffix": 1}


def test_a_name_that_occurs_twice_is_an_error_that_names_both(tmp_path: Path) -> None:
    _archive(tmp_path / "one.tar.xz", {"x/same.inkml": b"1"})
    _folder(tmp_path, {"sub/same.inkml": b"0"})
    with pytest.raises(UserError, match=r"'same'.*one\.tar\.xz/x/same\.inkml and sub/same\.inkml"):
        list(iter_inkml(tmp_path))


def test_unsafe_members_are_reported_and_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MAX_FILE_BYTES", 10)
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, size in (("../out.inkml", 3), ("/root.inkml", 3), ("big.inkml", 11), ("good.inkml", 10)):
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(b"x" * size))
        for name, kind in (
            ("symbolic.inkml", tarfile.SYMTYPE),
            ("hard.inkml", tarfile.LNKTYPE),
            ("pipe.inkml", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/hostname"
            tar.addfile(member)
    files = {file.id: file for file in iter_inkml(path)}
    assert files.pop("good").data == b"x" * 10
    assert all(file.data == b"" and file.problem for file in files.values())
    assert {id_: file.problem.split()[0] for id_, file in files.items()} == {
        "out": "its", "root": "its", "big": "larger", "symbolic": "not", "hard": "not", "pipe": "not",
    }  # fmt: skip
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar"]


def test_unreadable_files_of_a_folder_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MAX_FILE_BYTES", 10)
    _folder(tmp_path, {"big.inkml": b"x" * 11, "good.inkml": b"x"})
    (tmp_path / "dangling.inkml").symlink_to(tmp_path / "nowhere")
    problems = {file.id: file.problem for file in iter_inkml(tmp_path)}
    assert problems["good"] == "" and "larger" in problems["big"] and "regular" in problems["dangling"]


def test_an_archive_larger_than_memory_allows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MAX_ARCHIVE_BYTES", 10)
    path = _archive(tmp_path / "a.tar.xz", {"a.inkml": b"x" * 6, "b.inkml": b"x" * 6})
    with pytest.raises(UserError, match="more than 10 bytes"):
        list(iter_inkml(path))


def test_a_missing_source_is_an_error_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not found.*nothing-here"):
        iter_inkml(tmp_path / "nothing-here")


def test_a_source_of_another_kind_is_an_error_at_the_call(tmp_path: Path) -> None:
    path = tmp_path / "crohme.zip"
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"crohme\.zip.*\.tar\.xz"):
        iter_inkml(path)


def test_a_source_without_inkml_is_an_error_that_says_what_it_holds(tmp_path: Path) -> None:
    _folder(tmp_path, {"a.png": b"", "b.png": b"", "._c.inkml": b""})
    with pytest.raises(UserError, match=r"no \.inkml files.*2 \.png"):
        list(iter_inkml(tmp_path))


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "empty", "text"])
def test_a_broken_archive_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    path = _archive(tmp_path / "a.tar.xz", {f"{n}.inkml": bytes(range(256)) * 40 for n in range(20)})
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {
            "truncated": data[:middle],
            "overwritten": data[:middle] + b"\0" * 50 + data[middle + 50 :],
            "empty": b"",
            "text": b"not an archive" * 100,
        }[damage]
    )
    with pytest.raises(UserError, match=r"cannot read the archive .*a\.tar\.xz"):
        list(iter_inkml(path))
