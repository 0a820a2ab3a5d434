"""Splits and folds of labeled rows: random, stratified by one or several labels, and with groups that stay whole."""

from data_pipeline.preparation.splitting.split import rare_classes, split_folds, split_shares

__all__ = ["rare_classes", "split_folds", "split_shares"]
