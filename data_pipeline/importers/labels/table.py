"""Tables of labels: CSV and TSV, JSON lines, and Parquet, all as records that say where in the file they are."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.importers.labels.classes import listed
from data_pipeline.importers.labels.hf_images import Feature, features_of

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet")
_LONGEST_NUMBER = 640  # digits, the least that Python may be limited to
_DELIMITERS = (",", ";", "\t")
_FOREIGN = "that is not UTF-8. Save the table as UTF-8, in a spreadsheet as 'CSV UTF-8'."
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


class Record(NamedTuple):
    """A row: where it is, the values of the columns that were asked for, and why it cannot be read, if it cannot."""

    shown: str
    values: tuple[Any, ...]
    problem: str = ""
    lines: int = 1  # of the file that it takes


class Position(NamedTuple):
    """The place of a row in a Parquet file: its number from 0, and where in which row group it is."""

    number: int
    row_group: int
    row: int


@dataclass(frozen=True)
class Table:
    """A table with named columns.

    `features` are what Hugging Face's metadata says of the columns of a Parquet file; `images` its columns that hold images
    themselves, as bytes or as structs {bytes, path}: where one is read as that, its value in a record is the `Position` of the
    row. Bytes in other columns are texts in UTF-8.
    """

    path: Path
    columns: tuple[str, ...]
    features: dict[str, Feature]
    images: frozenset[str] = frozenset()

    def require(self, columns: Sequence[str]) -> None:
        """Check that there are these columns.

        Raises:
            UserError: one is missing; the message lists those that exist.
        """
        for name in columns:
            if name not in self.columns:
                raise UserError(f"'{self.name}' has no column '{printable(name)}'. It has: {listed(self.columns, 40)}.")

    @property
    def name(self) -> str:
        """The name of the file, as it is shown."""
        return printable(self.path.name)

    def records(self, columns: Sequence[str], image: str = "") -> Iterator[Record]:
        """All rows, with the values of these columns in this order: texts of a CSV file, else what the file holds.

        `image` is the column among them that holds images, or names them.

        Raises:
            UserError: there is no such column, or the file is damaged.
        """
        self.require(columns)
        if self.path.suffix.lower() == ".parquet":
            return _parquet_records(self, columns, image)
        read = _json_records if self.path.suffix.lower() in (".jsonl", ".ndjson", ".json") else _csv_records
        return _with_texts(read(self, columns), columns, image)


def open_table(path: Path) -> Table:
    """Open a table and read the names of its columns.

    Raises:
        UserError: there is no such file, it is of another kind, empty, damaged, or names a column twice.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"'{printable(str(path))}' is no table: its name ends with none of {', '.join(SUFFIXES)}.")
    try:
        if suffix == ".parquet":
            table = _open_parquet(path)
            _require_once(path, table.columns)
            return table
        columns = _json_columns(path) if suffix in (".jsonl", ".ndjson", ".json") else _csv_columns(path)
    except OSError as error:
        raise UserError(f"Cannot read '{printable(str(path))}': {error.strerror or error}.") from None
    for name in columns:
        if _is_foreign(name):
            raise UserError(f"'{printable(path.name)}' names a column '{printable(name)}': {_FOREIGN}")
    _require_once(path, columns)
    return Table(path, tuple(columns), {})


def _with_texts(records: Iterator[Record], columns: Sequence[str], image: str) -> Iterator[Record]:
    """The records, all of whose texts are UTF-8, but for names of image files: those may have any bytes.

    Raises:
        UserError: another is not.
    """
    for record in records:
        for name, value in zip(columns, record.values, strict=False):
            if name != image and isinstance(value, str) and _is_foreign(value):
                raise UserError(f"{record.shown}: '{printable(name)}' is '{printable(value)}': {_FOREIGN}")
        yield record


def _is_foreign(text: str) -> bool:
    """Whether a text was read from bytes that are not UTF-8."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


def _require_once(path: Path, columns: Sequence[str]) -> None:
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise UserError(f"'{printable(path.name)}' has several columns with the name {listed(twice)}. Name each column once.")


def _csv_columns(path: Path) -> list[str]:
    with _open_text(path) as file:
        header = next(_csv_rows(path, file), None)
    if header is None or not any(header[1]):
        raise UserError(f"'{printable(path.name)}' has no header: its first line names the columns.")
    return [name.strip() for name in header[1]]


def _csv_records(table: Table, columns: Sequence[str]) -> Iterator[Record]:
    places = [table.columns.index(name) for name in columns]
    with _open_text(table.path) as file:
        rows = _csv_rows(table.path, file)
        next(rows)
        for line, row, lines in rows:
            shown = f"{table.name} line {line}"
            if len(row) != len(table.columns):
                yield Record(shown, (), f"has {len(row)} fields, the header names {len(table.columns)}")
                continue
            values = tuple([row[place].strip() for place in places])
            if lines > 1:
                _require_one_line(table, line, columns, values)
            yield Record(shown, values, lines=lines)


def _require_one_line(table: Table, line: int, columns: Sequence[str], values: Sequence[str]) -> None:
    """Check that no value has a line end in it: a quote too many, or too few, makes one value of several rows.

    Raises:
        UserError: one has.
    """
    for name, value in zip(columns, values, strict=True):
        if "\n" in value or "\r" in value:
            raise UserError(
                f"'{table.name}' line {line}: column '{printable(name)}' has several lines: '{printable(value[:40])}'. "
                'Is there a " too many, or too few? One in a value is written "".'
            )


def _csv_rows(path: Path, file: Any) -> Iterator[tuple[int, list[str], int]]:
    """The rows of a CSV file that are not blank, each with the number of its first line, and how many lines it takes."""
    first = file.readline()
    file.seek(0)
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else max(_DELIMITERS, key=first.count)
    rows = csv.reader(file, delimiter=delimiter, strict=True)  # an error for a quote that never ends
    while True:
        line = rows.line_num + 1  # where the row begins: a quoted field may have line ends
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if str(error) == "unexpected end of data":
                error = csv.Error('a " begins a value that never ends')
            raise UserError(f"'{printable(path.name)}' line {line}: {error}. Write it as a CSV file in UTF-8.") from None
        if row:
            yield line, row, rows.line_num + 1 - line


def _open_text(path: Path) -> Any:
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError(f"'{printable(path.name)}' is UTF-16. Save it as UTF-8.")
    # Bytes that are not UTF-8 are those of names of files that are not.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The values of a file of JSON lines, or of one JSON list; text where a line is not JSON."""
    with _open_text(path) as file:
        start = file.read(1)
        file.seek(0)
        if start == "[":
            try:
                yield from enumerate(json.load(file, parse_int=_whole_number), 1)
            except (ValueError, RecursionError) as error:
                raise UserError(f"'{printable(path.name)}' is not JSON: {error}.") from None
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line, parse_int=_whole_number)
                except (ValueError, RecursionError):
                    yield number, None


def _whole_number(text: str) -> int | str:
    """A number, or what Python refuses to convert, its text."""
    return int(text) if len(text) < _LONGEST_NUMBER else text


def _json_columns(path: Path) -> list[str]:
    columns = dict.fromkeys(str(key) for _, row in _json_rows(path) if isinstance(row, dict) for key in row)
    if not columns:
        raise UserError(f"'{printable(path.name)}' has no rows: each line of it is a JSON object with named values.")
    return list(columns)


def _json_records(table: Table, columns: Sequence[str]) -> Iterator[Record]:
    for number, row in _json_rows(table.path):
        shown = f"{table.name} row {number}"
        if isinstance(row, dict):
            yield Record(shown, tuple(row.get(name) for name in columns))
        else:
            yield Record(shown, (), "is no JSON object")


def _open_parquet(path: Path) -> Table:
    try:
        schema = pq.read_schema(path)
    except UnicodeEncodeError:
        raise UserError(f"Cannot read '{printable(str(path))}': its path is not UTF-8. Rename it.") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"Cannot read '{printable(str(path))}' as Parquet: {str(error).splitlines()[0]}.") from None
    images = frozenset(field.name for field in schema if _holds_bytes(field.type))
    return Table(path, tuple(schema.names), features_of(schema), images)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _parquet_records(table: Table, columns: Sequence[str], image: str) -> Iterator[Record]:
    cells = table.images & {image}
    plain = [name for name in dict.fromkeys(columns) if name not in cells]
    number = 0
    try:
        file = pq.ParquetFile(table.path)
        for group in range(file.num_row_groups):
            read = file.read_row_group(group, columns=plain)
            values = {name: _texts(table, name, read.column(name)) for name in plain}
            for row in range(file.metadata.row_group(group).num_rows):
                found = [Position(number, group, row) if name in cells else values[name][row] for name in columns]
                number += 1
                yield Record(f"{table.name} row {number}", tuple(found))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"Cannot read '{printable(str(table.path))}': {str(error).splitlines()[0]}.") from None


def _texts(table: Table, name: str, column: pa.ChunkedArray) -> list[Any]:
    """The values of a column, bytes among them as texts.

    Raises:
        UserError: some bytes are no text.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = column.to_pylist()
    if "binary" not in str(column.type):
        return values
    try:
        return [_decoded(value) for value in values]
    except UnicodeDecodeError:
        raise UserError(
            f"Column '{printable(name)}' of '{table.name}' holds bytes that are no text in UTF-8. Name another column."
        ) from None


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return [_decoded(item) for item in value] if isinstance(value, list) else value
