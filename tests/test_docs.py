"""The documentation refers only to what exists: links, anchors, files, modules, configuration keys."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from tests.support.places import ROOT
from trainers.config.train import TrainConfig

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "configs" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CHANGELOG = ROOT / "CHANGELOG.md"  # names old keys, too
EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

# A file of the repository, as documentation names it; folders end in `/`.
FILE = re.compile(
    r"(?<![\w./:~-])((?:trainers|data_pipeline|models|cluster|tests|configs|benchmarks|docs)/[\w./-]*[\w/]|\.ci/[\w-]+)(?![\w{*<])"
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(linked), f"{target}: no such heading"


@EACH
def test_every_module_and_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    for module in set(re.findall(r"(?:python|torchrun [^\n]*?) -m ([a-z_.]+[a-z_])", text)):
        if module != "benchmarks":  # python -m benchmarks.NAME
            assert find_spec(module) is not None, f"python -m {module}"
    for name in set(FILE.findall(text)):
        assert "NAME" in name or (ROOT / name).exists(), name


def keys(kind: Any, prefix: str = "") -> set[str]:
    """All dotted keys of a dataclass, sections included."""
    found = set()
    for name, hint in get_type_hints(kind).items():
        found.add(prefix + name)
        if is_dataclass(hint):
            found |= keys(hint, f"{prefix}{name}.")
    return found


KEYS = keys(TrainConfig)
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key}
# `section.key`, alone or before `=value`.
KEY = re.compile(rf"(?<![\w./])((?:{'|'.join(sorted(SECTIONS))})(?:\.(?!py\b|md\b)[a-z_]+)+)(?=[=`, \n])")


@EACH
def test_every_configuration_key_that_is_named_exists(page: Path) -> None:
    for key in set(KEY.findall(page.read_text())):
        assert key in KEYS, f"{key} is no key of a configuration"


def test_the_named_recognizers_are_the_files() -> None:
    table = (ROOT / "configs" / "README.md").read_text()
    for file in (ROOT / "configs" / "model").glob("*.yaml"):
        family = re.sub(r"_(?:[1-4]|8_of_128|[0-9]+)$", "", file.stem)
        assert f"`{file.stem}`" in table or f"`{family}" in table, file.name
