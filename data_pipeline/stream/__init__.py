"""From shards to batches. `plan` is the order, `tasks` read and decode, `batch` pads, `stream` joins them on Ray Data."""

from data_pipeline.stream.batch import Batch
from data_pipeline.stream.config import StreamConfig
from data_pipeline.stream.plan import Position
from data_pipeline.stream.stream import EvaluationStream, TrainStream

__all__ = ["Batch", "EvaluationStream", "Position", "StreamConfig", "TrainStream"]
