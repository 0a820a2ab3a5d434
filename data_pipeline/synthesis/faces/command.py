"""A dataset of small drawn faces with three attributes that depend on each other: mask, gender and age.

Each person is in several images, all in one split. The combinations of mask (worn, wrong, none), gender (male, female) and age
(young, middle, old) are 18 joint classes, 0 to 17.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cluster.arguments import finite_number, whole_number
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.synthesis.command_line import add_common, add_folds, requested_parts, sizes
from data_pipeline.synthesis.faces.build import MAX_PHOTOS, FacesConfig, synthesize_faces

DEFAULTS = FacesConfig()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `synthesize faces`."""
    add_common(parser, count=8000, val_count=1000, test_count=2000)
    add_folds(parser)
    parser.add_argument(
        "--size", type=whole_number(16, 1024), default=DEFAULTS.side, help="side of the images, pixels (default %(default)s)"
    )
    parser.add_argument(
        "--correlation",
        type=finite_number(0, 1),
        default=DEFAULTS.correlation,
        help="of the attributes: 0 independent, 1 determined by each other (default %(default)s)",
    )
    parser.add_argument(
        "--images-per-person", type=whole_number(1, MAX_PHOTOS), default=DEFAULTS.photos, help="(default %(default)s)"
    )


def plan(args: argparse.Namespace) -> Callable[[], None]:
    """Check everything; what is returned makes the dataset and prints what came out.

    Raises:
        UserError: there are more folds than persons.
    """
    config = FacesConfig(args.size, args.correlation, args.images_per_person)
    parts = requested_parts(args, config.photos)

    def run() -> None:
        made = synthesize_faces(args.out, parts, args.seed, config, args.overwrite)
        print(f"{args.out}: {sizes(made)} faces of {args.size}x{args.size} pixels, digest {made.digest[:19]}")
        for line in class_lines(made):
            print(line)

    return run


def class_lines(manifest: Manifest) -> list[str]:
    """How often each class of each head occurs in all splits."""
    lines = []
    for name, classes in manifest.target["heads"].items():
        found = [split.target_stats["class_rows"][name] for split in manifest.splits.values()]
        lines.append(f"  {name}: " + ", ".join(f"{label} {sum(rows[label] for rows in found):,}" for label in classes))
    return lines
