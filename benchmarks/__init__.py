"""Timings beside their peers. Nothing here is a test: nothing fails on a time."""

import cluster  # noqa: F401  # first: Ctrl-C is quiet while a benchmark imports
