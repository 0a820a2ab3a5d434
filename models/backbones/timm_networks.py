"""Networks of timm: made by name, and freed of what features do without.

Legend: B batch, C channels, h w height and width of the features.
"""

import difflib
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.hub import impatient_hub
from models.checks import is_rate
from models.errors import ModelConfigError

SET_BY_US = ("pretrained", "checkpoint_path", "num_classes", "global_pool", "in_chans", "features_only", "out_indices")


def unknown_name(key: str, name: str, known: Sequence[str], kind: str = "model") -> ModelConfigError:
    """The error for a name that is none of the `known`, with those nearest to it."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or _of_close_beginning(name, known)
    hint = f"; the nearest are {', '.join(close)}" if close else ""
    return ModelConfigError(f"{key}.name", f"timm has no {kind} {name!r}{hint}")


def _of_close_beginning(name: str, known: Sequence[str]) -> list[str]:
    """For the beginnings of long names."""
    beginnings = {full[: len(name)]: full for full in reversed(known)}
    return [beginnings[close] for close in difflib.get_close_matches(name, beginnings, n=3, cutoff=0.7)]


def refuse_taken(key: str, options: Mapping[str, Any], ours: Container[str]) -> None:
    """Raises ModelConfigError for `options` of the section `key` that are among those that are not the user's to give."""
    taken = [option for option in options if option in ours]
    if taken:
        raise ModelConfigError(f"{key}.options", f"{', '.join(taken)} follows from other settings; leave it out")


def create_network(key: str, name: str, in_channels: int, pretrained: bool, options: Mapping[str, Any]) -> Any:
    """A headless network of timm. `key` is the section of the config that names it, `options` are for timm.create_model.

    Raises:
        ModelConfigError: a name, options or pretrained weights that timm does not have.
    """
    import timm  # here, not above: it takes a second, and the small configuration does without

    if not timm.is_model(name):
        raise unknown_name(key, name, timm.list_models())
    refuse_taken(key, options, SET_BY_US)
    for option, value in options.items():
        if str(option).endswith("_rate") and value is not None:
            is_rate(value, f"{key}.options.{option}")
    hub = impatient_hub() if pretrained and timm.get_pretrained_cfg(name).hf_hub_id else nullcontext()
    try:
        with hub:
            net = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="", in_chans=in_channels, **options)
    except Exception as error:  # timm, the hub's client and the transport below it raise errors of many unrelated classes
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            raise ModelConfigError(f"{key}.options", f"{name!r} does not know one of {', '.join(options)}: {error}") from error
        if "Invalid pretrained tag" in str(error):
            raise unknown_name(key, name, timm.list_models(pretrained=True), "pretrained model") from error
        if pretrained:
            raise ModelConfigError(
                f"{key}.pretrained",
                f"the weights of {name!r} are not to be had ({type(error).__name__}: {error}); "
                "connect to the hub, fill its cache, or set it to false",
            ) from error
        part = "options" if options else "name"
        raise ModelConfigError(f"{key}.{part}", f"timm cannot build {name!r} so: {type(error).__name__}: {error}") from error
    from models.backbones.squeeze_excite import make_lean

    make_lean(net)
    return net


def drop_unused(net: nn.Module, features: Tensor, again: Callable[[], object]) -> None:
    """Takes out of `net` what had no part in `features`, which it has just computed with gradients.

    A classifier's norm, the head behind a tapped stage and the like would never be given a gradient. Where the network
    cannot do without (`again` computes the features once more), it is kept and frozen.
    """
    used = _leaves(features)
    dropped = _drop(net, used)
    try:
        with torch.no_grad():
            again()
    except Exception:  # of whatever class the network raises
        for module, name, part in dropped:
            setattr(module, name, part)
    for parameter in net.parameters():
        if id(parameter) not in used:
            parameter.requires_grad_(False)


def _drop(module: nn.Module, used: set[int]) -> list[tuple[nn.Module, str, nn.Module | nn.Parameter]]:
    """What was dropped: (owner, name, part)."""
    dropped: list[tuple[nn.Module, str, nn.Module | nn.Parameter]] = []
    for name, parameter in list(module.named_parameters(recurse=False)):
        if id(parameter) not in used:
            dropped.append((module, name, parameter))
            setattr(module, name, None)
    for name, child in list(module.named_children()):
        parameters = [id(parameter) for parameter in child.parameters()]
        if parameters and used.isdisjoint(parameters):
            dropped.append((module, name, child))
            setattr(module, name, nn.Identity())
        else:
            dropped += _drop(child, used)
    return dropped


def _leaves(result: Tensor) -> set[int]:
    """The ids of the parameters in the graph of `result`."""
    leaves: set[int] = set()
    seen: set[Any] = set()
    stack: list[Any] = [result.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        stack += [before for before, _ in node.next_functions]
    return leaves
