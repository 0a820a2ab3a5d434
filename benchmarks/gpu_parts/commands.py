"""Whole runs as a user starts them: to the report, under torchrun, killed and resumed."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from benchmarks.gpu_parts.compare import difference, in_words, within_noise
from benchmarks.gpu_parts.outcome import require
from benchmarks.gpu_parts.processes import ROOT, Command
from benchmarks.gpu_parts.scene import SMALL_IMAGES, Scene

TIMEOUT_S = 400
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node=1", "-m", "trainers.train")


def whole_run(scene: Scene) -> str:
    """`python -m trainers.train --local` to its table and its report, and the same under torchrun."""
    readings, good = [], True
    with contextlib.ExitStack() as stack:
        local = _train(scene, stack, "local", *_words(scene, f"epochs={scene.many(12, tiny=1)}"))
        torchrun = _started(scene, stack, "torchrun", *TORCHRUN, *_words(scene, "epochs=1"))
        for command in (local, torchrun):
            command.wait(TIMEOUT_S)
            lines = command.output.splitlines()
            on = _first(lines, "1 worker on ")
            report = next(iter((scene.scratch / "runs").glob(f"{_run_of(lines)}/report/index.html")), None)
            table = "; ".join(" ".join(line.split()) for line in lines if line.startswith(("test ", "val ")))
            readings.append(
                f"{command.log.stem}: status {command.status} in {command.seconds:.0f} s, {on[:60]}; {table[:200]}; "
                f"report: {report is not None}"
            )
            good = good and command.status == 0 and bool(table) and report is not None and ("worker on cpu" in on) != scene.gpu
            readings += ["\n".join(lines)[-600:]] if command.status else []
    require(good, " | ".join(readings))
    return " | ".join(readings)


def killed(scene: Scene) -> str:
    """A run that is killed and resumed ends as the one in one go; how far that one is from its twin, beside it."""
    epochs, every = (1, 1) if scene.tiny else (10, 20)
    wanted = ["data.val_split=", "data.test_split=", f"epochs={epochs}", f"checkpoint.every_steps={every}", "checkpoint.keep=1"]
    others = ("whole", "twin") if scene.gpu else ("whole",)
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Command:
            return _train(scene, stack, name, *_words(scene, *wanted, f"name={name}"))

        cut = start("cut")
        beside = {name: start(name) for name in others if scene.gpu}  # on a CPU one after the other
        deadline = time.monotonic() + TIMEOUT_S
        while "Checkpoint checkpoint-" not in cut.output and cut.status is None and time.monotonic() < deadline:
            time.sleep(0.02)
        unfinished = cut.status is None
        cut.kill()
        run = _run_of(cut.output.splitlines())
        require(unfinished and bool(run), f"it was over before it was killed: {cut.output[-300:]}")
        resumed = _train(scene, stack, "resumed", "--resume", str(scene.scratch / "runs" / run))
        resumed.wait(TIMEOUT_S)
        for name in others:
            (beside[name] if name in beside else start(name)).wait(TIMEOUT_S)
        ends = {name: _last_weights(scene, name) for name in ("cut", *others)}
    far = difference(ends["cut"], ends["whole"])
    noise = difference(ends["twin"], ends["whole"]) if "twin" in ends else 0.0
    at = _first(resumed.output.splitlines(), "Resumed") or resumed.output[-300:]
    reading = f"{at}; resumed and whole {in_words(far)}" + (f"; whole twice {in_words(noise)}" if "twin" in ends else "")
    require(resumed.status == 0 and within_noise(far, noise), reading)
    return reading


def _started(scene: Scene, stack: contextlib.ExitStack, name: str, *words: str) -> Command:
    command = Command(words, scene.out / f"{name}.log", scene.scratch)
    stack.callback(command.kill)
    return command


def _train(scene: Scene, stack: contextlib.ExitStack, name: str, *words: str) -> Command:
    return _started(scene, stack, name, "trainers.train", "--local", *words)


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
