"""The Ray session and what the cluster can offer. Knows nothing of data, models or training."""
