"""A URI and its path agree: whatever a name has in it, the URI of the entry opens that entry."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from data_pipeline.storage.base import Storage, StorageError, open_storage
from data_pipeline.storage.uris import invalid_name

ODD = "ab%?#@:&=;~ \t\n\\+'\"[]{}é中\u202e\U0001f600/.*"
NAMES = st.one_of(st.text(st.sampled_from(ODD), min_size=1), st.text(min_size=1)).filter(lambda name: not invalid_name(name))
BASES = [
    "/data/in puts#1/%41",
    "relative?",
    "file:///data/a%20b",
    "file:///",
    "s3://bucket",
    "s3://bucket/deep/down?endpoint_override=127.0.0.1:1&scheme=http",
    "memory://",
    "memory://root/deep",
    "webhdfs://user@host:22/data",  # its paths are taken apart as those of sftp, smb and ftp are
    "webhdfs://host",
    "https://host:8080/data",
    "local:///data/x",
    "filecache::memory://root/deep",
]


def same(one: Storage, other: Storage) -> bool:
    return (one.uri, one.path, one.endpoint) == (other.uri, other.path, other.endpoint) and one.filesystem == other.filesystem


@pytest.mark.parametrize("base", BASES)
@given(names=st.lists(NAMES, min_size=1, max_size=3))
@example(names=["a#1", "b"])
@example(names=["a?b"])
@example(names=["%41"])
@example(names=[":@"])
@example(names=["?token=x", "x:user:word@host"])
@example(names=["a::b", "memory:x::"])
def test_the_uri_of_an_entry_opens_it(base: str, names: list[str]) -> None:
    storage = open_storage(base)
    entry = storage.child(*names)
    assert same(open_storage(entry.uri), entry), (entry.uri, entry.path, open_storage(entry.uri).path)
    assert same(storage.child("/".join(names)), entry) and same(storage.follow("/".join(names)), entry)
    if "/" not in names[-1]:
        assert entry.path.endswith(names[-1]) or "://" in entry.path
        assert same(entry.parent.child(names[-1]), entry) and same(open_storage(entry.parent.uri), entry.parent)
    if isinstance(storage.filesystem, pafs.LocalFileSystem):
        assert entry.path == os.path.join(storage.path, *names)
    assert len(entry.uri.splitlines()) == 1 or "://" not in base


@pytest.mark.parametrize("base", [*BASES, "memory://a b/c"])
def test_an_open_uri_opens_again(base: str) -> None:
    storage = open_storage(base)
    assert same(open_storage(storage.uri), storage)


@example(name="\ud800")
@example(name="\udcc3\udca9")
@given(
    name=st.one_of(st.text(st.characters()), st.text(st.sampled_from("a./\0")), st.sampled_from(["..", "/etc", "a/../../b"]))
)
def test_a_name_stays_below_its_directory(name: str) -> None:
    for base in ("/data", "s3://bucket/data", "memory://data"):
        storage = open_storage(base)
        try:
            entry = storage.child(name)
        except StorageError as error:
            assert invalid_name(name) and "\n" not in str(error)
        else:
            assert entry.path.startswith(storage.path + "/") and ".." not in entry.path.split("/")


@pytest.mark.parametrize("base", ["local", "file", "memory"])
@given(
    names=st.sets(st.one_of(st.text(st.sampled_from(ODD), min_size=1, max_size=9), st.text(min_size=1, max_size=9)), max_size=4)
)
def test_listed_names_are_those_written(base: str, names: set[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    assume(all("/" not in name and not invalid_name(name) for name in names))
    assume(base != "memory" or all(name == name.strip() for name in names))
    folder = tmp_path_factory.mktemp("listed") if base != "memory" else Path("/listed")
    storage = open_storage({"local": str(folder), "file": folder.as_uri(), "memory": "memory://listed"}[base])
    for name in names:
        storage.child(name).write_bytes(name.encode())
    assert set(storage.names()) == names
    for name in storage.names():
        assert open_storage(storage.child(name).uri).read_bytes() == name.encode()
    storage.delete()


def test_names_on_a_disk_need_not_be_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    for storage in (open_storage(tmp_path), open_storage(tmp_path.as_uri())):
        storage.child(name).write_bytes(b"1")
        assert storage.names() == [name] and open_storage(storage.child(name).uri).read_bytes() == b"1"
        with pytest.raises(StorageError, match="does not exist"):
            storage.child("no" + name).read_bytes()
    with pytest.raises(StorageError, match="UTF-8"):
        open_storage("memory://x").child(name).write_bytes(b"1")


def test_the_path_of_a_chain_is_in_its_first_link(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/b#?.txt", b"1")
    storage = open_storage(f"zip://in::file://{tmp_path}/a.zip")
    assert storage.names() == ["b#?.txt"] and storage.child("b#?.txt").read_bytes() == b"1"
    assert open_storage(storage.child("b#?.txt").uri).read_bytes() == b"1"


def test_a_reference_is_seen_from_its_directory(tmp_path: Path) -> None:
    local = open_storage(tmp_path / "a" / "b")
    assert local.follow("../x/y").path == str(tmp_path / "a" / "x" / "y") and local.follow("/x").path == "/x"
    remote = open_storage("s3://bucket/a/b")
    assert remote.follow("../x/./y").uri == "s3://bucket/a/x/y"
    for reference in ("/x", "../../../x", "a//b", ""):
        with pytest.raises(StorageError, match="no name below"):
            remote.follow(reference)


@pytest.mark.parametrize(
    ("uri", "secret"),
    [
        ("s3://AKIA:7/sesame/x@bucket", "a password"),
        ("sftp://me@corp.org:sesame@host/x", "a password"),
        ("s3://bucket/x?token=sesame", "token"),
        ("s3://bucket/x?region=eu&Secret_Key=sesame", "Secret_Key"),
        ("s3://bucket/x?access_key=sesame&secret_key=sesame", "access_key"),
        ("https://host/x?X-Amz-Signature=sesame", "X-Amz-Signature"),
        ("abfs://container@account/x?sv=1&sig=sesame", "sig"),
        ("zip://a::https://host/x.zip?sas=sesame", "sas"),
        ("s3://bucket/x?endpoint_override=http%3A%2F%2Fme%3Asesame%40host", "a password"),
        ("s3://bucket/x?scheme=http&endpoint_override=me:sesame@host:1", "a password"),
        ("https://sesame@host/x", "a password"),
        ("https://host/x?pw=sesame", "pw"),
        ("s3:/me:sesame@bucket/x", "has to begin with s3://"),
        (" s3://me:sesame@bucket/x", "has to begin with s3://"),
        ("memory://x#password=sesame", "password"),
    ],
)
def test_a_secret_in_a_uri_is_refused_and_not_repeated(uri: str, secret: str) -> None:
    with pytest.raises(StorageError, match=secret) as raised:
        open_storage(uri)
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize(
    "uri", ["s3://host:9000/bucket", "s3://bucket/x?sesame", "s3://bucket/x?color=sesame", "memory://a?b=sesame"]
)
def test_what_a_uri_cannot_say_is_refused(uri: str) -> None:
    if uri == "s3://bucket/x?sesame":
        assert open_storage(uri).path == "bucket/x"  # a parameter without a value says nothing
        return
    with pytest.raises(StorageError, match=r"no bucket|unknown parameter, 'color'|A \? in a path is written %3F"):
        open_storage(uri)


def test_a_link_is_called_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    assert open_storage(tmp_path / "link").path == str(tmp_path / "link")
    assert open_storage(tmp_path).child("link").path == open_storage(tmp_path / "link").path
    with pytest.raises(StorageError, match="no such user"):
        open_storage("~no-such-user/x")
