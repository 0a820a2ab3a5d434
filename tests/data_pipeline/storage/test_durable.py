"""What is written is on the disk before it is seen: the order of the system's calls, as the kernel has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline.storage.base import open_storage
from data_pipeline.storage.durable import publish_file


def calls(script: str, folder: Path) -> list[str]:
    """What a process asks of the system below `folder`: `fsync NAME`, `rename NAME`, in order."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = folder.parent / "calls"
    command = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o", str(log)]
    subprocess.run([*command, sys.executable, "-c", script, str(folder)], check=True, timeout=120)
    found = []
    for line in log.read_text().splitlines():
        if match := re.search(rf"f(?:data)?sync\(\d+<{re.escape(str(folder))}([^>]*)>", line):
            found.append(f"fsync {match[1]}")
        elif match := re.search(rf'rename[^"]*"[^"]*"[^"]*"{re.escape(str(folder))}([^"]*)"', line):
            found.append(f"rename {match[1]}")
    return [re.sub(r"/\.(\w+)\.[0-9a-f]{8}", r"/\1", call) for call in found]


def test_contents_come_before_the_name_and_the_name_before_the_next_file(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    script = (
        "import sys; from data_pipeline.storage.base import open_storage; out = open_storage(sys.argv[1]);"
        "out.child('sub', 'first').write_bytes(b'1'); out.child('sub', 'second').write_bytes(b'2')"
    )
    assert calls(script, folder) == [
        "fsync ",  # it holds `sub` now
        *["fsync /sub/first", "rename /sub/first", "fsync /sub"],
        *["fsync /sub/second", "rename /sub/second", "fsync /sub"],
    ]


def test_a_copied_folder_is_flushed_once_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    for name in ("a", "b"):
        (tmp_path / "from" / name).write_bytes(b"1")
    script = (
        "import sys; from pathlib import Path; from data_pipeline.storage.base import open_storage;"
        f"open_storage(sys.argv[1]).copy_from(Path('{tmp_path}/from'))"
    )
    (tmp_path / "out").mkdir()
    assert calls(script, tmp_path / "out") == ["fsync /a", "rename /a", "fsync /b", "rename /b", "fsync "]


def test_a_name_as_long_as_a_disk_takes_is_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "é" * 127, "a" * 39 + "\U0001f600" * 50):
        open_storage(tmp_path).child(name).write_bytes(b"1")
        assert (tmp_path / name).read_bytes() == b"1"
    with pytest.raises(OSError):
        publish_file(tmp_path / "nowhere" / "x", b"1")
    assert len(os.listdir(tmp_path)) == 3
