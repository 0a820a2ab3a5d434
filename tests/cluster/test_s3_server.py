"""The S3 server that other tests rely on: reachable with nothing but what it gives, and really gone afterwards."""

import os
import socket
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow import fs, table

from tests.support.s3 import S3Server, parse_exports


def test_exports_of_several_lines_are_one_dictionary() -> None:
    text = "starting\nexport A=http://127.0.0.1:1 B=2\nexport C=a=b\n"
    assert parse_exports(text) == {"A": "http://127.0.0.1:1", "B": "2", "C": "a=b"}


def test_an_object_of_several_parts_comes_back_as_written(s3_server: S3Server) -> None:
    bucket = s3_server.create_bucket("inkray-parts").removeprefix("s3://")
    store = s3_server.filesystem()
    content = os.urandom(12 << 20)  # more than one part of a multipart upload
    with store.open_output_stream(f"{bucket}/some/object.bin") as stream:
        stream.write(content)
    with store.open_input_stream(f"{bucket}/some/object.bin") as stream:
        assert stream.read() == content


def test_a_uri_suffices_under_the_servers_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    uri = s3_server.create_bucket("inkray-uri") + "/rows.parquet"
    store, path = fs.FileSystem.from_uri(uri)
    pq.write_table(table({"id": ["a", "b"]}), path, filesystem=store)
    assert pq.read_table(path, filesystem=store).column("id").to_pylist() == ["a", "b"]


def test_making_a_client_leaves_the_environment_as_it_was(s3_server: S3Server) -> None:
    before = dict(os.environ)
    s3_server.filesystem()
    assert dict(os.environ) == before


def test_the_server_listens_on_loopback_alone(s3_server: S3Server) -> None:
    port = int(s3_server.endpoint.rsplit(":", 1)[1])
    assert s3_server.endpoint.startswith("http://127.0.0.1:")
    listeners = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    mine = [address for address in listeners if int(address.split(":")[1], 16) == port]
    loopback = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), 'little'):08X}"
    assert mine and all(address.startswith(loopback) for address in mine)
