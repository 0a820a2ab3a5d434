"""Averages of the weights over the steps of a run, which often read better than the weights of its last step."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_swa_multi_avg_fn

from trainers.config.weight_averaging import AveragingName, WeightAveragingConfig
from trainers.optim.freezing import frozen_statistics

Batch = TypeVar("Batch")


class Averaging:
    """No average: `network` is the network that is trained. Averages have the same interface.

    `network`, here as there, is the one to validate and to store.
    """

    def __init__(self, network: nn.Module, config: WeightAveragingConfig, total_steps: int) -> None:
        self.trained, self.config = network, config
        self.start = round(config.start * total_steps)

    @property
    def network(self) -> nn.Module:
        """The network with averaged weights, on the device of the trained one."""
        return self.trained

    @property
    def needs_statistics(self) -> bool:
        """Whether `gather_statistics` has something to do before `network` is of use."""
        return False

    def lr_override(self, step: int) -> float | None:
        """The share of the peak at which the rate of step number `step`, from 0, is held, None where it is the schedule's."""
        return None

    def update(self, steps: int) -> None:
        """An optimizer step was taken, the one that makes `steps` of them in the run."""

    def end_epoch(self) -> None:
        """An epoch is over."""

    def gather_statistics(self, forward: Callable[[nn.Module, Batch], Any], batches: Iterable[Batch]) -> None:
        """Make ready `network`, where it needs it, by `forward(network, batch)` of some `batches`."""

    def state_dict(self) -> dict[str, Tensor]:
        """What the average has gathered, besides the trained weights."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state_dict`."""

    def describe(self) -> list[str]:
        """A line, if there is an average."""
        return []


class ExponentialAverage(Averaging):
    """An exponential average of weights and statistics after each step (Polyak and Juditsky 1992), timm's.

    It begins with the weights after the first step.
    """

    def __init__(self, network: nn.Module, config: WeightAveragingConfig, total_steps: int) -> None:
        super().__init__(network, config, total_steps)
        from timm.utils import ModelEmaV3  # here, not above: it takes two seconds

        self._average = ModelEmaV3(network, decay=config.decay, use_warmup=config.warmup)
        _make_ready(self._average.module, network)

    @property
    def network(self) -> nn.Module:
        """The network with averaged weights."""
        return self._average.module

    def update(self, steps: int) -> None:
        """Take the trained weights into the average."""
        self._average.update(self.trained, step=steps)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights and statistics."""
        return self._average.module.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state_dict`."""
        self._average.module.load_state_dict(state)

    def describe(self) -> list[str]:
        """What is averaged and how."""
        return [f"the exponential average of the weights is validated and stored (decay {self.config.decay})"]


class StochasticAverage(Averaging):
    """The mean of the weights at points of the last part of a run (stochastic weight averaging, Izmailov et al. 2018)."""

    def __init__(self, network: nn.Module, config: WeightAveragingConfig, total_steps: int) -> None:
        super().__init__(network, config, total_steps)
        self._average = copy.deepcopy(network)
        _make_ready(self._average, network)
        self._count = 0  # of what is averaged
        self._steps = 0

    @property
    def network(self) -> nn.Module:
        """The network with averaged weights; before there are any, the trained one."""
        return self._average if self._count else self.trained

    @property
    def needs_statistics(self) -> bool:
        """Whether there are averaged weights and layers whose statistics are not theirs."""
        return self._count > 0 and bool(self._layers())

    def lr_override(self, step: int) -> float | None:
        """From the beginning of the last part the configured share, if there is one."""
        return self.config.lr_scale if self.config.lr_scale and step >= self.start else None

    def update(self, steps: int) -> None:
        """Take the trained weights into the mean, if it is time."""
        self._steps = steps
        if self.config.every_steps and steps % self.config.every_steps == 0 and steps >= self.start:
            self._take()

    def end_epoch(self) -> None:
        """Take the trained weights into the mean, if ends of epochs are the time for it."""
        if not self.config.every_steps and self._steps >= self.start:
            self._take()

    @torch.no_grad()
    def _take(self) -> None:
        get_swa_multi_avg_fn()(list(self._average.parameters()), list(self.trained.parameters()), self._count)
        # Of buffers those that are stored: a table of positions may have grown in one network and not in the other.
        averaged, trained = self._average.state_dict(), self.trained.state_dict()
        for name in averaged.keys() - {name for name, _ in self._average.named_parameters()}:
            averaged[name].copy_(trained[name])
        self._count += 1

    @torch.no_grad()
    def gather_statistics(self, forward: Callable[[nn.Module, Batch], Any], batches: Iterable[Batch]) -> None:
        """Give BatchNorm layers the mean statistics of the first `statistics_batches` of `batches`.

        Layers whose parameters are frozen keep theirs. Nothing else is in training mode, so that dropout does not widen the
        variances. Without a batch nothing changes.
        """
        if not self.needs_statistics:
            return
        some = itertools.islice(batches, self.config.statistics_batches)
        first = next(some, None)
        if first is None:
            return
        layers = self._layers()
        momenta = [layer.momentum for layer in layers]
        self._average.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.train().momentum = None  # each batch counts alike
        for batch in itertools.chain([first], some):
            forward(self._average, batch)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.eval().momentum = momentum

    def _layers(self) -> list[_BatchNorm]:
        """The averaged network's layers whose statistics follow from weights that moved."""
        frozen = set(frozen_statistics(self.trained))
        pairs = zip(self._average.modules(), self.trained.modules(), strict=True)
        return [
            average
            for average, trained in pairs
            if isinstance(average, _BatchNorm) and average.track_running_stats and trained not in frozen
        ]

    def state_dict(self) -> dict[str, Tensor]:
        """The mean and what it is of how many."""
        return {"count": torch.tensor(self._count), **self._average.state_dict(prefix="network.")}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state_dict`."""
        self._count = int(state["count"])
        weights = {name.removeprefix("network."): tensor for name, tensor in state.items() if name != "count"}
        self._average.load_state_dict(weights)

    def describe(self) -> list[str]:
        """What is averaged and how."""
        points = f"every {self.config.every_steps} steps" if self.config.every_steps else "at the ends of epochs"
        return [f"the mean of the weights {points} from step {self.start:,} on is validated and stored"]


AVERAGES: dict[AveragingName, type[Averaging]] = {"none": Averaging, "ema": ExponentialAverage, "swa": StochasticAverage}


def build_averaging(network: nn.Module, config: WeightAveragingConfig, total_steps: int) -> Averaging:
    """The configured average of `network`, which is on its device and not wrapped for DDP, over a run of `total_steps`."""
    return AVERAGES[config.name](network, config, total_steps)


def _make_ready(average: nn.Module, network: nn.Module) -> None:
    average.eval().requires_grad_(False)
    average.to(next(network.parameters()).device)  # it is there already; an LSTM's weights are laid out as one again
