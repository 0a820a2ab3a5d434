"""One cache of several users: what one has fetched the other finds, whatever their umask."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from data_pipeline.stream.cache import Cache, entry_key


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may go through; those of pytest are the user's own."""
    made = Path(tempfile.mkdtemp(prefix="inkray-shared-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def table(number: int) -> pa.Table:
    return pa.table({"image": pa.array([bytes([number]) * 1000], pa.binary())})


def key(number: int) -> str:
    return entry_key(f"ab {number}", ["image"])


def as_user(name: str, act: Callable[[], None]) -> None:
    """Have another user do something, in a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            user = pwd.getpwnam(name)
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, "see the traceback of the other user's process"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users")
@pytest.mark.parametrize("named_before", [False, True], ids=["made by Inkray", "made by hand"])
def test_two_users_share_a_cache(folder: Path, named_before: bool) -> None:
    cache_folder = folder / "cache"
    folder.chmod(0o777)
    if named_before:
        cache_folder.mkdir()
        cache_folder.chmod(0o777)
    umask = os.umask(0o077)
    try:
        cache = Cache(cache_folder, 10_000)
        assert not cache.get(key(1), lambda: table(1))[1]

        def other() -> None:
            theirs = Cache(cache_folder, 10_000)
            assert theirs.get(key(1), lambda: pytest.fail("it is there")) == (table(1), True)
            for number in range(2, 14):  # more than fits: entries of the other user have to go
                assert theirs.get(key(number), lambda number=number: table(number)) == (table(number), False)  # type: ignore[misc]

        as_user("nobody", other)
        assert cache.get(key(13), lambda: pytest.fail("it is there")) == (table(13), True)
        held = list(cache_folder.glob("??/*.arrow"))
        assert sum(file.stat().st_size for file in held) <= 10_000
        assert not (cache_folder / key(1)[:2] / f"{key(1)}.arrow").exists()
    finally:
        os.umask(umask)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes other users")
def test_who_may_only_read_an_entry_uses_it(folder: Path) -> None:
    """An older cache, or an administrator's: its files are their owner's to write."""
    Cache(folder / "cache", 10_000).get(key(1), lambda: table(1))
    for entry in (folder / "cache").glob("??/*"):
        entry.chmod(0o644)
        entry.parent.chmod(0o755)
    before = {entry: entry.read_bytes() for entry in (folder / "cache").glob("??/*")}

    def other() -> None:
        assert Cache(folder / "cache", 10_000).get(key(1), lambda: pytest.fail("it is there")) == (table(1), True)

    as_user("nobody", other)
    assert {entry: entry.read_bytes() for entry in (folder / "cache").glob("??/*")} == before


@pytest.mark.parametrize("mode", [0o700, 0o2770, 0o777])
def test_what_a_cache_holds_has_its_permissions(folder: Path, mode: int) -> None:
    (folder / "cache").mkdir()
    (folder / "cache").chmod(mode)
    Cache(folder / "cache", 10_000).get(key(1), lambda: table(1))
    for path in (folder / "cache").rglob("*"):
        expected = mode if path.is_dir() else mode & 0o666
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_link_in_a_shared_cache_is_not_written_through(folder: Path) -> None:
    cache = Cache(folder / "cache", 10_000)
    (folder / "mine").write_bytes(b"precious")
    (folder / "cache" / "size").symlink_to(folder / "mine")
    entry = folder / "cache" / key(1)[:2] / f"{key(1)}.arrow"
    entry.parent.mkdir()
    entry.symlink_to(folder / "mine")
    assert cache.get(key(1), lambda: table(1)) == (table(1), False)
    assert (folder / "mine").read_bytes() == b"precious" and not entry.is_symlink()
