"""`python -m trainers.solo`: another name of `python -m trainers.train --local`, kept for scripts."""

from __future__ import annotations

import os
import sys

from cluster.errors import run_command
from trainers import train


def main() -> int:
    """Run the command line."""
    if os.environ.get("RANK", "0") == "0":
        print("trainers.solo is now: python -m trainers.train --local", file=sys.stderr, flush=True)
    return train.main("trainers.solo", local=True)


if __name__ == "__main__":
    run_command(main)
