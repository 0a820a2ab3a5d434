"""`python -m data_pipeline.synthesize formulas|letters|faces OUT`: a dataset of drawn images.

Sample i of seed S is a function of (S, i), so the bytes are the same at any number of workers.
"""

from __future__ import annotations

import argparse

from cluster.errors import run_command
from cluster.session import ray_session
from data_pipeline.storage.base import open_storage
from data_pipeline.synthesis.faces import command as faces
from data_pipeline.synthesis.formulas import command as formulas
from data_pipeline.synthesis.letters import command as letters

KINDS = {"formulas": formulas, "letters": letters, "faces": faces}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m data_pipeline.synthesize", description=(__doc__ or "").splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="|".join(KINDS))
    for name, kind in KINDS.items():
        summary = (kind.__doc__ or "").splitlines()[0]
        kind.add_arguments(kinds.add_parser(name, help=summary, description=kind.__doc__))
    args = parser.parse_args()
    open_storage(args.out)  # an invalid URI is reported before a session starts
    run = KINDS[args.kind].plan(args)
    with ray_session():
        run()
    return 0


if __name__ == "__main__":
    run_command(main)
