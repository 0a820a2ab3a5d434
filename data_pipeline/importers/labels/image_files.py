"""Image files below a folder of this machine, found by their names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cluster.errors import UserError
from cluster.redaction import printable

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".jp2", ".j2k"),
    *(".avif", ".pbm", ".pgm", ".ppm", ".pnm", ".pcx", ".qoi", ".sgi", ".ras", ".heic", ".heif"),
)


_MOST_READ = 3  # times: folders that link to each other would be read without an end


class ImageFile(NamedTuple):
    """An image file: the parts of its path relative to the folder, the path itself, and which file that is."""

    parts: tuple[str, ...]
    path: str
    identity: tuple[int, int]  # device and inode, the same for all links to a file

    @property
    def name(self) -> str:
        """The path relative to the folder, with `/`; a byte that is not UTF-8 is written `\\xNN`."""
        return printable("/".join(self.parts))


class BrokenFile(NamedTuple):
    """A file with the name of an image that cannot be read, and why."""

    parts: tuple[str, ...]
    reason: str

    @property
    def name(self) -> str:
        """As that of an `ImageFile`."""
        return printable("/".join(self.parts))


def require_folder(path: Path) -> None:
    """Check that there is a folder.

    Raises:
        UserError: there is none.
    """
    try:
        found = path.is_dir()
    except (OSError, ValueError):
        found = False
    if not found:
        raise UserError(f"No folder '{printable(str(path))}'. Give a folder of images on this machine.")


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Whether a name is one of those that systems leave beside images: `.DS_Store`, `._a.png`, `__MACOSX`, `@eaDir`."""
    return name.startswith((".", "@eaDir", "__MACOSX"))


def folders_of(folder: Path) -> list[str]:
    """The names of the folders inside `folder`, sorted, without hidden ones."""
    with _readable(folder) as entries:
        return sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())


def image_files(folder: Path, skipped: Counter[str]) -> Iterator[ImageFile | BrokenFile]:
    """The files below `folder` that are named as images, sorted by path; `skipped` counts others by suffix, or as hidden.

    Links are followed, those to a folder above or to one that was read `_MOST_READ` times are broken files.

    Raises:
        UserError: a folder cannot be listed.
    """
    yield from _walk(str(folder), (), skipped, Counter(), ())


def _walk(
    path: str,
    parts: tuple[str, ...],
    skipped: Counter[str],
    read: Counter[tuple[int, int]],
    above: tuple[tuple[int, int], ...],
) -> Iterator[ImageFile | BrokenFile]:
    info = os.stat(path)
    identity = (info.st_dev, info.st_ino)
    if identity in above:
        yield BrokenFile(parts, "a link to a folder that it lies in")
        return
    if read[identity] == _MOST_READ:
        yield BrokenFile(parts, f"a link to a folder that was read {_MOST_READ} times, by other links")
        return
    read[identity] += 1
    with _readable(path) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if is_hidden(entry.name):
            skipped["hidden"] += 1
            continue
        below = (*parts, entry.name)
        if entry.is_dir():
            yield from _walk(entry.path, below, skipped, read, (*above, identity))
        elif not is_image_name(entry.name):
            skipped[os.path.splitext(entry.name)[1].lower() or "without suffix"] += 1
        elif not entry.is_file():
            yield BrokenFile(below, "a link that leads nowhere" if entry.is_symlink() else "not a regular file")
        else:
            info = entry.stat()
            yield ImageFile(below, entry.path, (info.st_dev, info.st_ino))


def _readable(folder: str | Path) -> os.ScandirIterator[str]:  # type: ignore[name-defined]
    try:
        return os.scandir(str(folder))
    except OSError as error:
        raise UserError(f"Cannot list the folder '{printable(str(folder))}': {error.strerror}.") from None


def skipped_note(skipped: Counter[str]) -> list[str]:
    """The note on files that are no images; none if there are none."""
    kinds = ", ".join(f"{count:,} {printable(suffix)}" for suffix, count in sorted(skipped.items()))
    return [f"Not images, or hidden, left alone: {kinds}."] if skipped else []
