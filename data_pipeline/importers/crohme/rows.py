"""Rows of a shard from InkML files."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.shards import Rejected, Row
from data_pipeline.dataset.token_targets import TEXT
from data_pipeline.importers.crohme.caption import caption
from data_pipeline.importers.crohme.inkml import Ink, UnusableInk, read_inkml
from data_pipeline.importers.crohme.render import render_ink
from data_pipeline.importers.crohme.source import InkmlFile
from data_pipeline.importers.crohme.variations import Bank, distorted, vary
from data_pipeline.preparation.build import Chunk
from data_pipeline.preparation.images import encode_png, fit

SIZE = 0.2  # how much larger or smaller, on a logarithmic scale, the strokes of a variation are drawn


@dataclass(frozen=True)
class Work:
    """Files that become one shard: as they are, or, with a number above 0, each varied."""

    files: list[InkmlFile]
    variation: int = 0


def build_rows(policy: ImagePolicy, stroke_size: float | None, chunk: Chunk) -> tuple[list[Row], list[Rejected]]:
    """Read, caption and render the files of a chunk, or a variation of each."""
    work: Work = chunk.work
    suffix = f"~{work.variation}" if work.variation else ""
    rejected: list[Rejected] = []
    read: list[tuple[InkmlFile, Ink, str]] = []
    for file in work.files:
        try:
            if file.problem:
                raise UnusableInk(file.problem)
            ink = read_inkml(file.data)
            read.append((file, ink, caption(ink, file.id)))
        except UnusableInk as reason:
            rejected.append(Rejected(file.id + suffix, chunk.split, file.path, str(reason)))
        except RecursionError:
            rejected.append(Rejected(file.id + suffix, chunk.split, file.path, "its elements are nested too deeply"))
    bank = Bank.of(ink for _, ink, _ in read) if work.variation else Bank({})
    rows: list[Row] = []
    for file, ink, text in read:
        strokes, size = ink.strokes, stroke_size
        if work.variation:
            rng = np.random.default_rng([work.variation, zlib.crc32(file.id.encode())])
            strokes, text = vary(ink, text, bank, rng)
            strokes = distorted(strokes, rng)
            size = size and size * float(np.exp(rng.uniform(-SIZE, SIZE)))
        pixels = fit(render_ink(strokes, policy.height, policy.width, size), policy)
        source = Path(file.path).parent.name
        rows.append(Row(file.id + suffix, encode_png(pixels), pixels.shape[1], pixels.shape[0], {TEXT: text}, source))
    return rows, rejected
