"""The report of a run: one HTML page with its images, a model card, tables of metrics. Plain data in, files out."""
