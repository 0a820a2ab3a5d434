"""What moves the weights: optimizer and parameter groups, the rate's schedule, and what is frozen for how long."""

from trainers.config.optim import OptimConfig, ScheduleConfig
from trainers.optim.freezing import Freezing
from trainers.optim.groups import describe_groups
from trainers.optim.lr_scaling import scaled_lr
from trainers.optim.optimizer import build_optimizer, load_optimizer
from trainers.optim.schedule import Schedule

__all__ = [
    "Freezing",
    "OptimConfig",
    "Schedule",
    "ScheduleConfig",
    "build_optimizer",
    "describe_groups",
    "load_optimizer",
    "scaled_lr",
]
