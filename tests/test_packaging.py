"""`pip install -e .` finds all packages, and the files that they read."""

from __future__ import annotations

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import PurePosixPath

from tests.support.places import ROOT

SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
OURS = [pattern.removesuffix("*") for pattern in SETUPTOOLS["packages"]["find"]["include"]]


def test_every_folder_with_code_is_a_package() -> None:
    assert sorted(OURS) == ["cluster", "data_pipeline", "models", "trainers"]
    folders = {file.parent for name in OURS for file in (ROOT / name).rglob("*.py")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").exists()]


def test_every_other_file_of_a_package_is_package_data() -> None:
    patterns = SETUPTOOLS["package-data"]["*"]
    tracked = subprocess.run(["git", "ls-files", *OURS], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in map(PurePosixPath, tracked):
        if name.suffix != ".py":
            package = next(folder for folder in name.parents if (ROOT / folder / "__init__.py").exists())
            inside = str(name.relative_to(package))
            assert any(fnmatch(inside, pattern) for pattern in patterns), f"{name}: not in package-data of pyproject.toml"
