"""The Ray session and what the cluster can offer. Knows nothing of data, models or training."""

from cluster.signals import end_quietly_while_importing

end_quietly_while_importing()  # before anything that takes time to import
