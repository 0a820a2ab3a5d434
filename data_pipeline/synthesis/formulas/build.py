"""Datasets of random formulas.

Splits differ in what their formulas say: the text decides which split a formula may be in, so a formula of `test` occurs in no
other split.
"""

from __future__ import annotations

import functools
import hashlib

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.dataset.shards import Rejected, Row
from data_pipeline.dataset.token_targets import TEXT, TEXT_COLUMNS
from data_pipeline.preparation.build import Chunk, build_dataset
from data_pipeline.preparation.images import encode_png, fit
from data_pipeline.preparation.target_survey import TextSurvey
from data_pipeline.storage.base import open_storage
from data_pipeline.synthesis.formulas.grammar import FormulaConfig, charset
from data_pipeline.synthesis.formulas.sample import make_sample
from data_pipeline.synthesis.parts import Part, chunks_of, parts_of

# Of every 10 different texts, one may be in val, one in test, eight in train.
_TENTHS = {"val": (0,), "test": (1,), "train": tuple(range(2, 10))}


def belongs(split: str, text: str) -> bool:
    """Whether a formula with this text belongs to `split`."""
    return hashlib.sha256(text.encode()).digest()[0] % 10 in _TENTHS[split]


def build_rows(
    seed: int, formulas: FormulaConfig, policy: ImagePolicy, parts: dict[str, Part], chunk: Chunk
) -> tuple[list[Row], list[Rejected]]:
    """The samples of a chunk; `chunk.work` is the number of its first sample within the split."""
    rows = []
    for number in range(chunk.work, chunk.work + chunk.inputs):
        index = parts[chunk.split].first + number
        sample = make_sample(seed, index, formulas, functools.partial(belongs, chunk.split))
        pixels = fit(sample.image, policy)
        height, width = pixels.shape[:2]
        name = f"{chunk.split}-{number:08d}"
        image = encode_png(pixels)
        rows.append(Row(name, image, width, height, {TEXT: sample.text}, sample.source, sample.writer, sample.level))
    return rows, []


def synthesize_formulas(
    out: str, counts: dict[str, int], seed: int, policy: ImagePolicy, formulas: FormulaConfig, overwrite: bool
) -> Manifest:
    """Make the dataset; `counts` holds the samples of each split."""
    parts = parts_of(counts)
    manifest = Manifest(
        name="formulas",
        task="sequence",
        target={"charset": charset(formulas)},
        columns=TEXT_COLUMNS,
        image=policy,
        splits={},
        rejected=0,
        preparation={"command": "synthesize formulas", "seed": seed, "counts": counts, "formulas": formulas.__dict__},
        license="synthesized by Inkray, Apache-2.0",
    )
    builder = functools.partial(build_rows, seed, formulas, policy, parts)
    return build_dataset(open_storage(out), manifest, chunks_of(parts), builder, overwrite, survey=TextSurvey())
