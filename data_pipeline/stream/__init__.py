"""Streaming of a dataset: from shards to batches.

`plan` decides the order, `reader` fetches row groups, `collator` makes arrays of rows; `threads`, `process` or `ray_tasks`
carry it out.
"""

from data_pipeline.stream.batch import Batch
from data_pipeline.stream.config import CacheConfig, StreamConfig
from data_pipeline.stream.plan import StreamPosition
from data_pipeline.stream.stats import StreamStats
from data_pipeline.stream.stream import EvaluationStream, TrainStream

__all__ = ["Batch", "CacheConfig", "EvaluationStream", "StreamConfig", "StreamPosition", "StreamStats", "TrainStream"]
