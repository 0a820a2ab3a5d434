"""What is in a folder of images: every file is an input, an input with a problem, or left out by name.

A file is an image by its first bytes, or because its name says so: then it is an input even where it cannot be decoded.
Anything else is left out as no image. Folders whose name begins with a dot, and those that systems make beside images
(`@eaDir`, `__MACOSX`), are not entered. A link to a file is an input, a broken one an input with that problem; a link to a
folder is followed unless it leads back up, and no folder is read twice.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator

import pyarrow.fs as pafs

from data_pipeline.storage.base import Storage, fsspec_of, storage_errors
from trainers.prediction.files import (
    HIDDEN,
    NO_FILE,
    NO_IMAGE,
    SEEN,
    LeftOut,
    Listing,
    SourceFile,
    in_threads,
    is_local,
    read_file,
    reason_of,
    stamp_of,
)
from trainers.prediction.kinds import HEAD_BYTES, looks_like_image, named_as_image
from trainers.prediction.names import id_of

_SYSTEM_FOLDERS = {"@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "#recycle", "System Volume Information"}


def list_folder(storage: Storage) -> Listing:
    """The images below the folder `storage`, sorted by id.

    Raises:
        StorageError: the storage cannot be listed.
    """
    listing = Listing([], [storage.filesystem])
    candidates: list[tuple[SourceFile, int]] = []  # by their bytes: beside each file its size
    with storage_errors(storage):
        walk = _local(storage.path, listing) if is_local(storage.filesystem) else _remote(storage, listing)
        for file, size in walk:
            if file.problem or _is_named_as_image(file):
                listing.files.append(file)
            elif size == 0:
                listing.left_out.append(LeftOut(file.id, NO_IMAGE))
            else:
                candidates.append((file, size))
        files = [file for file, _ in candidates]
        for file, kind in zip(files, in_threads(lambda file: _kind(storage.filesystem, file), files), strict=True):
            if kind is None:
                listing.left_out.append(LeftOut(file.id, NO_IMAGE))
            else:
                listing.files.append(file._replace(problem=kind))
    listing.files.sort()
    listing.left_out.sort()
    return listing


def _is_named_as_image(file: SourceFile) -> bool:
    name = posixpath.basename(file.id)
    return named_as_image(name) and not name.startswith(".")  # `._a.png` is what macOS leaves beside a.png


def _kind(filesystem: pafs.FileSystem, file: SourceFile) -> str | None:
    """None of what is no image; else the problem with it, if any."""
    try:
        return "" if looks_like_image(read_file(filesystem, file.path, HEAD_BYTES)) else None
    except Exception as error:
        return reason_of(error)


def _local(root: str, listing: Listing) -> Iterator[tuple[SourceFile, int]]:
    """The files below a folder of this machine. `os` takes names that are not UTF-8, which pyarrow does not."""
    top = os.stat(root)
    seen = {(top.st_dev, top.st_ino)}
    above = os.path.realpath(root)
    waiting, links = [""], list[str]()
    while waiting or links:
        if not waiting:  # real folders first, so that a folder goes by its own name, not by that of a link to it
            waiting = [name for name in [links.pop(0)] if _is_new(root, name, seen, above, listing)]
            continue
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise
            yield SourceFile(id_of(folder), problem=f"is a folder that cannot be listed: {error.strerror}"), 0
            continue
        for entry in found:
            name = os.path.join(folder, entry.name)
            try:
                info = entry.stat()
            except OSError as error:
                leads = " (a link that leads nowhere)" if entry.is_symlink() else ""
                yield SourceFile(id_of(name), problem=f"cannot be read: {error.strerror}{leads}"), 0
                continue
            if stat.S_ISDIR(info.st_mode):
                if _is_hidden(entry.name):
                    listing.left_out.append(LeftOut(id_of(name), HIDDEN))
                elif entry.is_symlink():
                    links.append(name)
                else:
                    seen.add((info.st_dev, info.st_ino))
                    waiting.append(name)
            elif stat.S_ISREG(info.st_mode):
                yield SourceFile(id_of(name), os.fsencode(entry.path), stamp_of(info)), info.st_size
            else:
                listing.left_out.append(LeftOut(id_of(name), NO_FILE))


def _is_new(root: str, link: str, seen: set[tuple[int, int]], above: str, listing: Listing) -> bool:
    path = os.path.join(root, link)
    info, target = os.stat(path), os.path.realpath(path)
    if (info.st_dev, info.st_ino) in seen or os.path.commonpath([above, target]) == target:
        listing.left_out.append(LeftOut(id_of(link), SEEN))
        return False
    seen.add((info.st_dev, info.st_ino))
    return True


def _remote(storage: Storage, listing: Listing) -> Iterator[tuple[SourceFile, int]]:
    """The files below a folder of a server, by one listing."""
    inner = fsspec_of(storage.filesystem)
    if inner is None:
        infos = storage.filesystem.get_file_info(pafs.FileSelector(storage.path, recursive=True))
        found = [(info.path, info.size or 0, stamp_of(info)) for info in infos if info.type != pafs.FileType.Directory]
    else:
        entries = inner.find(storage.path, detail=True)
        found = [(path, info.get("size"), stamp_of(info)) for path, info in entries.items()]
    hidden: set[str] = set()
    base = storage.path.strip("/")
    for path, size, stamp in found:
        name = posixpath.relpath(path.strip("/"), base) if base else path.strip("/")
        parts = name.split("/")
        folder = next((i for i, part in enumerate(parts[:-1]) if _is_hidden(part)), None)
        if folder is None:
            yield SourceFile(id_of(name), path.encode(errors="surrogateescape"), stamp), 1 if size is None else size
        else:
            hidden.add("/".join(parts[: folder + 1]))
    listing.left_out += [LeftOut(id_of(name), HIDDEN) for name in hidden]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS
