"""Parts of a network that are not trained, for some epochs or for good."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import nn

from cluster.errors import UserError

FOR_GOOD = -1


class Freezing:
    """Which parameters are trained in an epoch: a function of its number and of patterns of their names.

    `patterns` says for how many epochs from the first what it matches is frozen, -1 for good; of several patterns that match
    a parameter the one that holds it longest counts.
    """

    def __init__(self, network: nn.Module, patterns: Mapping[str, int]) -> None:
        """Raises UserError: a pattern matches no parameter, or nothing would be left to train."""
        self._network, self._patterns = network, dict(patterns)
        self._parameters = dict(network.named_parameters())
        for pattern in self._patterns:
            if not self._matched(pattern):
                raise UserError(f"optim.freeze: '{pattern}' matches no parameter. {self._examples()}")
        if self._frozen(0) == set(self._parameters):
            raise UserError(f"optim.freeze: {', '.join(self._patterns)} leaves no parameter to train. Freeze less.")
        self._still: list[nn.Module] = []

    def _matched(self, pattern: str) -> list[str]:
        return [name for name in self._parameters if fnmatchcase(name, pattern)]

    def _examples(self) -> str:
        """One parameter of each part of the network."""
        firsts: dict[str, str] = {}
        for name in self._parameters:
            firsts.setdefault(name.partition(".")[0], name)
        return f"There are {', '.join(firsts.values())} and more; * stands for anything, as in {next(iter(firsts))}.*"

    def _frozen(self, epoch: int) -> set[str]:
        held = [pattern for pattern, epochs in self._patterns.items() if epochs == FOR_GOOD or epoch < epochs]
        return {name for pattern in held for name in self._matched(pattern)}

    def begin_epoch(self, epoch: int) -> bool:
        """Freeze what is frozen in `epoch`, from 0, and let the rest go; whether anything changed.

        After a change a network has to be wrapped for DDP again, which looks for parameters to train only then.
        """
        frozen = self._frozen(epoch)
        changed = False
        for name, parameter in self._parameters.items():
            if parameter.requires_grad == (name in frozen):
                changed = True
                parameter.requires_grad_(name not in frozen)
                parameter.grad = None  # of an earlier step: an optimizer would use it again
        self._still = frozen_statistics(self._network)
        return changed

    def keep_still(self) -> None:
        """Let frozen layers use their running statistics and leave them as they are; to be called after `train()`."""
        for module in self._still:
            module.eval()

    def describe(self) -> list[str]:
        """A line for each pattern, and how much is trained at first."""
        lines = [
            f"{pattern}: frozen {'for good' if epochs == FOR_GOOD else f'in the first {epochs} epochs'} "
            f"({sum(self._parameters[name].numel() for name in self._matched(pattern)):,} parameters)"
            for pattern, epochs in self._patterns.items()
            if epochs
        ]
        trained = sum(parameter.numel() for name, parameter in self._parameters.items() if name not in self._frozen(0))
        total = sum(parameter.numel() for parameter in self._parameters.values())
        return [*lines, f"{trained:,} of {total:,} parameters are trained in the first epoch"] if lines else []


def frozen_statistics(network: nn.Module) -> list[nn.Module]:
    """The layers with running statistics (BatchNorm, say) that belong to what is frozen.

    A layer's own parameters say so, or those of the next larger module that has any where it has none itself.
    """
    modules = dict(network.named_modules())
    found = []
    for name, module in modules.items():
        if getattr(module, "running_mean", None) is None:
            continue
        while name and next(modules[name].parameters(), None) is None:
            name = name.rpartition(".")[0]
        if not any(parameter.requires_grad for parameter in modules[name].parameters()):
            found.append(module)
    return found
