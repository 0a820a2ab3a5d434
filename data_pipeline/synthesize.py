"""`python -m data_pipeline.synthesize formulas OUT`: a dataset of random formulas, printed and handwritten in equal parts.

Sample i of seed S is a function of (S, i), so the bytes are the same at any number of workers. Splits differ in what
their formulas say: the text decides which split a formula may be in, so a formula of `test` occurs in no other split.
"""

from __future__ import annotations

import argparse
import functools
import hashlib

from cluster.arguments import whole_number
from cluster.errors import run_command
from cluster.session import ray_session
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.dataset.shards import Rejected, Row
from data_pipeline.dataset.token_targets import TEXT, TEXT_COLUMNS
from data_pipeline.preparation.build import MAX_SIDE, Chunk, build_dataset
from data_pipeline.preparation.images import encode_png, fit
from data_pipeline.preparation.target_survey import TextSurvey
from data_pipeline.storage.base import open_storage
from data_pipeline.synthesis.formulas.grammar import FormulaConfig, charset
from data_pipeline.synthesis.formulas.sample import make_sample

SAMPLES_PER_SHARD = 512
# Of every 10 different texts, one may be in val, one in test, eight in train.
_PARTS = {"val": (0,), "test": (1,), "train": tuple(range(2, 10))}
_FIRST_INDEX = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}


def belongs(split: str, text: str) -> bool:
    """Whether a formula with this text belongs to `split`."""
    return hashlib.sha256(text.encode()).digest()[0] % 10 in _PARTS[split]


def build_rows(seed: int, formulas: FormulaConfig, policy: ImagePolicy, chunk: Chunk) -> tuple[list[Row], list[Rejected]]:
    """The samples of a chunk; `chunk.work` is the number of its first sample within the split."""
    rows = []
    for number in range(chunk.work, chunk.work + chunk.inputs):
        index = _FIRST_INDEX[chunk.split] + number
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
    chunks = [
        Chunk(split, number, min(SAMPLES_PER_SHARD, count - first), first)
        for split, count in counts.items()
        for number, first in enumerate(range(0, count, SAMPLES_PER_SHARD))
    ]
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
    builder = functools.partial(build_rows, seed, formulas, policy)
    return build_dataset(open_storage(out), manifest, chunks, builder, overwrite, survey=TextSurvey())


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data_pipeline.synthesize", description=(__doc__ or "").splitlines()[0])
    count, side = whole_number(1), whole_number(16, MAX_SIDE)
    parser.add_argument("kind", choices=["formulas"])
    parser.add_argument("out", help="where the dataset goes: a folder or a URI")
    parser.add_argument("--count", type=count, default=16000, help="samples of the train split (default %(default)s)")
    parser.add_argument("--val-count", type=count, default=500, help="samples of the val split (default %(default)s)")
    parser.add_argument("--test-count", type=count, default=1000, help="samples of the test split (default %(default)s)")
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--height", type=side, default=64, help="of the images, pixels (default %(default)s)")
    parser.add_argument("--width", type=side, default=256, help="the most, pixels (default %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset that is there")
    args = parser.parse_args()
    counts = {"train": args.count, "val": args.val_count, "test": args.test_count}
    open_storage(args.out)  # an invalid URI is reported before a session starts
    with ray_session():
        policy = ImagePolicy(args.height, args.width)
        made = synthesize_formulas(args.out, counts, args.seed, policy, FormulaConfig(), args.overwrite)
    sizes = ", ".join(f"{name} {split.rows:,}" for name, split in made.splits.items())
    print(f"{args.out}: {sizes} formulas, {len(made.charset)} tokens, digest {made.digest[:19]}")
    return 0


if __name__ == "__main__":
    run_command(main)
