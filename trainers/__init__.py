"""Where a stream of images meets a network: training, evaluation, prediction and studies."""

from cluster.environment import set_environment_defaults

set_environment_defaults()  # before torch is imported: OpenMP reads its settings once
