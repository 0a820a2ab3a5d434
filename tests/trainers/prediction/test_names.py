"""Ids of files: reversible, UTF-8, one for each name."""

from __future__ import annotations

import os

from hypothesis import example, given
from hypothesis import strategies as st

from cluster.redaction import printable
from trainers.prediction.names import id_of, page_id, path_of

paths = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)
tricky = st.lists(
    st.sampled_from([b"\\", b"x", b"5c", b"e9", b"\xe9", b"\xff", b"#page=", b"2", b"/", b"\n"]), min_size=1, max_size=8
)


@given(paths | tricky.map(b"".join))
@example(b"caf\xe9.png")
@example(b"caf\\xe9.png")
@example(b"caf\\\xe9.png")
@example(b"scan.tif#page=2")
def test_an_id_gives_its_path_back(path: bytes) -> None:
    name = id_of(os.fsdecode(path))
    assert name.encode().decode() == name
    assert os.fsencode(path_of(name)) == path


@given(tricky.map(b"".join), st.integers(1, 30), tricky.map(b"".join), st.integers(1, 30))
def test_no_two_pages_have_one_id(one: bytes, page: int, other: bytes, another: int) -> None:
    same = page_id(id_of(os.fsdecode(one)), page) == page_id(id_of(os.fsdecode(other)), another)
    assert same == ((one, page) == (other, another))


def test_plain_names_are_their_own_ids() -> None:
    for name in ("a.png", "sub one/naïve.png", "数式.png", "tab\tname.png", "per%20cent#1.png", "back\\slash.png"):
        assert id_of(name) == name


def test_a_message_shows_no_control_characters() -> None:
    assert printable("a\x1b[31m\nb") == "a\\x1b[31m\\nb"
