"""From shards to batches.

`plan` is the order, `read` fetches rows, `batch` decodes and pads them; `threads` or `ray_tasks` carry it out.
"""

from data_pipeline.stream.batch import Batch
from data_pipeline.stream.config import CacheConfig, StreamConfig
from data_pipeline.stream.costs import Costs
from data_pipeline.stream.plan import Position
from data_pipeline.stream.stream import EvaluationStream, TrainStream

__all__ = ["Batch", "CacheConfig", "Costs", "EvaluationStream", "Position", "StreamConfig", "TrainStream"]
