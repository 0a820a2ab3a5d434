"""`python -m data_pipeline.prepare crohme SOURCE OUT`: InkML of the CROHME competition as a dataset of formulas.

SOURCE is a folder of InkML files, an archive of them (.tar.xz, .tar.gz, .tar), or a folder with the three archives of the
CROHME competition, whose splits are then train (train), val (2013 test) and test (2014 test).
"""

from __future__ import annotations

import argparse
import functools
from collections import Counter
from pathlib import Path

from cluster.arguments import finite_number, whole_number
from cluster.errors import UserError
from cluster.redaction import printable
from cluster.session import ray_session
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.dataset.token_targets import MAX_TOKENS, TEXT_COLUMNS
from data_pipeline.importers.crohme.rows import Work, build_rows
from data_pipeline.importers.crohme.source import iter_inkml
from data_pipeline.preparation.build import MAX_SIDE, Chunk, build_dataset
from data_pipeline.preparation.destination import require_apart
from data_pipeline.preparation.target_survey import TextSurvey
from data_pipeline.storage.base import open_storage

HELP = "InkML of the CROHME competition: handwritten formulas"
# One shard for all that a competition has: a shard is sorted by size, and the more rows it has, the less row groups are padded.
FILES_PER_SHARD = 10_000
LICENSE = (
    "CROHME: freely available only for research purpose without any commercial use (cite Mouchère et al., IAPR TC-11); "
    "weights trained on it are for non-commercial use"
)
_COMPETITION = {"train": "crohme_train", "val": "crohme_2013_valid", "test": "crohme_2014_test"}


def find_splits(source: Path) -> dict[str, Path]:
    """Which part of `source` is which split: the competition's three archives (or folders) by name, else all is `train`.

    Raises:
        UserError: `source` is not there.
    """
    _require_source(source)
    found = {}
    for split, stem in _COMPETITION.items():
        for candidate in sorted(source.glob(f"{stem}*")) if source.is_dir() else []:
            if candidate.is_dir() or candidate.name.endswith((".tar.xz", ".tar.gz", ".tgz", ".tar")):
                found[split] = candidate
    return found or {"train": source}


def _require_source(path: Path) -> None:
    try:
        path.stat()
    except (OSError, ValueError) as error:
        reason = "" if isinstance(error, FileNotFoundError) else f" ({getattr(error, 'strerror', None) or error})"
        raise UserError(f"No source '{path}'{reason}. Give a folder or an archive of InkML files.") from None


def prepare_crohme(
    splits: dict[str, Path],
    out: str,
    policy: ImagePolicy,
    overwrite: bool,
    stroke_size: float | None = None,
    variations: int = 0,
    max_tokens: int = MAX_TOKENS,
) -> Manifest:
    """Make the dataset; with `stroke_size` (pixels) symbols are of one size and `policy` has no fixed height.

    The split `train` has each formula once as it is, and `variations` times varied.
    """
    chunks: list[Chunk] = []
    skipped: Counter[str] = Counter()
    for split, path in splits.items():
        files = list(iter_inkml(path, skipped))
        parts = [files[first : first + FILES_PER_SHARD] for first in range(0, len(files), FILES_PER_SHARD)]
        works = [Work(part, variation) for variation in range(1 + variations * (split == "train")) for part in parts]
        chunks += [Chunk(split, number, len(work.files), work) for number, work in enumerate(works)]
    if skipped:
        kinds = ", ".join(f"{count} {printable(suffix) or 'without suffix'}" for suffix, count in sorted(skipped.items()))
        print(f"Not InkML, left alone: {kinds}")
    manifest = Manifest(
        name="crohme",
        task="sequence",
        target={"charset": []},
        columns=TEXT_COLUMNS,
        image=policy,
        splits={},
        rejected=0,
        preparation={
            "command": "prepare crohme",
            "splits": {split: path.name for split, path in splits.items()},
            "stroke_size": stroke_size,
            "variations": variations,
        },
        license=LICENSE,
    )
    builder = functools.partial(build_rows, policy, stroke_size)
    return build_dataset(open_storage(out), manifest, chunks, builder, overwrite, "files", TextSurvey(max_tokens))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this kind of source."""
    side = whole_number(16, MAX_SIDE)
    parser.add_argument("source", type=Path, help="folder or archive on this machine")
    parser.add_argument("out", help="where the dataset goes: a folder or a URI")
    parser.add_argument("--split", action="append", default=[], metavar="NAME=PATH", help="a split and its source below SOURCE")
    parser.add_argument("--height", type=side, default=128, help="of the images, pixels (default %(default)s)")
    parser.add_argument("--width", type=side, default=1024, help="the most, pixels (default %(default)s)")
    parser.add_argument(
        "--stroke-size",
        type=finite_number(4, MAX_SIDE),
        help="of the median stroke, pixels: all symbols of one size, images as high as that takes (without it: --height)",
    )
    parser.add_argument(
        "--variations",
        type=whole_number(0, 10_000),
        default=0,
        help="of each formula of the split train, beside it: symbols exchanged, parts cut out (default %(default)s)",
    )
    parser.add_argument(
        "--max-tokens",
        type=whole_number(1),
        default=MAX_TOKENS,
        help="of a text; a longer one is rejected (default %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset that is there")


def run(args: argparse.Namespace) -> int:
    """Prepare the dataset and print what it holds."""
    open_storage(args.out)  # an invalid URI is reported before a session starts
    splits = find_splits(args.source)
    if args.split:
        if not all("=" in item for item in args.split):
            raise UserError("--split takes NAME=PATH, as in --split train=crohme_train.tar.xz.")
        splits = {name: args.source / path for name, _, path in (item.partition("=") for item in args.split)}
        for name, path in splits.items():
            _require_source(path)
            if not name or "/" in name or name.startswith("."):
                raise UserError(f"--split {name}={path.name}: the name of a split is that of a folder.")
    require_apart(args.source, open_storage(args.out))
    with ray_session():
        policy = ImagePolicy(args.height, args.width, fixed_height=args.stroke_size is None)
        made = prepare_crohme(splits, args.out, policy, args.overwrite, args.stroke_size, args.variations, args.max_tokens)
    sizes = ", ".join(f"{name} {split.rows:,}" for name, split in made.splits.items())
    print(f"{args.out}: {sizes} formulas, {made.rejected} rejected (see rejected.parquet), {len(made.charset)} tokens")
    print(f"License of the data: {made.license}")
    return 0
