"""Command `python -m models.summary CONFIG`: parameters, output shapes and costs of a recognizer.

CONFIG is a name of configs/model (satrn_final) or a YAML file; `--all` prints a line for each configuration that Inkray
ships. Counts are for the `reference` vocabulary and image size of the configuration; options override them.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models.errors import ModelConfigError
from models.presets import NamedConfig, load_named, names
from models.summary.count import Counts, count
from models.summary.measure import Measurement, measure
from models.summary.table import details, line, title

MAX_SIZE = 1_000_000


def main() -> int:
    """Runs the command."""
    args = _arguments()
    if args.json:
        args.json.touch()  # fails before measuring if the file is not writable
    records: list[dict[str, Any]] = []
    if args.all:
        print(title(args.measure), flush=True)
    for name in names() if args.all else [args.config]:
        named = _with_reference(load_named(name), args)
        counts = count(named, min(args.tokens, named.reference.max_length))
        measured = measure(named, counts.tokens, args.train_batch) if args.measure or not args.all else None
        print(line(counts, measured) if args.all else details(counts, measured), flush=True)
        records.append(_record(counts, measured))
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.summary", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="a name of configs/model or a YAML file of a model")
    parser.add_argument("--all", action="store_true", help="every configuration of configs/model, a line each")
    parser.add_argument("--measure", action="store_true", help="with --all: memory and latency too, which takes minutes")
    parser.add_argument("--json", type=Path, help="write the same metrics to this file: a list with an object for each")
    parser.add_argument("--tokens", type=_positive, default=60, help="length of the texts (default %(default)s)")
    parser.add_argument("--train-batch", type=_positive, default=4, help="images of the training step (default %(default)s)")
    for name in ("num-classes", "max-length", "height", "width"):
        parser.add_argument(f"--{name}", type=_positive, help="override the reference's")
    args = parser.parse_args()
    if bool(args.config) == args.all:
        parser.error("give a CONFIG, or --all")
    return args


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:12]) <= MAX_SIZE:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 to {MAX_SIZE}")
    return int(text)


def _with_reference(named: NamedConfig, args: argparse.Namespace) -> NamedConfig:
    given = {key: getattr(args, key) for key in ("num_classes", "max_length", "height", "width")}
    return replace(named, reference=replace(named.reference, **{key: value for key, value in given.items() if value}))


def _record(counts: Counts, measured: Measurement | None) -> dict[str, Any]:
    return asdict(counts) | ({} if measured is None else {"measured": asdict(measured)})


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ModelConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
