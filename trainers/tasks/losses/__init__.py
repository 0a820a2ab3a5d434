"""The losses of a token sequence, each summed over what it is over, so that ranks can add theirs up.

`sequence_loss` is the one door; a file behind it holds one kind of loss.
"""

from trainers.config.loss import LossConfig, without_training_terms
from trainers.tasks.losses.sequence import sequence_loss
from trainers.tasks.losses.targets import Targets, counted_positions

__all__ = ["LossConfig", "Targets", "counted_positions", "sequence_loss", "without_training_terms"]
