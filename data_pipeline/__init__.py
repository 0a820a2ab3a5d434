"""Datasets: prepared, synthesized, stored as Parquet shards, and streamed to their consumers."""

import cluster  # noqa: F401  # first: Ctrl-C is quiet while a command imports
