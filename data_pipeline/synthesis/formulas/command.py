"""A dataset of random formulas, printed and handwritten in equal parts."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cluster.arguments import whole_number
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.preparation.build import MAX_SIDE
from data_pipeline.synthesis.command_line import add_common, requested_counts, sizes
from data_pipeline.synthesis.formulas.build import synthesize_formulas
from data_pipeline.synthesis.formulas.grammar import FormulaConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `synthesize formulas`."""
    add_common(parser, count=16000, val_count=500, test_count=1000)
    side = whole_number(16, MAX_SIDE)
    parser.add_argument("--height", type=side, default=64, help="of the images, pixels (default %(default)s)")
    parser.add_argument("--width", type=side, default=256, help="the most, pixels (default %(default)s)")


def plan(args: argparse.Namespace) -> Callable[[], None]:
    """What makes the dataset and prints what came out."""
    counts = requested_counts(args)
    policy = ImagePolicy(args.height, args.width)

    def run() -> None:
        made = synthesize_formulas(args.out, counts, args.seed, policy, FormulaConfig(), args.overwrite)
        print(f"{args.out}: {sizes(made)} formulas, {len(made.charset)} tokens, digest {made.digest[:19]}")

    return run
