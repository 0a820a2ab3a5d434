"""The optimizers that a configuration may name: those of timm, most of which are torch's or timm's own."""

from __future__ import annotations

import inspect

import torch

USUAL = ("adamw", "adam", "adamp", "lamb", "sgd", "lion")  # what an error proposes

# timm gives these classes for these names; to import it takes two seconds, which most runs can do without.
PLAIN: dict[str, type[torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def optimizer_class(name: str) -> type[torch.optim.Optimizer] | None:
    """The class of that name, None for one that Inkray does not take: unknown, of another package, of second order."""
    if name in PLAIN:
        return PLAIN[name]
    from timm.optim import get_optimizer_info, list_optimizers

    if name not in list_optimizers():
        return None
    info = get_optimizer_info(name)
    usable = isinstance(info.opt_class, type) and not info.second_order
    return info.opt_class if usable else None


def arguments(kind: type[torch.optim.Optimizer]) -> list[str]:
    """The names of the arguments that an optimizer's class is built with."""
    return [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "params", "kwargs")]
