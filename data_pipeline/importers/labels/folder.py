"""Reader of class folders: `SOURCE/<class>/*.png`, or `SOURCE/train/<class>/*.png` beside `val` and `test`.

The latter is what torchvision and Hugging Face call ImageFolder. The name of a class is that of its folder; images may lie
deeper. The id of an image is its path relative to SOURCE, so names may repeat in other folders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.label_columns import LABEL
from data_pipeline.dataset.shards import Rejected
from data_pipeline.importers.labels.classes import heads_target, listed, ordered, require_target
from data_pipeline.importers.labels.folder_heads import Combinations
from data_pipeline.importers.labels.image_files import (
    BrokenFile,
    folders_of,
    image_files,
    is_image_name,
    require_folder,
    skipped_note,
)
from data_pipeline.importers.labels.once import each_once
from data_pipeline.importers.labels.source import Item, LabelSource, rejection
from data_pipeline.importers.labels.split_names import known_split, split_of_file

# The target of the folders that an image lies in, or None where they name none.
Labeler = Callable[[Sequence[str]], Mapping[str, Any] | None]


def read_folder(
    source: Path,
    classes: Sequence[str] | None = None,
    heads: Mapping[str, Sequence[str]] | None = None,
    joint: str = "class",
    group_regex: str = "",
) -> LabelSource:
    """List the images of class folders.

    Args:
        source: the folder.
        classes: in declared order; without them numeric names are ordered as numbers, others are sorted.
        heads: of a multitask dataset, with their classes: folders are numbered row-major, or named by the classes.
        joint: the name of the joint class of `heads`; empty: there is none.
        group_regex: what of an image's id, its first group or the whole match, names the group of the image.

    Raises:
        UserError: there is no folder, it holds no class folders, or folders of splits beside others.
    """
    require_folder(source)
    splits = _split_folders(source)
    folders = _class_folders(source, splits)
    if heads is None:
        names = list(classes) if classes is not None else ordered(map(printable, folders))
        task, target, label_of = "multiclass", {"classes": names}, _class_labeler(names)
        unknown = f"is none of the {len(names):,} classes {listed(names)}"
    else:
        combinations = Combinations(heads, folders)
        task, label_of = "multitask", combinations.label_of
        target = heads_target(heads, joint, combinations.joint_classes)
        unknown = f"names no combination of the classes of {', '.join(heads)}"
    require_target(task, target, f"Folder '{source}'")

    group_of = _group_by(group_regex)
    items: list[Item] = []
    rejected: list[Rejected] = []
    identities: list[tuple[int, int]] = []
    depths: dict[str, set[int]] = {}
    skipped: Counter[str] = Counter()
    for file in image_files(source, skipped):
        split = splits.get(file.parts[0], "")
        above = file.parts[bool(splits) : -1]
        label = label_of(above)
        if isinstance(file, BrokenFile):
            rejected.append(rejection(file.name, file.name, file.reason, split))
        elif not above:
            rejected.append(rejection(file.name, file.name, "lies in no class folder", split))
        elif label is None:
            rejected.append(rejection(file.name, file.name, f"its folder '{'/'.join(above)}' {unknown}", split))
        else:
            identities.append(file.identity)
            items.append(Item(file.name, file.path, label, file.name, group=group_of(file.name), split=split))
            depths.setdefault(above[0], set()).add(len(above))
    warnings = _depth_warnings(source, depths, declared=classes is not None) if heads is None else []
    kept, doubled = each_once(items, identities)
    return LabelSource(task, target, kept, [*rejected, *doubled], skipped_note(skipped), warnings)


def _depth_warnings(source: Path, depths: Mapping[str, set[int]], declared: bool) -> list[str]:
    """Warnings about class folders that look like something else; `depths` are how deep the images of each lie.

    Raises:
        UserError: no image lies in a class folder itself, and they are not `declared`: probably the folders below are classes.
    """
    deep = [printable(name) for name, found in depths.items() if 1 not in found]
    if depths and len(deep) == len(depths) and not declared:
        raise UserError(
            f"No image of '{printable(str(source))}' lies in a class folder itself, all are in folders below {listed(deep)}. "
            "If one of these holds the classes, it is SOURCE; if they are splits, call them train, val and test; if they are "
            "the classes, declare them by --classes."
        )
    splits = [printable(name) for name in depths if split_of_file(name)]
    return [
        *([f"images of these classes lie in folders below theirs alone: {listed(deep)}"] if deep else []),
        *([f"all classes have names of splits: {listed(splits)}"] if splits and len(splits) == len(depths) else []),
    ]


def _split_folders(source: Path) -> dict[str, str]:
    """The folders that are splits, each with the split that its name means; empty if `source` holds class folders itself."""
    names = folders_of(source)
    splits = {name: split for name in names if (split := known_split(name))}
    if not any(folders_of(source / name) for name in splits):
        return {}
    if len(splits) == len(names):
        return splits
    train = next((name for name, split in splits.items() if split == "train" and _holds_folders_alone(source / name)), None)
    if train is None:
        return {}  # a class may be called `test`
    others = [name for name in names if name not in splits]
    raise UserError(
        f"'{printable(str(source))}' holds the folders of splits ({listed(list(splits))}) beside others ({listed(others)}). "
        "Move the others away, or give the folder of one split as SOURCE."
    )


def _holds_folders_alone(folder: Path) -> bool:
    return bool(folders_of(folder)) and not any(is_image_name(path.name) for path in folder.iterdir())


def _class_folders(source: Path, splits: Mapping[str, str]) -> list[str]:
    """The names of all class folders, also those that are empty.

    Raises:
        UserError: there are none.
    """
    names = sorted({name for parent in ([source / split for split in splits] or [source]) for name in folders_of(parent)})
    if not names:
        raise UserError(
            f"'{printable(str(source))}' holds no class folders. The images of a class lie in a folder with its name: "
            "SOURCE/cat/1.png. For images beside a table of labels there are the kinds `manifest` and `letters`."
        )
    twice = [name for name, count in Counter(map(printable, names)).items() if count > 1]
    if twice:
        raise UserError(f"'{printable(str(source))}' holds several class folders that are shown as '{twice[0]}'. Rename one.")
    return names


def _class_labeler(names: Sequence[str]) -> Labeler:
    targets = {name: {LABEL: name} for name in names}
    return lambda above: targets.get(printable(above[0])) if above else None


def _group_by(pattern: str) -> Callable[[str], str]:
    """How the group of an image follows from its id.

    Raises:
        UserError: the pattern is no regular expression; when called: it does not match.
    """
    if not pattern:
        return lambda name: ""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group-regex {pattern}: not a regular expression ({error}).") from None

    def group_of(name: str) -> str:
        match = expression.search(name)
        if match is None:
            raise UserError(f"--group-regex {pattern}: nothing of '{name}' matches. It is matched with paths below SOURCE.")
        return (match[1] if expression.groups else match[0]) or ""

    return group_of
