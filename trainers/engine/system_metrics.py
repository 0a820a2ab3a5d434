"""Use of the machine by a training worker: processor, memory, GPU."""

from __future__ import annotations

import psutil
import torch

MB = 2**20


class SystemMetrics:
    """Metrics of this process and its machine, each over the time since the last reading."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._process = device, psutil.Process()
        psutil.cpu_percent()  # its first answer is of no time at all
        self._has_utilization = device.type == "cuda"

    def read(self) -> dict[str, float]:
        """`system/cpu_percent` of all cores of the machine, `system/memory_mb` of this process; on CUDA also
        `system/gpu_memory_mb`, the most that tensors took, and `system/gpu_percent`, where the driver's library is there.

        Nothing waits for the GPU.
        """
        metrics = {
            "system/cpu_percent": psutil.cpu_percent(),
            "system/memory_mb": self._process.memory_info().rss / MB,
        }
        if self._device.type == "cuda":
            metrics["system/gpu_memory_mb"] = torch.cuda.max_memory_allocated(self._device) / MB
            torch.cuda.reset_peak_memory_stats(self._device)
        return metrics | self._utilization()

    def _utilization(self) -> dict[str, float]:
        if not self._has_utilization:
            return {}
        try:
            return {"system/gpu_percent": float(torch.cuda.utilization(self._device))}
        except Exception:  # without NVML's Python package, or its right to ask, there is no such metric: never ask again
            self._has_utilization = False
            return {}
