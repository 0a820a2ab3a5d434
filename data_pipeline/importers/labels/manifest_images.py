"""The images that rows of a table name: files relative to a folder, or cells of a Parquet file."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.importers.labels.label_values import is_missing
from data_pipeline.importers.labels.source import Cell
from data_pipeline.importers.labels.table import Position, Record, Table


class FoundImage(NamedTuple):
    """An image that a row names: its id, where it is, which file that is, and why there is none."""

    id: str
    image: str | Cell
    identity: tuple[int, int] | None = None
    problem: str = ""


class ImagePlaces:
    """Finds the images that rows name in their column `column`."""

    def __init__(self, column: str, folder: Path | None, source: Path) -> None:
        """Paths are relative to `folder`, or else to the folder of their table; ids of cells begin at `source`."""
        self._column, self._folder, self._source = column, folder, source
        self._tried = ""  # the first path that names no file, with its row and the folder it is below
        self._found = False

    def find(self, table: Table, record: Record) -> FoundImage:
        """The image of a row, whose first value names it."""
        value = record.values[0]
        if isinstance(value, Position):
            below = table.path.relative_to(self._source) if self._source.is_dir() else Path(table.path.name)
            self._found = True
            name = f"{below.with_suffix('').as_posix()}-{value.number:06d}"
            return FoundImage(printable(name), Cell(str(table.path), value.row_group, value.row, self._column))
        if is_missing(value):
            return FoundImage("", "", problem=f"column '{self._column}' names no image")
        if isinstance(value, list):
            raise UserError(f"Column '{printable(self._column)}' holds a list ({record.shown}): a row has one image.")
        if not isinstance(value, str):
            self._tried = self._tried or f"a {type(value).__name__} ({record.shown})"
            return FoundImage("", "", problem=f"column '{self._column}' is a {type(value).__name__}, not the path of an image")
        return self._file(self._folder or table.path.parent, value.strip(), record.shown)

    def _file(self, root: Path, text: str, shown: str) -> FoundImage:
        if "://" in text:
            return FoundImage(printable(text), "", problem=f"'{text}' is a URI; copy the images to this machine")
        problem = "there is no such file"
        for spelling in dict.fromkeys((text, text.replace("\\", "/"))):
            path = os.path.normpath(os.path.join(root, spelling))
            try:
                info = os.stat(path)
            except (OSError, ValueError) as error:
                problem = problem if isinstance(error, FileNotFoundError) else getattr(error, "strerror", None) or str(error)
                continue
            if not stat.S_ISREG(info.st_mode):
                problem = "not a regular file"
                continue
            self._found = True
            below = os.path.relpath(path, root)
            name = path if below.startswith("..") else below
            return FoundImage(printable(name), path, (info.st_dev, info.st_ino))
        self._tried = self._tried or f"'{text}' ({shown}) below '{root}'"
        return FoundImage(printable(text), "", problem=f"'{text}': {problem}")

    def require_some(self, images: Sequence[FoundImage]) -> None:
        """Check that at least one image was found.

        Raises:
            UserError: none was, so paths are probably relative to another folder, or another column holds them.
        """
        if images and not self._found:
            tried = f"the first is {printable(self._tried)}" if self._tried else f"column '{printable(self._column)}' is empty"
            raise UserError(
                f"No row names an image: {tried}. Paths are relative to the table, or to --images FOLDER; "
                "--image names the column that holds them."
            )
