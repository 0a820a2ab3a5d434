"""The README's commands and its Python snippet, run on small data: what it promises works as it is written.

Every command of the README stands in `COMMANDS` with what makes it small; one that is missing there fails the tests.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.preparation.images import encode_png
from tests.support.commands import command_here
from tests.support.ink_document import inkml
from tests.support.overrides import SMALL
from tests.support.places import ROOT
from trainers.config.load import load_config

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
RUN = re.findall(r"runs/formulas-[\w-]+", TEXT)[0]

KINDS = ("data_pipeline.synthesize", "data_pipeline.prepare")  # commands with a kind
TINY = ["--count", "40", "--val-count", "8", "--test-count", "8"]
TRAINING = [*SMALL, "epochs=1", "global_batch_size=20", "scaling.num_train_workers=1"]
# The head of each command: what is added to it to make it small; None: it is not run here, but checked below.
COMMANDS: dict[str, list[str] | None] = {
    "python -m data_pipeline.synthesize formulas": TINY,
    "python -m data_pipeline.prepare crohme": ["--height", "32", "--width", "64"],
    "python -m data_pipeline.prepare folder": ["--size", "32"],
    "python -m data_pipeline.explore": ["--count", "4"],
    "python -m data_pipeline.bench": ["--seconds", "0.05", "--batch-size", "8", "--no-ray"],
    "python -m trainers.train": TRAINING,
    "python -m trainers.train --resume": ["epochs=2"],
    "python -m trainers.evaluate": [],
    "python -m trainers.predict": [],
    "python -m trainers.tune": TRAINING,
    "python -m models.summary": ["--tokens", "4", "--train-batch", "1"],
    "make train": None,
    ". .venv/bin/activate": None,
    "ray up": None,
    "ray dashboard": None,
    "ray job submit": None,
}


def head(words: list[str]) -> str:
    """What identifies a command: the program and the module, and its kind or subcommand."""
    if words[:2] == ["python", "-m"]:
        return " ".join(words[:4] if words[3:4] == ["--resume"] or words[2] in KINDS else words[:3])
    return " ".join(words[: 3 if words[:2] == ["ray", "job"] else 2])


def commands() -> list[list[str]]:
    """The words of every command line, in order, without repetitions."""
    lines = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for index, words in enumerate(split) if words and words not in split[:index]]


def command(name: str) -> list[str]:
    """The words of the one command with this head."""
    (words,) = [words for words in commands() if head(words) == name]
    return words


def test_every_command_is_known() -> None:
    assert {head(words) for words in commands()} == set(COMMANDS)
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "text"}


def test_make_runs_the_commands_that_the_readme_names() -> None:
    for target, part in [("train", "-m trainers.train configs/train/formulas.yaml"), ("test", "-m pytest")]:
        assert f"make {target}" in TEXT
        # The environment is not made here: to make sees it as made.
        done = subprocess.run(["make", "-n", "-o", ".venv/.ready", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and part in done.stdout, done.stderr


def test_the_cluster_files_and_the_submitted_command_are_real() -> None:
    for name in ("ray up", "ray dashboard"):
        assert yaml.safe_load((ROOT / command(name)[2]).read_text())["cluster_name"]
    words = command("ray job submit")
    assert words[3:7] == ["--address", "http://localhost:8265", "--working-dir", "."]
    entry = words[words.index("--") + 1 :]
    assert entry[:3] == ["python", "-m", "trainers.train"]
    config = load_config(ROOT / entry[3], entry[4:])
    assert config.scaling.num_train_workers == 8 and config.scaling.use_gpu


@pytest.fixture(scope="module")
def folder(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to run the commands in: configurations, an InkML formula and a photo of nothing."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "photos").mkdir()
    (folder / "photos" / "noise.png").write_bytes(encode_png(np.full((40, 60), 255, np.uint8)))
    (folder / "crohme").mkdir()
    (folder / "crohme" / "one.inkml").write_bytes(inkml(latex="$a + b$"))
    for number in range(20):
        image = folder / "masks" / str(number % 2) / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(encode_png(np.full((40, 40), 10 * number, np.uint8)))
    for name in ("models", "configs"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def run(words: list[str], *more: str) -> str:
    """Run a command in this process, and in its session; return what it printed."""
    arguments = [word.replace("~", str(Path.cwd())) for word in [*words[3:], *more]]
    module = "models.summary.__main__" if words[2] == "models.summary" else words[2]
    finished = command_here(module, *arguments)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def small(name: str, *more: str) -> str:
    """Run the README's command with this head, made small."""
    return run(command(name), *(COMMANDS[name] or []), *more)


@pytest.mark.services
@pytest.mark.ray
def test_the_commands_and_the_snippet_do_what_the_readme_says(folder: Path) -> None:
    small("python -m data_pipeline.synthesize formulas")
    images = read_split(open_dataset("data/formulas"), "test", ["image"]).column("image").to_pylist()
    for name, data in zip(("formula.png", "second.png"), images, strict=False):
        (folder / "photos" / name).write_bytes(data)
    assert "1 formulas, 0 rejected" in small("python -m data_pipeline.prepare crohme")
    assert "0 0" in small("python -m data_pipeline.prepare folder") and open_dataset("data/masks").manifest.task == "multiclass"
    assert "40 rows" in small("python -m data_pipeline.explore") and (folder / "grid.png").exists()
    assert "images/s" in small("python -m data_pipeline.bench")

    printed = small("python -m trainers.train")
    trained = re.search(r"^Run (\S+)$", printed, re.MULTILINE)
    assert trained and "test, always answering" in printed
    shutil.move(trained[1], folder / RUN)
    report = folder / RUN / "report"
    assert (report / "index.html").exists() and (report / "model_card.md").exists()
    # The lines that the README shows are those that a run prints, with other numbers; "..." stands for the rest of a line.
    shown = next(block for kind, block in BLOCKS if kind == "text").splitlines()
    lines = [shape(line) for line in printed.splitlines()]
    assert [line for line in map(shape, shown) if not any(one.startswith(line.removesuffix(" ...")) for one in lines)] == []

    assert "Resumed from" in small("python -m trainers.train --resume")
    assert "8 rows" in small("python -m trainers.evaluate")
    assert "predictions/: 3 predictions, 0 of them" in small("python -m trainers.predict")

    (snippet,) = [block for kind, block in BLOCKS if kind == "python"]
    assert sum(bool(line.strip()) for line in snippet.splitlines()) <= 8
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(snippet, "README.md", "exec"), {})
    assert out.getvalue().endswith("\n")

    arms = yaml.safe_load((ROOT / command("python -m trainers.tune")[3]).read_text())["arms"]
    table = small("python -m trainers.tune")
    assert all(f"{arm} " in table for arm in arms) and "FAILED" not in table

    assert "parameters" in small("python -m models.summary")


def shape(line: str) -> str:
    """A line of output without what differs from run to run: numbers, "1 worker", paths, quoted names, widths of columns."""
    line = re.sub(r"'.*?'", "'...'", re.sub(r"\S*/\S*report/", "REPORT/", line))
    return " ".join(re.sub(r"\bworkers\b", "worker", re.sub(r"\d[\d.,e+-]*", "0", line)).split())
