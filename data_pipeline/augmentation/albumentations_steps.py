"""Transforms of albumentations 2.0 as steps; this file alone imports it, and only where one is declared.

A transform keeps its random state and its last parameters in itself, so each thread has its own copy. Both generators that
it draws from are set for every image: the result follows from the step's generator alone.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import os
import random
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from cluster.errors import UserError
from cluster.yaml_text import one_line, shown
from data_pipeline.augmentation.arguments import number, read_arguments, share, unknown
from data_pipeline.augmentation.step import Step

NAME = "albumentations"
FORM = "{albumentations: {Name: {argument: value}}}, or a list of such transforms"
INSTALL = "pip install -e '.[augment]'"

_TENSORS = ("ToTensorV2", "ToTensor3D")
# Not to be declared: bases of the others, and what takes functions.
_ABSTRACT = ("BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D", "Lambda", *_TENSORS)
_TRANSFORMS = "transforms"

Declared = dict[str, dict[str, Any]]  # the name of a transform and its arguments, among these perhaps other transforms


@dataclass(frozen=True)
class _Sequential:
    p: float = share(0.5)


@dataclass(frozen=True)
class _OneOf:
    p: float = share(0.5)


@dataclass(frozen=True)
class _SomeOf:
    n: int = number(1, 1, 1000)
    replace: bool = False
    p: float = share(1.0)


_COMPOSITIONS: dict[str, type] = {"Sequential": _Sequential, "OneOf": _OneOf, "SomeOf": _SomeOf, "RandomOrder": _SomeOf}
_of_thread = threading.local()
_building = threading.Lock()


@dataclass(frozen=True)
class AlbumentationsStep(Step):
    """A transform of albumentations, or a composition of some, by what was declared of it."""

    name: ClassVar[str] = NAME
    holds_lock: ClassVar[bool] = True

    declared: str  # as JSON: steps are compared, hashed and sent to other processes

    @property
    def transform(self) -> str:
        """The transform's name."""
        return next(iter(json.loads(self.declared)))

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The transformed image; raises ValueError for a result of another size or type."""
        built = vars(_of_thread)
        if self.declared not in built:
            built[self.declared] = _compose(json.loads(self.declared))
        compose = built[self.declared]
        compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        result = compose(image=pixels.copy())["image"]  # a copy: some transforms write to what they are given
        if not isinstance(result, np.ndarray) or result.shape != pixels.shape or result.dtype != pixels.dtype:
            raise ValueError(f"{self.transform} made {_described(result)} of {_described(pixels)}")
        return result

    def certain(self) -> Sequence[Step]:
        """Every transform in it, with probability 1."""
        return tuple(AlbumentationsStep(json.dumps(leaf)) for leaf in _leaves(json.loads(self.declared)))

    def require(self) -> None:
        """Check that albumentations can be imported; raises UserError."""
        _library()


def read_transforms(value: Any, key: str) -> tuple[list[Step], list[str]]:
    """The steps that `value`, written at `key`, declares, and what is wrong with it.

    Where albumentations is not installed names and arguments are taken as they are: a checkpoint is read without it.
    """
    steps: list[Step] = []
    problems = []
    for place, item in ((f"{key}[{i}]", each) for i, each in enumerate(value)) if isinstance(value, list) else [(key, value)]:
        declared, wrong = _read(item, place)
        problems += wrong
        if declared is not None:
            steps.append(AlbumentationsStep(json.dumps(declared)))
    if not steps and not problems:
        problems.append(f"{key}: names no transform. Write {FORM}")
    return steps, problems


@functools.cache
def _library() -> ModuleType:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import would ask PyPI for its newest version
    # A process that only decodes has no torch: 600 MB and 3 s for transforms that make tensors, which none of its steps may.
    without_torch = "torch" not in sys.modules
    if without_torch:
        sys.modules["torch"] = None  # type: ignore[assignment]  # what imports it gets an ImportError
    try:
        return import_module(NAME)
    except ImportError as error:
        raise UserError(
            f"Steps of albumentations are declared, and it cannot be imported ({one_line(error)}). Run {INSTALL}, on every "
            "machine of a cluster, or take these steps out of stream.augmentation."
        ) from None
    finally:
        if without_torch:
            del sys.modules["torch"]


@functools.cache
def _names() -> tuple[str, ...]:
    library = _library()
    kinds = {name: kind for name, kind in vars(library).items() if inspect.isclass(kind)}
    names = sorted(name for name, kind in kinds.items() if issubclass(kind, library.BasicTransform) and name not in _ABSTRACT)
    return (*names, *_COMPOSITIONS)


def _read(item: Any, key: str) -> tuple[Declared | None, list[str]]:
    """A transform in its full form, and what is wrong with it."""
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, dict) or len(item) != 1:
        return None, [f"{key}={shown(item)}: write {FORM}"]
    ((name, arguments),) = item.items()
    arguments = {} if arguments is None else arguments
    if name in _TENSORS:
        return None, [f"{key}={name}: batches become tensors by themselves. Leave it out"]
    installed = find_spec(NAME) is not None
    if installed and name not in _names():
        return None, [f"{key}={shown(name)}: {unknown('transform', name, _names(), NAME)}"]
    place = f"{key}.{name}"
    if not isinstance(arguments, dict):
        return None, [f"{place}={shown(arguments)}: the arguments of {name} are a mapping, as in {{{name}: {{p: 0.5}}}}"]
    declared: Declared = {str(name): dict(arguments)}
    if name in _COMPOSITIONS:
        problems = _read_composition(name, declared[name], place)
    else:
        problems = list(_not_finite(arguments, place))
        problems = problems or (_problems_of(name, arguments, place) if installed else [])
    return (None, problems) if problems else (declared, [])


def _read_composition(name: str, arguments: dict[str, Any], place: str) -> list[str]:
    """Bring the transforms of a composition into their full form; returns what is wrong with it."""
    inner = arguments.pop(_TRANSFORMS, None)
    _, problems = read_arguments(_COMPOSITIONS[name], name, arguments, place)
    if not isinstance(inner, list) or not inner:
        return [
            *problems,
            f"{place}.{_TRANSFORMS}={shown(inner)}: a list of transforms, as in [HorizontalFlip, {{Blur: {{}}}}]",
        ]
    read = [_read(each, f"{place}.{_TRANSFORMS}[{index}]") for index, each in enumerate(inner)]
    problems += [problem for _, wrong in read for problem in wrong]
    most = 1000 if arguments.get("replace") is True else len(inner)
    if not problems and arguments.get("n", 1) > most:
        problems.append(f"{place}.n={arguments['n']}: at most {most}, as many as there are transforms")
    arguments[_TRANSFORMS] = [declared for declared, _ in read]
    return problems


def _not_finite(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_finite(item, f"{place}.{name}" if isinstance(value, dict) else f"{place}[{name}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{place}={value}: a finite number"


def _problems_of(name: str, arguments: dict[str, Any], place: str) -> list[str]:
    """What is wrong with the arguments of one transform: albumentations itself only warns about unknown ones."""
    valid = [
        each for each in inspect.signature(getattr(_library(), name).__init__).parameters if each not in ("self", "strict")
    ]
    wrong = [f"{place}.{shown(each)}: {unknown('argument', each, valid, name)}" for each in arguments if each not in valid]
    if wrong:
        return wrong
    try:
        _build({name: arguments})
    except Exception as error:  # whatever a constructor makes of a wrong value
        details = getattr(error.__cause__, "errors", None)  # pydantic's, one for each argument
        found = details() if callable(details) else []
        return [_detail(each, arguments, place) for each in found] or [f"{place}: {one_line(error)}"]
    return []


def _detail(detail: dict[str, Any], arguments: dict[str, Any], place: str) -> str:
    argument = next((str(part) for part in detail["loc"]), "")
    message = one_line(ValueError(detail["msg"]))
    if argument not in arguments:  # left out, or a rule about several
        return f"{place}{'.' * bool(argument)}{argument}: {message}"
    return f"{place}.{argument}={shown(arguments[argument])}: {message}"


def _compose(declared: Declared) -> Any:
    return _library().Compose([_build(declared)])


def _build(declared: Declared) -> Any:
    ((name, arguments),) = declared.items()
    library = _library()
    if name in _COMPOSITIONS:
        inner = [_build(each) for each in arguments[_TRANSFORMS]]
        return getattr(library, name)(inner, **{key: value for key, value in arguments.items() if key != _TRANSFORMS})
    # Strict: what its own check cannot handle is an error, too. What is left of its warnings are other names for a transform.
    with _building, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = getattr(library, name)
        checked = next(each for each in kind.__mro__ if "__init__" in vars(each))
        return kind(**arguments, **({"strict": True} if "InitSchema" in vars(checked) else {}))


def _leaves(declared: Declared) -> Iterator[Declared]:
    ((name, arguments),) = declared.items()
    if name in _COMPOSITIONS:
        for each in arguments[_TRANSFORMS]:
            yield from _leaves(each)
    else:
        yield {name: {**arguments, "p": 1.0}}


def _described(image: Any) -> str:
    return f"{'x'.join(map(str, image.shape))} {str(image.dtype).removeprefix('torch.')}"
