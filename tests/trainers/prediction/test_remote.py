"""Folders and lists on storage that is no disk: one listing, the same rules."""

from __future__ import annotations

import uuid

import pytest

from data_pipeline.storage.base import Storage, open_storage
from tests.support.encoded_images import PNG
from tests.support.s3 import S3Server
from trainers.prediction.inputs import FileInputs, open_inputs


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.s3)])
def root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty folder that is not on this machine's disk."""
    if request.param == "memory":
        return open_storage(f"memory://inputs/{uuid.uuid4().hex}")
    server: S3Server = request.getfixturevalue("s3_server")
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    return open_storage(server.create_bucket("inkray-inputs") + "/photos")


def read(inputs: FileInputs) -> dict[str, tuple[bytes, str]]:
    items = inputs.items(set(inputs.ids))
    out = inputs.reader()({key: [item[key] for item in items] for key in items[0]})
    return dict(zip(out["id"], zip(out["image"], out["problem"], strict=True), strict=True))


def test_a_folder_and_a_list_of_a_server(root: Storage) -> None:
    files = {"a.png": PNG, "sub/b": PNG, "cut.png": b"", "notes.json": b"{}", ".git/c.png": PNG, "sub/@eaDir/d.png": PNG}
    files |= {"images/naïve #1.png": PNG, "data.csv": "name,label\na.png,x\nnaïve #1.png,y\n./sub/b,z\ngone.png,\n".encode()}
    for name, data in files.items():
        root.child(*name.split("/")).write_bytes(data)
    folder = open_inputs(root.uri)
    assert isinstance(folder, FileInputs)
    assert read(folder) == dict.fromkeys(["a.png", "images/naïve #1.png", "sub/b"], (PNG, "")) | {"cut.png": (b"", "")}
    assert [tuple(one) for one in folder.left_out] == [
        (".git", "hidden folder"),
        ("data.csv", "no image"),
        ("notes.json", "no image"),
        ("sub/@eaDir", "hidden folder"),
    ]
    assert all(folder.stamps.values())
    table = open_inputs(root.child("data.csv").uri)
    assert isinstance(table, FileInputs)
    assert read(table) == dict.fromkeys(["a.png", "naïve #1.png", "./sub/b"], (PNG, "")) | {"gone.png": (b"", "does not exist")}
    assert all(table.stamps[name] for name in table.ids if name not in table.problems) and "header" in table.notes[0]
    one = open_inputs(root.child("sub", "b").uri)
    assert one.ids == ["b"]
