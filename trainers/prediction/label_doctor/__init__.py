"""The label doctor: labels of a dataset that are likely wrong, found in out-of-fold predictions, for people to review."""
