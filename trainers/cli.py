"""The arguments of the commands that train."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from cluster.errors import UserError


@dataclass(frozen=True)
class TrainingArguments:
    """A configuration's file, if one is named, and overrides of it; or the folder of a run to go on with."""

    config: str | None
    overrides: list[str]
    resume: str | None


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
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder, from its last checkpoint")
    args = parser.parse_intermixed_args()
    overrides = list(args.overrides)
    if args.config and "=" in args.config:
        overrides.insert(0, args.config)
        args.config = None
    if args.resume is not None and args.config:
        raise UserError("--resume takes its configuration from the run. Leave CONFIG out; key=value may change a value.")
    return TrainingArguments(args.config, overrides, args.resume)
