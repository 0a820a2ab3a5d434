"""Parts of `benchmarks.gpu`: `check` lists what is checked, `throughput`, `decode` and `stream` measure."""
