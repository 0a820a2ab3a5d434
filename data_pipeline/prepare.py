"""`python -m data_pipeline.prepare KIND SOURCE OUT`: prepare real inputs, in parallel, dropping nothing silently."""

from __future__ import annotations

import argparse

from cluster.errors import run_command
from data_pipeline.importers.crohme import command as crohme
from data_pipeline.importers.labels import folder_command, letters_command, manifest_command

# What each module has: HELP, add_arguments(parser), run(args), and a docstring that explains its SOURCE.
KINDS = {"folder": folder_command, "letters": letters_command, "manifest": manifest_command, "crohme": crohme}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data_pipeline.prepare", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND", title="kinds of sources")
    for name, module in KINDS.items():
        kind = kinds.add_parser(
            name, help=module.HELP, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(kind)
    args = parser.parse_args()
    return KINDS[args.kind].run(args)


if __name__ == "__main__":
    run_command(main)
