"""Datasets: prepared, synthesized, stored as Parquet shards, and streamed to whoever consumes them."""
