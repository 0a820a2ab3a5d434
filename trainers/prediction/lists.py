"""Lists of images: a path a line, or the first column of a table, as spreadsheets and other systems write them.

UTF-8 or, with a byte order mark, UTF-16 and UTF-32; any line ends; separated by tabs, commas or semicolons, quoted (then a cell
behind the path may hold line ends) or not; with or without a header. A path is absolute, a URI, or relative to the list's
folder or to the folder `images` beside the list; backslashes may stand for slashes, and ids of earlier predictions for names
that are not UTF-8. Of several ways to read a line the first that names something counts. A line that names nothing is an input
with that problem.
"""

from __future__ import annotations

import csv
import os
import posixpath
import re
import stat
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow.fs as pafs

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.storage.base import Storage, StorageError, fsspec_of, open_storage, storage_errors
from trainers.prediction.files import Listing, SourceFile, in_threads, is_local, joined, stamp_of
from trainers.prediction.kinds import named_as_image
from trainers.prediction.names import path_of, written

# The longer mark first: that of UTF-32 begins with that of UTF-16.
_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HEADERS = {
    *("file", "files", "filename", "filenames", "filepath", "path", "paths", "image", "images", "imagename", "imagefile"),
    *("imagepath", "img", "name", "id", "imageid", "key", "uri", "url", "document"),
}
_OPENED, _CLOSED = re.compile(r'[,;\t]\s*"'), re.compile(r'"\s*(?:[,;\t]|$)')  # where a quoted cell begins, and ends
_NO_TABLE = ("none", "none, quoted")
_SEPARATORS = {"tabs": "\t", "commas": ",", "semicolons": ";"}


class Spelling(NamedTuple):
    """One way to read a line: the kind of table, the path as it is written, and as it is looked for."""

    table: str
    written: str
    path: str


class Found(NamedTuple):
    """What stands at a path: a file system and the path on it, the state of the file, or the problem with it."""

    at: int
    path: str
    stamp: str
    problem: str = ""


def is_text(head: bytes) -> bool:
    """Whether a file that begins with `head` may be a list."""
    return head.startswith(tuple(mark for mark, _ in _MARKS)) or b"\0" not in head


def read_list(file: Storage) -> Listing:
    """The images that `file` lists, in its order.

    Raises:
        UserError: it is no text, lists nothing, something twice, or nothing that exists.
        StorageError: it, or what it lists, cannot be asked for.
    """
    lines = [line for line in _lines(file) if line.strip()]
    if not lines:
        raise UserError(f"'{file.uri}' lists no images.")
    places = _Places(file)
    spellings = [_spellings(line) for line in lines]
    found: list[tuple[Spelling, Found] | None] = [None] * len(lines)
    for turn in range(max(map(len, spellings))):
        asked = [i for i, ways in enumerate(spellings) if found[i] is None and turn < len(ways)]
        answers = places.find([(spellings[i][turn].path, i + 1) for i in asked])
        for i, answer in zip(asked, answers, strict=True):
            if answer is not None:
                found[i] = (spellings[i][turn], answer)
    hits = [hit for hit in found if hit]
    if not any(answer.path and not answer.problem for _, answer in hits):
        raise UserError(
            f"Nothing that '{file.uri}' lists is a file. The first of {len(lines)} lines is '{printable(lines[0])[:200]}'; "
            f"they are looked for below {places.described()}. Write one path a line, relative to one of these, or absolute."
        )
    usual = Counter(spelling.table for spelling, _ in hits).most_common(1)[0][0]
    listing = Listing([], places.filesystems)
    for i, hit in enumerate(found):
        if hit is None:
            spelling = next((way for way in spellings[i] if way.table == usual), spellings[i][0])
            if i == 0 and _is_header(spelling.written, lines[0] if usual not in _NO_TABLE else ""):
                listing.notes.append(
                    f"The first line of '{file.uri}' names no file and is taken as a header: {printable(lines[0])[:100]}"
                )
                continue
            listing.files.append(SourceFile(written(spelling.written), problem="does not exist"))
        else:
            spelling, answer = hit
            name, path = written(spelling.written), answer.path.encode(errors="surrogateescape")
            listing.files.append(SourceFile(name, path, answer.stamp, answer.problem, answer.at))
    twice = [name for name, count in Counter(file.id for file in listing.files).items() if count > 1]
    if twice:
        raise UserError(f"'{file.uri}' lists '{printable(twice[0])}' twice. Each image is predicted once: remove one.")
    return listing


def _lines(file: Storage) -> list[str]:
    data = file.read_bytes()
    if not is_text(data):
        raise UserError(f"'{file.uri}' is neither a folder, nor an image, nor a list of images: it is not text.")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
    # Bytes that are not UTF-8 are those of names that are not.
    text = data.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace")
    lines = re.split("\r\n|\n|\r", text.replace("\0", "\ufffd"))
    return _with_whole_cells([line.removeprefix("\ufeff") for line in lines])  # lists that were joined keep their marks


def _with_whole_cells(lines: list[str]) -> list[str]:
    """The lines, those joined over which a quoted cell extends: it begins behind the path in one, and ends in another."""
    whole: list[str] = []
    begun = -1  # the line in which a cell was opened
    for number, line in enumerate(lines):
        if begun < 0:
            whole.append(line)
            if line.count('"') % 2 and _OPENED.search(line):
                begun = number
        elif line.count('"') % 2 and _CLOSED.search(line):
            whole[-1] = "\n".join(lines[begun : number + 1])
            begun = -1
    return whole if begun < 0 else [*whole, *_with_whole_cells(lines[begun + 1 :])]


def _spellings(line: str) -> list[Spelling]:
    """The ways to read a line, the likeliest first."""
    first = line.split("\t")[0]
    plain = "tabs" if "\t" in line else "none"
    ways = [(plain, first), (plain, first.strip())]
    for name, separator in _SEPARATORS.items():
        if separator in line or '"' in line:
            table = f"{name}, quoted" if separator in line else "none, quoted"
            ways.append((table, _first_cell(line.strip(), separator)))
    ways.append(("none", line))
    spellings = [Spelling(table, text, text) for table, text in ways if text]
    spellings += [way._replace(path=way.path.replace("\\", "/")) for way in spellings if "\\" in way.path]
    spellings += [way._replace(path=path_of(way.path)) for way in spellings if path_of(way.path) != way.path]
    return list(dict.fromkeys(spellings))


def _first_cell(line: str, separator: str) -> str:
    try:
        return next(csv.reader([line], delimiter=separator), [""])[0].strip()
    except (csv.Error, IndexError):  # a cell of more than 128 KiB, or none at all
        return ""


def _is_header(text: str, line: str) -> bool:
    """Whether the first cell of a first line that names no file is a column's name; `line`: all of it, if it has several."""
    plain = re.sub(r"[^a-z]", "", text.lower())
    return plain in _HEADERS or bool(line and not named_as_image(text) and not set(text) & set("/\\.0123456789"))


@dataclass
class _Places:
    """Where the lines of a list may lead."""

    file: Storage

    def __post_init__(self) -> None:
        folder = self.file.path.rpartition("/")[0] or ("/" if self.file.is_local else "")
        self.folders = [folder, posixpath.join(folder, "images")]
        self.filesystems: list[pafs.FileSystem] = [self.file.filesystem]
        self._by_bucket: dict[str, Storage] = {}

    def described(self) -> str:
        """The folders that relative paths are looked for in."""
        return " and ".join(f"'{folder}'" for folder in self.folders)

    def find(self, asked: list[tuple[str, int]]) -> list[Found | None]:
        """What each path (of the line with that number) leads to; None: nothing."""
        answers: list[Found | None] = [None] * len(asked)
        for folder in self.folders:
            missing = [i for i, answer in enumerate(answers) if answer is None]
            where = [self._place(*asked[i], folder) for i in missing]
            for at in sorted({place[0] for place in where if place}):
                of = [(i, place[1]) for i, place in zip(missing, where, strict=True) if place and place[0] == at]
                for (i, path), state in zip(of, self._states(at, [path for _, path in of]), strict=True):
                    answers[i] = Found(at, path, *state) if state else None
        return answers

    def _place(self, text: str, line: int, folder: str) -> tuple[int, str] | None:
        if _URI.match(text):
            return self._of_uri(text, line) if folder == self.folders[0] else None
        if text.startswith("/"):
            if folder != self.folders[0]:
                return None
            local = self.file.filesystem if self.file.is_local else pafs.LocalFileSystem()
            return self._number(local), text
        if not self.file.is_local and not text.isascii() and text.encode(errors="replace").decode() != text:
            return None  # a server's names are UTF-8
        return 0, joined(folder, text, self.file.filesystem)

    def _of_uri(self, uri: str, line: int) -> tuple[int, str]:
        bucket = re.match(r"s3://[^/?#]*", uri)
        try:
            if bucket and "?" not in uri:  # a client for each bucket, not for each file
                root = self._by_bucket.setdefault(bucket[0], open_storage(bucket[0]))
                return self._number(root.filesystem), joined(root.path, uri[bucket.end() :].strip("/"), root.filesystem)
            storage = open_storage(uri)
        except StorageError as error:
            raise UserError(f"Line {line} of '{self.file.uri}' cannot be opened: {error}") from None
        return self._number(storage.filesystem), storage.path

    def _number(self, filesystem: pafs.FileSystem) -> int:
        for number, known in enumerate(self.filesystems):
            if known is filesystem or known.equals(filesystem):
                return number
        self.filesystems.append(filesystem)
        return len(self.filesystems) - 1

    def _states(self, at: int, paths: list[str]) -> list[tuple[str, str] | None]:
        """(stamp, problem) of each path, None where nothing is."""
        filesystem = self.filesystems[at]
        if is_local(filesystem):
            return [_local_state(path) for path in paths]
        with storage_errors(Storage(self.file.uri, filesystem, paths[0])):
            inner = fsspec_of(filesystem)
            if inner is None:
                return [_state_of(info) for info in filesystem.get_file_info(paths)]
            return list(in_threads(lambda path: _fsspec_state(inner, path), paths))


def _local_state(path: str) -> tuple[str, str] | None:
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return ("", "is a link that leads nowhere") if os.path.islink(path) else None
    if stat.S_ISREG(info.st_mode):
        return stamp_of(info), ""
    return "", "is a folder" if stat.S_ISDIR(info.st_mode) else "is no file"


def _state_of(info: pafs.FileInfo) -> tuple[str, str] | None:
    if info.type == pafs.FileType.NotFound:
        return None
    return ("", "is a folder") if info.type == pafs.FileType.Directory else (stamp_of(info), "")


def _fsspec_state(filesystem: Any, path: str) -> tuple[str, str] | None:
    try:
        info = filesystem.info(path)
    except FileNotFoundError:
        return None
    return ("", "is a folder") if info.get("type") == "directory" else (stamp_of(info), "")
