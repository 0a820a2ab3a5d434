"""Sources of InkML files: folders and tar archives, read in a fixed order without unpacking anything to disk."""

import lzma
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cluster.errors import UserError
from cluster.redaction import printable

MAX_FILE_BYTES = 16 * 2**20
"""A larger InkML file is not read: the largest real one is a hundredth of that."""

MAX_ARCHIVE_BYTES = 4 * 2**30
"""An archive whose InkML files are larger than this together is refused: they are sorted in memory."""

_ARCHIVES = (".tar", ".tar.xz", ".txz", ".tar.gz", ".tgz")
_BROKEN_ARCHIVE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)


@dataclass(frozen=True)
class InkmlFile:
    """One InkML file of the source."""

    id: str
    """The file's name without folder and suffix; unique in the source."""
    path: str
    """Where it lies, relative to the source, with `/`; for a file in an archive, the archive's name comes first."""
    data: bytes
    problem: str = ""
    """Why the file was not read, with `data` empty; empty when it was."""


def iter_inkml(source: str | Path, skipped: Counter[str] | None = None) -> Iterator[InkmlFile]:
    """Every `*.inkml` of a folder (at any depth), of a .tar, .tar.xz or .tar.gz, or of a folder of such archives.

    The order is that of the paths. One archive's InkML files are held in memory at a time.

    Args:
        source: a folder or an archive.
        skipped: where given, counts what else lies in the source, by suffix.

    Raises:
        UserError: at the call a source that is missing or of another kind; while iterating one that cannot be read or
            holds no InkML, an archive that is broken or too large, two files with the same name.
    """
    source = Path(source)
    skipped = Counter() if skipped is None else skipped
    if source.is_dir():
        files = _folder_files(source, skipped)
    elif not source.exists():
        raise UserError(f"CROHME source not found: {source}. Name a folder of InkML files or a .tar.xz of them")
    elif _is_archive(source.name):
        files = _archive_files(source, skipped)
    else:
        raise UserError(f"{source} is neither a folder nor one of {', '.join(_ARCHIVES)}")
    return _each_once(files, source, skipped)


def _each_once(files: Iterator[InkmlFile], source: Path, skipped: Counter[str]) -> Iterator[InkmlFile]:
    seen: dict[str, str] = {}
    for file in files:
        if file.id in seen:
            raise UserError(
                f"two InkML files are named {file.id!r} in {source}: {printable(seen[file.id])} and "
                f"{printable(file.path)}. "
                "A file's name is its identity: rename one, or prepare the two apart"
            )
        seen[file.id] = file.path
        yield file
    if not seen:
        others = ", ".join(f"{count} {printable(suffix)}" for suffix, count in skipped.most_common(5))
        raise UserError(f"no .inkml files in {source}" + (f" (it holds {others})" if others else ""))


def _folder_files(folder: Path, skipped: Counter[str]) -> Iterator[InkmlFile]:
    def unreadable(error: OSError) -> None:
        raise UserError(f"cannot read the folder {printable(str(error.filename))}: {error.strerror}") from error

    paths = [Path(parent, name) for parent, _, names in os.walk(folder, onerror=unreadable) for name in names]
    for path in sorted(paths, key=lambda path: path.relative_to(folder).as_posix()):
        relative = path.relative_to(folder).as_posix()
        if _is_inkml(path.name):
            yield _read(path, relative)
        elif _is_archive(path.name):
            yield from _archive_files(path, skipped, f"{relative}/")
        else:
            skipped[_kind(path.name)] += 1


def _read(path: Path, relative: str) -> InkmlFile:
    try:
        if not path.is_file():
            return InkmlFile(path.stem, relative, b"", "not a regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            return InkmlFile(path.stem, relative, b"", f"larger than {MAX_FILE_BYTES} bytes")
        return InkmlFile(path.stem, relative, path.read_bytes())
    except OSError as error:
        return InkmlFile(path.stem, relative, b"", f"cannot be read: {error.strerror}")


def _archive_files(archive: Path, skipped: Counter[str], prefix: str = "") -> Iterator[InkmlFile]:
    """The InkML members of an archive, which is read once, from start to end: xz cannot be read at random."""
    files: list[InkmlFile] = []
    total = 0
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if member.isdir():
                    continue
                if not _is_inkml(name.name):
                    skipped[_kind(name.name)] += 1
                    continue
                data, problem = b"", _problem(member)
                if not problem and (stream := tar.extractfile(member)) is not None:
                    data = stream.read()
                    total += len(data)
                if total > MAX_ARCHIVE_BYTES:
                    raise UserError(f"{archive} holds more than {MAX_ARCHIVE_BYTES} bytes of InkML; unpack it first")
                files.append(InkmlFile(name.stem, prefix + str(name), data, problem))
    except _BROKEN_ARCHIVE as error:
        raise UserError(f"cannot read the archive {archive}: {error or type(error).__name__}") from error
    files.sort(key=lambda file: file.path, reverse=True)
    while files:
        yield files.pop()


def _problem(member: tarfile.TarInfo) -> str:
    if not member.isfile():
        return "not a regular file in the archive"
    if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
        return "its name leads out of the archive"
    if member.size > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES} bytes"
    return ""


def _is_inkml(name: str) -> bool:
    # macOS leaves a "._name" beside each "name".
    return name.lower().endswith(".inkml") and not name.startswith("._")


def _is_archive(name: str) -> bool:
    return name.lower().endswith(_ARCHIVES) and not name.startswith("._")


def _kind(name: str) -> str:
    return PurePosixPath(name).suffix.lower() or "without suffix"
