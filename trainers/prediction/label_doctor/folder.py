"""The folder of a review: the page, its pictures and the file of corrections. The page is written last.

Its first file says what the folder is, so that `--overwrite` removes what was made here and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from cluster.errors import UserError
from cluster.redaction import redacted
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import Storage, open_storage
from trainers.prediction.output import require_writable

INDEX, CORRECTIONS, RECORD, PREDICTIONS, PICTURES = (
    "index.html",
    "corrections.csv",
    "label_errors.json",
    "out_of_fold.parquet",
    "images",
)
FORMAT = "label errors, 1"
_PICTURE = re.compile(r"[0-9]{5,}\.png")


def open_review(uri: str, overwrite: bool) -> Storage:
    """The folder at `uri`, empty of what an earlier review wrote there.

    Raises:
        UserError: there is something, and `overwrite` is not given; or it is not what this command writes.
    """
    folder = open_storage(uri)
    require_writable(folder.child(INDEX))
    names = folder.names()
    ours = _is_ours(folder, names)
    if names and not overwrite:
        hint = ", or pass --overwrite" if ours else ""
        raise UserError(f"'{folder.shown}' is there already, and not empty. Choose another place{hint}.")
    if names and not ours:
        raise UserError(
            f"'{folder.shown}' holds no review of labels (no {RECORD} of this command), so nothing in it is overwritten. "
            "Choose another place."
        )
    for name in (INDEX, CORRECTIONS, PREDICTIONS):  # the page first: without it, what is left is no review
        folder.child(name).delete()
    for name in folder.child(PICTURES).names():
        if _PICTURE.fullmatch(name):
            folder.child(PICTURES, name).delete()
    write_record(folder, {})
    return folder


def _is_ours(folder: Storage, names: list[str]) -> bool:
    try:
        record = json.loads(folder.child(RECORD).read_bytes()) if RECORD in names else None
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("format") == FORMAT


def write_record(folder: Storage, record: Mapping[str, Any]) -> None:
    """Write what the folder is, and what was found; written again when that is known."""
    content = {"format": FORMAT, **redacted(dict(record))}
    folder.child(RECORD).write_bytes(json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False).encode())


def write_pictures(folder: Storage, pictures: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Write pictures; returns the path of each beside the page. They are named by number: an id may hold anything."""
    paths = {}
    for number, (name, pixels) in enumerate(pictures.items(), start=1):
        paths[name] = f"{PICTURES}/{number:05d}.png"
        folder.child(paths[name]).write_bytes(encode_png(pixels))
    return paths


def write_page(folder: Storage, corrections: str, page: str) -> None:
    """Write the corrections, and then the page."""
    folder.child(CORRECTIONS).write_bytes(corrections.encode())
    folder.child(INDEX).write_bytes(page.encode())
