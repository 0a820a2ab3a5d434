"""Reader of images beside a table `index,a,b,...` with 0 or 1 for each class: several classes may be on one image.

This is how the competition on letters in noise ("dirty MNIST", DACON 2021) has its data: `00012.png`, and a row whose index is
12. The classes are the columns behind the first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.shards import Rejected
from data_pipeline.importers.labels.classes import listed, require_target
from data_pipeline.importers.labels.image_files import (
    BrokenFile,
    ImageFile,
    folders_of,
    image_files,
    is_hidden,
    is_image_name,
    require_folder,
    skipped_note,
)
from data_pipeline.importers.labels.label_targets import flagged
from data_pipeline.importers.labels.label_values import text_of
from data_pipeline.importers.labels.once import each_once
from data_pipeline.importers.labels.source import Item, LabelSource, rejection
from data_pipeline.importers.labels.table import open_table

_INDEX = re.compile(r"([0-9]+)(?:\.0*)?")


def read_letters(source: Path, csv: str = "", images: str = "") -> LabelSource:
    """List the images of a folder with their rows of a table.

    Args:
        source: the folder that holds both.
        csv: the table, relative to `source`; without it, the only one there, or the only `*_answer.csv`.
        images: the folder of images, relative to `source`; without it, the one with the table's name, or the only one.

    Raises:
        UserError: table or images are not found, or the table cannot be used as a whole.
    """
    require_folder(source)
    path = source / csv if csv else _find_table(source)
    table = open_table(path)
    folder = source / images if images else _find_images(source, path)
    require_folder(folder)
    index, *classes = table.columns
    if not classes or any(re.fullmatch(r"[0-9.]*", name) for name in classes):
        raise UserError(
            f"'{table.name}' has no header `index,a,b,...`: its first line is "
            f"'{printable(','.join(table.columns))[:80]}'. The columns behind the first are the classes, by name."
        )
    require_target("multilabel", {"classes": classes}, table.name)

    files, rejected, skipped = _files(folder)
    by_index = _by_index(files)
    items: list[Item] = []
    used: list[str] = []
    named: set[str] = set()
    for record in table.records([index, *classes], image=index):
        reason, name = record.problem, ""
        if not reason:
            name = text_of(record.values[0])
            matches = _matches(name, by_index)
            named |= {file.path for file in matches}
            target = flagged(classes, record.values[1:])
            if not name:
                reason = f"column '{index}' has no value"
            elif not matches:
                reason = f"there is no image of index '{name}'"
            elif len(matches) > 1:
                reason = f"the index '{name}' is that of several images: {listed([file.name for file in matches])}"
            elif isinstance(target, str):
                reason = target
            else:
                items.append(Item(matches[0].name, matches[0].path, target, record.shown))
                used.append(matches[0].path)
        if reason:
            rejected.append(rejection(name or record.shown, record.shown, reason))
    kept, doubled = each_once(items, used)
    rejected += doubled
    rejected += [rejection(file.name, file.name, f"has no row in {table.name}") for file in files if file.path not in named]
    return LabelSource("multilabel", {"classes": classes}, kept, rejected, skipped_note(skipped))


def _files(folder: Path) -> tuple[list[ImageFile], list[Rejected], Counter[str]]:
    skipped: Counter[str] = Counter()
    files: list[ImageFile] = []
    rejected: list[Rejected] = []
    for file in image_files(folder, skipped):
        if isinstance(file, BrokenFile):
            rejected.append(rejection(file.name, file.name, file.reason))
        else:
            files.append(file)
    skipped.pop(".csv", None)
    return files, rejected, skipped


def _by_index(files: Sequence[ImageFile]) -> dict[str | tuple[str], list[ImageFile]]:
    """The files by what an index may call them: their name, the name without suffix, and that as a number."""
    found: dict[str | tuple[str], list[ImageFile]] = {}
    for file in files:
        name = file.parts[-1]
        stem = name.rpartition(".")[0]
        keys: list[str | tuple[str]] = [name, stem]
        for key in keys + ([_number(stem)] if stem.isascii() and stem.isdecimal() else []):
            found.setdefault(key, []).append(file)
    return found


def _number(digits: str) -> tuple[str]:
    """A number of any length as a key: 12 and 00012 are one."""
    return (digits.lstrip("0"),)


def _matches(index: str, files: dict[str | tuple[str], list[ImageFile]]) -> list[ImageFile]:
    """The images of an index: by number if it is one, else by name."""
    number = _INDEX.fullmatch(index)
    return files.get(_number(number[1]) if number else index, [])


def _find_table(source: Path) -> Path:
    found = sorted(path for path in source.glob("*.csv") if not is_hidden(path.name))
    answers = [path for path in found if path.stem.endswith("_answer")]
    if len(answers) == 1 or len(found) == 1:
        return (answers if len(answers) == 1 else found)[0]
    names = listed([path.name for path in answers or found]) or "none"
    raise UserError(f"'{printable(str(source))}' holds not one table of labels but {names}. Name it by --csv FILE.")


def _find_images(source: Path, table: Path) -> Path:
    def has_images(folder: Path) -> bool:
        return any(is_image_name(path.name) for path in folder.iterdir())

    found = [source / name for name in folders_of(source) if has_images(source / name)]
    same = [folder for folder in found if folder.name == table.stem.removesuffix("_answer")]
    candidates = same or found or ([source] if has_images(source) else [])
    if len(candidates) == 1:
        return candidates[0]
    names = listed([folder.name for folder in candidates]) or "none"
    raise UserError(f"'{printable(str(source))}' holds not one folder of images but {names}. Name it by --images FOLDER.")
