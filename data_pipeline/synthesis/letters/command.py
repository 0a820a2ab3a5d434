"""A dataset of boards: 10 to 14 of 26 letters in noise, turned, enlarged and added onto one another; which are there?

Without `--glyphs` letters are capitals in the hands of many writers. A file of glyphs is a folder with one subfolder of images
for each letter, or a CSV: with a header and the columns id, letter and 784 pixels, or as EMNIST's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from cluster.arguments import finite_number, whole_number
from cluster.errors import UserError
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.synthesis.command_line import add_common, add_folds, requested_parts, sizes
from data_pipeline.synthesis.letters.build import stroked, synthesize_letters
from data_pipeline.synthesis.letters.config import BOARD_SIDE, MAX_SCALE, MIN_SCALE, BoardConfig
from data_pipeline.synthesis.letters.glyph_files import read_glyphs
from data_pipeline.synthesis.letters.glyphs import LETTERS, divide

MAX_WRITERS = 20_000
DEFAULTS = BoardConfig()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `synthesize letters`."""
    add_common(parser, count=16000, val_count=2000, test_count=2000)
    add_folds(parser)
    letters, scale, share = whole_number(0, len(LETTERS)), finite_number(MIN_SCALE, MAX_SCALE), finite_number(0, 1)
    parser.add_argument("--glyphs", type=Path, help="folder or CSV of letters (without it: strokes of many writers)")
    parser.add_argument(
        "--writers",
        type=whole_number(1, MAX_WRITERS),
        help="whose strokes train has; val and test have a quarter as many, of their own (default 400)",
    )
    parser.add_argument(
        "--size", type=whole_number(16, 1024), default=BOARD_SIDE, help="side of the images, pixels (default %(default)s)"
    )
    parser.add_argument("--easy", action="store_true", help="no noise and no rotation")
    parser.add_argument("--noise", type=whole_number(0, 255), help="its largest value, 0: none (default 254)")
    parser.add_argument("--rotation", type=finite_number(0, 360), help="range in degrees, 0: none (default 360)")
    parser.add_argument(
        "--scale", nargs=2, type=scale, metavar=("MIN", "MAX"), default=(DEFAULTS.min_scale, DEFAULTS.max_scale),
        help="enlargement of letters (default 1 2)",
    )  # fmt: skip
    parser.add_argument(
        "--letters", nargs=2, type=letters, metavar=("MIN", "MAX"), default=(DEFAULTS.min_letters, DEFAULTS.max_letters),
        help="different letters of a board (default 10 14)",
    )  # fmt: skip
    parser.add_argument("--no-overlap", dest="overlap", action="store_false", help="letters do not lie on one another")
    parser.add_argument("--dim", type=share, default=DEFAULTS.dim, help="share of dimmed letters (default %(default)s)")
    parser.add_argument("--dilate", type=share, default=DEFAULTS.dilate, help="share of thick letters (default %(default)s)")


def board_config(args: argparse.Namespace) -> BoardConfig:
    """The difficulty that the arguments ask for.

    Raises:
        UserError: they contradict each other.
    """
    for key in ("noise", "rotation"):
        if args.easy and getattr(args, key):
            raise UserError(f"--easy is without {key}, and --{key} {getattr(args, key):g} asks for it. Leave one of them out.")
    hard = (0, 0.0) if args.easy else (DEFAULTS.noise, DEFAULTS.rotation)
    return BoardConfig(
        noise=hard[0] if args.noise is None else args.noise,
        rotation=hard[1] if args.rotation is None else args.rotation,
        min_scale=args.scale[0],
        max_scale=args.scale[1],
        overlap=args.overlap,
        min_letters=args.letters[0],
        max_letters=args.letters[1],
        dim=args.dim,
        dilate=args.dilate,
    )


def plan(args: argparse.Namespace) -> Callable[[], None]:
    """Check everything and read the glyphs; what is returned makes the dataset and prints what came out.

    Raises:
        UserError: arguments contradict each other, or glyphs cannot be used.
    """
    config, parts = board_config(args), requested_parts(args)
    if args.glyphs is None:
        writers = args.writers or 400
        glyphs, about = stroked(parts, writers, args.seed), {"origin": f"strokes of {writers} writers"}
    elif args.writers is not None:
        raise UserError("--writers is for letters that Inkray strokes, and --glyphs brings others. Leave one of them out.")
    else:
        glyphs = divide(read_glyphs(args.glyphs), parts, args.seed)
        license_name = f"synthesized by Inkray from the glyphs of '{args.glyphs.name}', whose license holds for them"
        about = {"origin": args.glyphs.name, "license_name": license_name}

    def run() -> None:
        made = synthesize_letters(args.out, parts, glyphs, args.seed, config, args.size, args.overwrite, **about)
        print(f"{args.out}: {sizes(made)} boards of {args.size}x{args.size} pixels, digest {made.digest[:19]}")
        print(f"Absent labels: {absent_share(made):.1%}, the accuracy of calling every letter absent")

    return run


def absent_share(manifest: Manifest) -> float:
    """The share of all labels of all boards that are absent."""
    rows = sum(split.rows for split in manifest.splits.values())
    present = sum(sum(split.target_stats["class_rows"].values()) for split in manifest.splits.values())
    return 1 - present / (rows * len(LETTERS))
