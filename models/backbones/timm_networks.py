"""Creation of timm networks by name, and removal of modules that features do not need.

Legend: B batch, C channels, h w height and width of the features.
"""

import difflib
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.hub import hub_with_timeout
from models.checks import check_rate
from models.errors import ModelConfigError

RESERVED_OPTIONS = ("pretrained", "checkpoint_path", "num_classes", "global_pool", "in_chans", "features_only", "out_indices")
HEADLESS: Mapping[str, Any] = {"num_classes": 0, "global_pool": ""}


def unknown_name_error(key: str, name: str, known: Sequence[str], kind: str = "model") -> ModelConfigError:
    """Error for a name that is not among the `known`, with the nearest ones."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or _close_prefixes(name, known)
    hint = f"; the nearest are {', '.join(close)}" if close else ""
    return ModelConfigError(f"{key}.name", f"timm has no {kind} {name!r}{hint}")


def _close_prefixes(name: str, known: Sequence[str]) -> list[str]:
    """Names whose beginning is close to `name`."""
    prefixes = {full[: len(name)]: full for full in reversed(known)}
    return [prefixes[close] for close in difflib.get_close_matches(name, prefixes, n=3, cutoff=0.7)]


def check_reserved(key: str, options: Mapping[str, Any], reserved: Container[str]) -> None:
    """Raises ModelConfigError for `options` of the section `key` that other settings determine."""
    taken = [option for option in options if option in reserved]
    if taken:
        raise ModelConfigError(f"{key}.options", f"{', '.join(taken)} follows from other settings; leave it out")


def create_network(
    key: str,
    name: str,
    in_channels: int,
    pretrained: bool,
    options: Mapping[str, Any],
    end: Mapping[str, Any] = HEADLESS,
) -> Any:
    """Creates a timm network, headless by default.

    `key` is its config section, `options` are for timm.create_model, as are the arguments of `end`: how the network ends.

    Raises:
        ModelConfigError: a name, options or pretrained weights that timm does not have.
    """
    import timm  # imported here: it takes a second, and the small configuration does not need it

    if not timm.is_model(name):
        raise unknown_name_error(key, name, timm.list_models())
    check_reserved(key, options, RESERVED_OPTIONS)
    for option, value in options.items():
        if str(option).endswith("_rate") and value is not None:
            check_rate(value, f"{key}.options.{option}")
    hub = hub_with_timeout() if pretrained and timm.get_pretrained_cfg(name).hf_hub_id else nullcontext()
    try:
        with hub:
            net = timm.create_model(name, pretrained=pretrained, in_chans=in_channels, **end, **options)
    except Exception as error:  # timm, the hub's client and its transport raise errors of many unrelated classes
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            for setting in end:
                if f"'{setting}'" in str(error):
                    raise ModelConfigError(f"{key}.{setting}", f"{name!r} has none; leave it out") from error
            raise ModelConfigError(f"{key}.options", f"{name!r} rejects one of {', '.join(options)}: {error}") from error
        if "Invalid pretrained tag" in str(error):
            raise unknown_name_error(key, name, timm.list_models(pretrained=True), "pretrained model") from error
        if pretrained:
            raise ModelConfigError(
                f"{key}.pretrained",
                f"cannot load the weights of {name!r} ({type(error).__name__}: {error}); "
                "connect to the hub, fill its cache, or set it to false",
            ) from error
        part = "options" if options else "name"
        raise ModelConfigError(f"{key}.{part}", f"timm cannot build {name!r}: {type(error).__name__}: {error}") from error
    from models.backbones.squeeze_excite import make_lean

    make_lean(net)
    return net


def drop_unused(net: nn.Module, features: Tensor, recompute: Callable[[], object]) -> None:
    """Removes from `net` the modules that did not contribute to `features`, computed with gradients just before.

    A classifier's norm or the stages after a tapped one would never have a gradient. Where the network fails without them
    (`recompute` computes the features again), they are kept and frozen.
    """
    used = _leaves(features)
    dropped = _drop(net, used)
    try:
        if dropped:
            with torch.no_grad():
                recompute()
    except Exception:  # a network may raise errors of any class
        for module, name, part in dropped:
            setattr(module, name, part)
    for parameter in net.parameters():
        if id(parameter) not in used:
            parameter.requires_grad_(False)


def _drop(module: nn.Module, used: set[int]) -> list[tuple[nn.Module, str, nn.Module | nn.Parameter]]:
    """Removes unused parts and returns them: (owner, name, part)."""
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
    """Ids of the parameters in the autograd graph of `result`."""
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
