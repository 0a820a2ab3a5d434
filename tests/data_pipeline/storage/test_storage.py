"""Local disk, a real S3 server, fsspec: what is written comes back, and what fails says so in one sentence."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import DatasetError, open_dataset
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage import s3 as s3_files
from data_pipeline.storage.base import Storage, StorageError, open_storage, storage_errors
from tests.support.datasets import sequence_manifest, text_row
from tests.support.s3 import S3Server

BUCKET = "inkray-storage"
PROMISED_S = 30  # an endpoint that does not answer is given up within this time


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with what its client needs in the environment, but for the settings that Inkray itself must make."""
    for name, value in s3_server.env.items():
        if "CHECKSUM" not in name:
            monkeypatch.setenv(name, value)
    s3_server.create_bucket(BUCKET)
    return s3_server


S3 = [pytest.param(name, marks=pytest.mark.s3) for name in ("s3", "s3 in the URI")]


@pytest.fixture(params=["local", "file://", *S3, "memory://"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    kind = request.param
    if kind.startswith("s3"):
        server = request.getfixturevalue("s3")
        query = ""
        if kind != "s3":
            monkeypatch.delenv("AWS_ENDPOINT_URL")
            query = f"?endpoint_override={server.endpoint.removeprefix('http://')}&scheme=http"
        opened = open_storage(f"s3://{BUCKET}/{request.node.name.translate(str.maketrans('[]: /', '-----'))}{query}")
    else:
        opened = open_storage({"local": str(tmp_path), "file://": f"file://{tmp_path}", "memory://": "memory://root"}[kind])
    yield opened
    opened.delete()


def test_a_place_where_no_folder_can_be_made_is_named() -> None:
    with pytest.raises(StorageError, match=r"Cannot write '/proc/x/y': no folder can be made there"):
        open_storage("/proc/x/y").write_bytes(b"")


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for inside in ("x", "y/x"):
        with pytest.raises(StorageError, match=r"file/.*x': a file stands where a folder of its path should be"):
            open_storage(tmp_path / "file" / inside).write_bytes(b"")


def test_what_is_written_comes_back(storage: Storage) -> None:
    file = storage.child("deep", "down", "file.bin")
    assert not file.exists()
    file.write_bytes(b"first")
    file.write_bytes(data := os.urandom(70_000))
    assert file.exists() and file.read_bytes() == data
    assert storage.child("deep").exists()
    assert storage.child("deep").names() == ["down"] and storage.child("deep", "down").names() == ["file.bin"]
    assert storage.child("nothing").names() == []


def test_a_file_that_is_not_there_is_named(storage: Storage) -> None:
    with pytest.raises(StorageError, match=r"absent\.bin.* does not exist") as raised:
        storage.child("absent.bin").read_bytes()
    assert raised.value.missing and not raised.value.transient


def test_deleting_takes_what_lies_below(storage: Storage) -> None:
    storage.child("kept").write_bytes(b"1")
    storage.child("gone", "a").write_bytes(b"1")
    storage.child("gone", "b", "c").write_bytes(b"1")
    storage.child("gone").delete()
    assert not storage.child("gone").exists() and storage.names() == ["kept"]
    storage.child("kept").delete()
    storage.child("kept").delete()
    assert not storage.child("kept").exists()


def test_folders_are_copied_whole(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("from")
    (folder / "sub").mkdir()
    (folder / "a").write_bytes(b"A")
    (folder / "sub" / "b").write_bytes(b"B")
    storage.child("copy").copy_from(folder)
    back = storage.child("copy").copy_to(tmp_path_factory.mktemp("to") / "new")
    files = {str(path.relative_to(back)): path.read_bytes() for path in back.rglob("*") if path.is_file()}
    assert files == {"a": b"A", "sub/b": b"B"}


def test_it_pickles(storage: Storage) -> None:
    if storage.uri.startswith("memory://"):
        pytest.skip("memory:// is of one process")
    storage.child("x").write_bytes(b"1")
    copy = pickle.loads(pickle.dumps(storage))
    assert copy.child("x").read_bytes() == b"1"
    assert (copy.uri, copy.path, copy.endpoint) == (storage.uri, storage.path, storage.endpoint)


def test_a_reader_never_sees_a_part_of_a_file(tmp_path: Path) -> None:
    file = open_storage(tmp_path).child("file")
    contents = [bytes([value]) * 3_000_000 for value in (1, 2)]
    file.write_bytes(contents[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for content in contents:
                file.write_bytes(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [file.read_bytes() for _ in range(60)]
    finally:
        stop.set()
        writer.join()
    assert all(content in contents for content in seen)
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "a part was left behind"


def test_a_relative_path_and_home_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_storage("data/x").path == str(tmp_path / "data" / "x")
    assert open_storage("~/x").path == str(tmp_path / "home" / "x")
    assert open_storage("file:///a%20b").path == "/a b"


@pytest.mark.parametrize("uri", ["nope://host/x", "s3:///x", "file://data/formulas"])
def test_a_uri_that_leads_nowhere_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match=uri) as raised:
        open_storage(uri)
    assert_one_sentence(raised.value)


def assert_one_sentence(error: BaseException) -> None:
    assert "\n" not in str(error) and len(str(error)) < 400, str(error)


def explained(storage: Storage) -> dict[str, str]:
    """What each way of touching `storage` says when it fails."""
    ways = {
        "write": lambda: storage.child("f").write_bytes(b"1"),
        "read": lambda: storage.child("f").read_bytes(),
        "list": storage.names,
    }
    said = {}
    for name, way in ways.items():
        with pytest.raises(StorageError) as raised:
            way()
        assert_one_sentence(raised.value)
        said[name] = str(raised.value)
    return said


def test_a_bucket_that_is_missing_is_named(s3: S3Server) -> None:
    for message in explained(open_storage("s3://no-such-bucket/a")).values():
        assert message.startswith("Bucket 'no-such-bucket' of ") and s3.endpoint in message
    with pytest.raises(StorageError, match="Bucket 'no-such-bucket'"):
        open_dataset("s3://no-such-bucket/a")


def test_a_dataset_that_is_missing_in_a_bucket_is_no_trouble_of_the_bucket(s3: S3Server) -> None:
    with pytest.raises(DatasetError, match=f"No dataset at 's3://{BUCKET}/nothing'"):
        open_dataset(f"s3://{BUCKET}/nothing")


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_named(s3: S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "wrong")
    for message in explained(open_storage(f"s3://{BUCKET}/a")).values():
        assert name in message and BUCKET in message and s3.endpoint in message
        assert "refused" in message or "denied" in message
        assert "wrong" not in message, "a credential in a message"


@pytest.mark.parametrize("way", ["environment", "URI"])
def test_an_endpoint_where_nothing_listens_is_named(s3: S3Server, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}" if way == "environment" else "http://example.invalid")
        query = f"?endpoint_override={address}&scheme=http" if way == "URI" else ""
        started = time.monotonic()
        with pytest.raises(StorageError, match=f"No answer for .*http://{address}") as raised:
            open_dataset(f"s3://{BUCKET}/a{query}")
        assert raised.value.transient and not raised.value.missing
        assert time.monotonic() - started < PROMISED_S
        assert_one_sentence(raised.value)


def test_an_endpoint_that_never_answers_is_given_up(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    real = s3_files.REQUEST_TIMEOUT_S
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(s3_files, "REQUEST_TIMEOUT_S", 1)
        started = time.monotonic()
        with pytest.raises(StorageError, match=f"No answer for .*{endpoint}"):
            open_dataset(f"s3://{BUCKET}/a")
        spent = time.monotonic() - started
        assert spent + s3_files.MAX_ATTEMPTS * (real - 1) < PROMISED_S


def test_a_gateway_that_refuses_checksums_is_explained(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceph answers 411 to checksums in a trailer. Inkray sends none by default; who asks for them is told."""
    open_storage(f"s3://{BUCKET}").child("plain").write_bytes(b"1")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    with pytest.raises(StorageError, match="AWS_REQUEST_CHECKSUM_CALCULATION=when_required"):
        open_storage(f"s3://{BUCKET}").child("summed").write_bytes(b"1")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True) if os.geteuid() == 0 else None
    if made is None or made.returncode:
        pytest.skip(f"cannot mount a small disk here: {made.stderr.strip() if made else 'not root'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence(tiny_disk: Path) -> None:
    file = open_storage(tiny_disk).child("file")
    file.write_bytes(b"old")
    with pytest.raises(StorageError, match=f"No space left while writing '{tiny_disk}/file'"):
        file.write_bytes(bytes(2**20))
    assert file.read_bytes() == b"old" and [path.name for path in tiny_disk.iterdir()] == ["file"]


def test_a_dataset_that_does_not_fit_is_no_dataset(ray_cluster: None, tiny_disk: Path) -> None:
    from cluster.errors import user_error_in
    from data_pipeline.dataset.shards import Rejected, Row
    from data_pipeline.preparation.build import Chunk, build_dataset

    def noise(chunk: Chunk) -> tuple[list[Row], list[Rejected]]:
        rng = np.random.default_rng(chunk.number)
        image = encode_png(rng.integers(0, 255, (64, 256), np.uint8))
        return [text_row(f"{chunk.number}-{i}", image, 256, 64, "a") for i in range(chunk.inputs)], []

    chunks = [Chunk("train", number, 20, None) for number in range(3)]
    manifest = sequence_manifest("noise", ["a"], ImagePolicy())
    with pytest.raises(Exception) as raised:
        build_dataset(open_storage(tiny_disk), manifest, chunks, noise)
    assert str(user_error_in(raised.value)).startswith(f"No space left while writing '{tiny_disk}/train/part-0000")
    assert not (tiny_disk / "dataset.json").exists()


def directory_of(root: Path, uri: str = "dir://files") -> Storage:
    """A file system of fsspec that, as sftp, makes no directory unasked and renames."""
    return Storage(uri, pafs.PyFileSystem(pafs.FSSpecHandler(DirFileSystem(str(root), LocalFileSystem()))), "run")


def test_a_file_system_of_fsspec_gets_its_directories(tmp_path: Path) -> None:
    (tmp_path / "from" / "sub").mkdir(parents=True)
    (tmp_path / "from" / "sub" / "b").write_bytes(b"B")
    storage = directory_of(tmp_path / "root")
    storage.child("a", "b", "c").write_bytes(b"1")
    storage.child("copy").copy_from(tmp_path / "from")
    assert (tmp_path / "root" / "run" / "a" / "b" / "c").read_bytes() == b"1"
    assert (tmp_path / "root" / "run" / "copy" / "sub" / "b").read_bytes() == b"B"
    open_storage(f"local://{tmp_path}/x/y").child("z").write_bytes(b"2")
    assert (tmp_path / "x" / "y" / "z").read_bytes() == b"2"


def test_a_file_system_of_fsspec_shows_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = directory_of(tmp_path).child("file")
    file.write_bytes(b"old")
    shown: list[bytes] = []
    opened = LocalFileSystem.open

    def look_after_opening(self: LocalFileSystem, path: str, *args: object, **kwargs: object) -> object:
        stream = opened(self, path, *args, **kwargs)
        if kwargs.get("mode") == "wb":
            shown.append((tmp_path / "run" / "file").read_bytes())
        return stream

    monkeypatch.setattr(LocalFileSystem, "open", look_after_opening)
    file.write_bytes(b"new")
    assert shown == [b"old"] and file.read_bytes() == b"new"

    def lost(*_: object, **__: object) -> None:
        raise ConnectionResetError("connection lost")

    monkeypatch.setattr(DirFileSystem, "mv", lost)
    with pytest.raises(StorageError, match="connection lost") as raised:
        file.write_bytes(b"newer")
    assert raised.value.transient and file.read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"], "a part was left behind"


@pytest.mark.parametrize("refusal", ["error", "silence"])
def test_a_server_that_does_not_rename_over_a_file_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    rename = DirFileSystem.mv

    def like_smb(self: DirFileSystem, source: str, target: str) -> None:
        if not self.exists(target):
            rename(self, source, target)
        elif refusal == "error":
            raise FileExistsError(errno.EEXIST, "exists", target)

    monkeypatch.setattr(DirFileSystem, "mv", like_smb)
    file = directory_of(tmp_path).child("file")
    file.write_bytes(b"old")
    file.write_bytes(b"new")
    assert file.read_bytes() == b"new" and len(list((tmp_path / "run").iterdir())) == 1


@pytest.mark.parametrize(
    "uri",
    [
        "sftp://user:sesame@host/x",
        "sftp://user:ses@me/sesame@host/x",
        "s3://key:sesame@bucket/x",
        "s3://bucket/x?endpoint_override=http://user:sesame@host:1",
        "filecache::sftp://user:sesame@host/x",
    ],
)
def test_a_password_in_a_uri_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(StorageError, match="password in it") as raised:
        open_storage(uri)
    assert "sesame" not in str(raised.value) and "SSH agent" in str(raised.value)
    assert_one_sentence(raised.value)


def test_an_at_sign_and_a_port_are_no_password() -> None:
    assert open_storage("memory://folder/a:b@c").child("x").uri == "memory://folder/a:b@c/x"
    assert open_storage("file:///a:b@c").path == "/a:b@c"
    with pytest.raises(StorageError, match="not available"):
        open_storage("nope://user@host:22/a%40b")


AWS = "When reading: AWS Error {} during GetObject operation: x"


@pytest.mark.parametrize(
    ("text", "missing", "transient"),
    [
        (AWS.format("SLOW_DOWN"), False, True),
        (AWS.format("INTERNAL_FAILURE"), False, True),
        (AWS.format("SERVICE_UNAVAILABLE"), False, True),
        (AWS.format("NETWORK_CONNECTION"), False, True),
        (AWS.format("REQUEST_TIMEOUT"), False, True),
        (AWS.format("UNKNOWN (HTTP status 503)"), False, True),
        (AWS.format("UNKNOWN") + " InternalError", False, True),
        (AWS.format("ACCESS_DENIED"), False, False),
        (AWS.format("NO_SUCH_BUCKET"), False, False),
        (AWS.format("NO_SUCH_KEY"), True, False),
    ],
)
def test_an_error_says_whether_to_try_again(monkeypatch: pytest.MonkeyPatch, text: str, missing: bool, transient: bool) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    storage = open_storage("s3://bucket/file")
    with pytest.raises(StorageError) as raised, storage_errors(storage):
        raise OSError(text)
    assert_one_sentence(raised.value)
    raised.value.args = (f"{raised.value.args[0]} and advice",)
    for error in (raised.value, pickle.loads(pickle.dumps(raised.value))):
        assert (error.missing, error.transient) == (missing, transient)


@pytest.mark.parametrize(
    ("error", "missing", "transient"),
    [
        (FileNotFoundError("x"), True, False),
        (PermissionError("x"), False, False),
        (TimeoutError("x"), False, True),
        (ConnectionRefusedError("x"), False, True),
        (OSError(errno.EHOSTUNREACH, "x"), False, True),
        (OSError(errno.ENOSPC, "x"), False, False),
    ],
)
def test_errors_of_the_system_are_told_apart(tmp_path: Path, error: OSError, missing: bool, transient: bool) -> None:
    with pytest.raises(StorageError) as raised, storage_errors(open_storage(tmp_path)):
        raise error
    assert (raised.value.missing, raised.value.transient) == (missing, transient)
