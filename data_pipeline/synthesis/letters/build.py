"""Datasets of boards of letters. Splits differ in their glyphs: none occurs in two of them."""

from __future__ import annotations

import functools
import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict

import cv2
import numpy as np

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.label_columns import LABELS, label_columns
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.dataset.shards import Rejected, Row
from data_pipeline.preparation.build import Chunk, build_dataset
from data_pipeline.preparation.images import encode_png
from data_pipeline.preparation.label_survey import LabelSurvey
from data_pipeline.preparation.pixels import PNG
from data_pipeline.storage.base import open_storage
from data_pipeline.synthesis.letters.board import draw_board
from data_pipeline.synthesis.letters.config import BOARD_SIDE, BoardConfig
from data_pipeline.synthesis.letters.glyphs import LETTERS, Glyphs
from data_pipeline.synthesis.letters.hands import stroked_glyphs
from data_pipeline.synthesis.parts import Part, chunks_of

SOURCE = "synthetic"
_FIRST_WRITER = {"val": 1_000_000, "test": 2_000_000}
_NOISY = 128  # largest value of noise that leaves a PNG little to compress: storing it is as small, and read in half the time


def writers_of(parts: Mapping[str, Part], writers: int) -> dict[str, range]:
    """Whose hands each split has: `writers` for train, or divided among the folds, and a quarter as many for val and test each.

    Raises:
        UserError: there are fewer writers than folds.
    """
    others = [split for split in parts if split not in _FIRST_WRITER]
    if writers < len(others):
        raise UserError(f"--writers {writers}: each of the {len(others)} folds needs a writer of its own.")
    found = {}
    for split in parts:
        if split in _FIRST_WRITER:
            first = _FIRST_WRITER[split]
            found[split] = range(first, first + max(1, writers // 4))
        else:
            place = others.index(split)
            found[split] = range(writers * place // len(others), writers * (place + 1) // len(others))
    return found


def stroked(parts: Mapping[str, Part], writers: int, seed: int) -> dict[str, Glyphs]:
    """The glyphs of each split in the hands of `writers_of`."""
    return {split: stroked_glyphs(seed, numbers) for split, numbers in writers_of(parts, writers).items()}


def make_board(
    seed: int, index: int, config: BoardConfig, glyphs: Glyphs, side: int = BOARD_SIDE
) -> tuple[np.ndarray, list[str]]:
    """Board `index` of a collection, uint8 (side, side), and the letters on it; a function of the arguments alone."""
    pixels, letters = draw_board(np.random.default_rng(np.random.SeedSequence([seed, index])), config, glyphs)
    if side != BOARD_SIDE:
        method = cv2.INTER_AREA if side < BOARD_SIDE else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(pixels, (side, side), interpolation=method))
    return pixels, [LETTERS[letter] for letter in letters]


def build_rows(
    seed: int, config: BoardConfig, side: int, parts: Mapping[str, Part], glyphs: Mapping[str, Glyphs], chunk: Chunk
) -> tuple[list[Row], list[Rejected]]:
    """The boards of a chunk; `chunk.work` is the number of its first board within the split."""
    rows = []
    for number in range(chunk.work, chunk.work + chunk.inputs):
        pixels, letters = make_board(seed, parts[chunk.split].first + number, config, glyphs[chunk.split], side)
        image = stored_png(pixels) if config.noise >= _NOISY else encode_png(pixels)
        rows.append(Row(f"{chunk.split}-{number:08d}", image, side, side, {LABELS: letters}, SOURCE, level=len(letters)))
    return rows, []


def stored_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W) as a PNG whose pixels are stored as they are, in one chunk: OpenCV takes eight times as long."""
    height, width = pixels.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = pixels
    header = struct.pack(">II5B", width, height, 8, 0, 0, 0, 0)  # 8 bits, gray
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 0)), (b"IEND", b""))
    packed = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return PNG + b"".join(packed)


def synthesize_letters(
    out: str,
    parts: Mapping[str, Part],
    glyphs: Mapping[str, Glyphs],
    seed: int = 0,
    config: BoardConfig | None = None,
    side: int = BOARD_SIDE,
    overwrite: bool = False,
    origin: str = "strokes",
    license_name: str = "synthesized by Inkray, Apache-2.0",
) -> Manifest:
    """Make the dataset; `glyphs` are those of each split, and `origin` says where they are from."""
    config = config or BoardConfig()
    target = {"classes": list(LETTERS)}
    digest = hashlib.sha256(b"".join(hashlib.sha256(glyphs[split].pixels.tobytes()).digest() for split in parts)).hexdigest()
    manifest = Manifest(
        name="letters",
        task="multilabel",
        target=target,
        columns=label_columns("multilabel", target),
        image=ImagePolicy(side, side, background=0, fixed_width=True, scale="fit"),
        splits={},
        rejected=0,
        preparation={
            "command": "synthesize letters",
            "seed": seed,
            "counts": {split: part.count for split, part in parts.items()},
            "boards": asdict(config),
            "glyphs": {"from": origin, "sha256": digest, "count": {split: len(glyphs[split].pixels) for split in parts}},
        },
        license=license_name,
    )
    builder = functools.partial(build_rows, seed, config, side, dict(parts), dict(glyphs))
    survey = LabelSurvey("multilabel", target)
    return build_dataset(open_storage(out), manifest, chunks_of(dict(parts)), builder, overwrite, survey=survey)
