"""Datasets: prepared, synthesized, stored as Parquet shards, and streamed to whoever consumes them."""

import cluster  # noqa: F401  # first: Ctrl-C is quiet while a command imports
