"""Splits and folds of labeled rows: random, stratified by one or several labels, and with groups that stay whole."""

from data_pipeline.preparation.splitting.split import split_folds, split_shares

__all__ = ["split_folds", "split_shares"]
