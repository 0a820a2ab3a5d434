"""Where a stream of images meets a network: training, evaluation, prediction and studies."""
