"""Metrics of a run on the cluster's dashboard: gauges that Ray exports to Prometheus, as `ray_inkray_...`."""

from __future__ import annotations

from ray.util.metrics import Gauge

_DESCRIPTIONS = {
    "train/loss": "training loss per target (nats per token)",
    "data/images_per_s": "images trained on per second, over all workers",
    "data/wait_share": "share of the time in which workers waited for data",
    "data/read_mb_per_s": "megabytes per second read from the dataset's storage",
    "data/cache_hit_share": "share of row groups that came from the cache",
    "data/padding_share": "share of the pixels of batches that are padding",
    "data/decode_ms": "milliseconds of decoding and augmenting per image",
    "data/retries": "attempts of reading that failed, since the last reading",
    "data/rejected": "images that could not be used, since the last reading",
}


class Gauges:
    """Gauges of one run."""

    def __init__(self, run: str) -> None:
        self._tags = {"run": run}
        self._gauges = {
            key: Gauge("inkray_" + key.partition("/")[2], description=text, tag_keys=("run",))
            for key, text in _DESCRIPTIONS.items()
        }

    def set(self, metrics: dict[str, float]) -> None:
        """Show these metrics; those without a gauge are left out."""
        for key, gauge in self._gauges.items():
            if key in metrics:
                gauge.set(metrics[key], tags=self._tags)
