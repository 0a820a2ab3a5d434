"""Arguments and overrides that the commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.errors import UserError


@dataclass(frozen=True)
class TrainingArguments:
    """A configuration's file, if one is named, and overrides of it; or the folder of a run to resume. `local`: without Ray."""

    config: str | None
    overrides: list[str]
    resume: str | None
    local: bool = False


def training_arguments(program: str, description: str | None) -> TrainingArguments:
    """What the command line says.

    Raises:
        UserError: a configuration beside a run that has its own.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="a YAML file of configs/train/; without one the defaults hold")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="dotted keys of the configuration")
    parser.add_argument("--resume", metavar="RUN", help="resume the run in this folder, from its last checkpoint")
    parser.add_argument("--local", action="store_true", help="train without Ray, in this process (under torchrun always)")
    args = parser.parse_intermixed_args()
    overrides = list(args.overrides)
    if args.config and "=" in args.config:
        overrides.insert(0, args.config)
        args.config = None
    if args.resume is not None and args.config:
        raise UserError("--resume takes its configuration from the run. Leave CONFIG out; key=value may change a value.")
    return TrainingArguments(args.config, overrides, args.resume, args.local)


MAX_BATCH_SIZE = 65_536


def add_option_arguments(
    parser: argparse.ArgumentParser, form: str = "decoding.key=value", purpose: str = "another way to predict"
) -> None:
    """Add positional `key=value` arguments, after all others: other ways to prepare images and to predict."""
    parser.add_argument("options", nargs="*", default=[], metavar=form, help=f"{purpose}, as in decoding.method=beam")


def places_and_options(words: Sequence[str], section: str) -> tuple[list[str], list[str]]:
    """Words of a command line apart: names of places, and overrides of keys of one section."""
    options = [word for word in words if "=" in word and word.split("=", 1)[0].split(".")[0] == section]
    return [word for word in words if word not in options], options


def batch_size_of(value: int) -> int:
    """The `--batch-size` of a command.

    Raises:
        UserError: it is less than 1, or more than any memory holds.
    """
    if not 1 <= value <= MAX_BATCH_SIZE:
        raise UserError(f"--batch-size is {value}: it is the number of images read at once, from 1 to {MAX_BATCH_SIZE:,}.")
    return value
