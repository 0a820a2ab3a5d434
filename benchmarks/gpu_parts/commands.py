"""Whole runs as a user starts them: to the report, under torchrun, killed and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from benchmarks.gpu_parts.compare import difference, in_words
from benchmarks.gpu_parts.outcome import require
from benchmarks.gpu_parts.scene import SMALL_IMAGES, Scene

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 200
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node=1", "-m", "trainers.train")


class Command:
    """A command in a process of its own, in the repository's root; its output goes to a file of the scene."""

    def __init__(self, scene: Scene, name: str, *words: str) -> None:
        self.file = scene.out / f"{name}.log"
        self.started = time.monotonic()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        with self.file.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=scene.scratch, stdout=out, stderr=subprocess.STDOUT, env=environment
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self.file.read_text()

    def wait(self) -> str:
        """What it printed; it has ended."""
        try:
            self.process.wait(TIMEOUT_S)
        finally:
            self.kill()
        return self.output

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)


def whole_run(scene: Scene) -> str:
    """`python -m trainers.train --local` to its table and its report, and the same under torchrun."""
    runs = {
        "local": Command(scene, "local", "trainers.train", "--local", *_words(scene, f"epochs={scene.many(12, tiny=1)}")),
        "torchrun": Command(scene, "torchrun", *TORCHRUN, *_words(scene, "epochs=1")),
    }
    readings, good = [], True
    try:
        for name, command in runs.items():
            lines, code = command.wait().splitlines(), command.process.returncode
            seconds = time.monotonic() - command.started
            on = _first(lines, " workers on ")
            report = next(iter((scene.scratch / "runs").glob(f"{_run_of(lines)}/report/index.html")), None)
            table = "; ".join(" ".join(line.split()) for line in lines if line.startswith(("test ", "val ")))
            readings.append(f"{name}: status {code} in {seconds:.0f} s, {on[:60]}; {table[:200]}; report: {report is not None}")
            good = good and code == 0 and bool(table) and report is not None and ("workers on cpu" in on) != scene.gpu
            readings += ["\n".join(lines)[-600:]] if code else []
    finally:
        for command in runs.values():
            command.kill()
    require(good, " | ".join(readings))
    return " | ".join(readings)


def killed(scene: Scene) -> str:
    """A run that is killed and resumed ends as the one in one go; how far that one is from its twin, beside it."""
    epochs, every = (1, 1) if scene.tiny else (10, 20)
    wanted = ["data.val_split=", "data.test_split=", f"epochs={epochs}", f"checkpoint.every_steps={every}", "checkpoint.keep=1"]
    names = ("cut", "whole", "twin") if scene.gpu else ("cut", "whole")

    def start(name: str) -> Command:
        return Command(scene, name, "trainers.train", "--local", *_words(scene, *wanted, f"name={name}"))

    commands = {name: start(name) for name in (names if scene.gpu else names[:1])}  # one after the other on a CPU
    try:
        cut, deadline = commands["cut"], time.monotonic() + TIMEOUT_S
        while "Checkpoint checkpoint-" not in cut.output and cut.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        unfinished = cut.process.poll() is None
        cut.kill()
        run = _run_of(cut.output.splitlines())
        require(unfinished and bool(run), f"it was over before it was killed: {cut.output[-300:]}")
        commands["resumed"] = Command(
            scene, "resumed", "trainers.train", "--local", "--resume", str(scene.scratch / "runs" / run)
        )
        resumed = commands["resumed"].wait()
        for name in names[1:]:
            if name not in commands:
                commands[name] = start(name)
            commands[name].wait()
    finally:
        for command in commands.values():
            command.kill()
    ends = {name: _last_weights(scene, name) for name in names}
    far = difference(ends["cut"], ends["whole"])
    noise = difference(ends["twin"], ends["whole"]) if "twin" in ends else 0.0
    at = _first(resumed.splitlines(), "Resumed") or resumed[-300:]
    reading = f"{at}; resumed and whole {in_words(far)}" + (f"; whole twice {in_words(noise)}" if "twin" in ends else "")
    good = commands["resumed"].process.returncode == 0 and far <= (max(10 * noise, 1e-3) if noise else 0.0)
    require(good, reading)
    return reading


def _words(scene: Scene, *overrides: str) -> list[str]:
    """Arguments of a run of the small SATRN."""
    few = ["data.train_split=test", "data.test_split=val"] if scene.tiny else []
    return [str(ROOT / "configs/train/formulas.yaml"), *scene.overrides("satrn_small", SMALL_IMAGES, 64), *few, *overrides]


def _first(lines: list[str], part: str) -> str:
    return next((line for line in lines if part in line), "")


def _run_of(lines: list[str]) -> str:
    """The name of the folder of the run that printed these lines."""
    words = _first(lines, "Run ").split()
    return Path(words[1]).name if len(words) > 1 else ""


def _last_weights(scene: Scene, name: str) -> dict[str, Tensor]:
    (run,) = (scene.scratch / "runs").glob(f"{name}-2*")
    last = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    weights: dict[str, Tensor] = load_file(last / "model.safetensors")
    return weights
