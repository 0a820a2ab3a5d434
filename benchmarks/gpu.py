"""`python -m benchmarks.gpu PART [--out DIR]`: does training work on this GPU, and how fast is it?

    check        every part of a step that is different on a GPU, each compared with what it should equal
    throughput   images/s of recognizers, each beside a loop of bare torch with its batches on the device
    decode       images/s of greedy, beam and two-way decoding at batches of 1, 64 and 256
    stream       what the cores feed, beside DataLoader, and what feeding costs the training loop

Needs torch, not Ray. Two datasets of formulas are synthesized into `--data` unless they are there. A log, JSON and profiles
go to `--out` as soon as they are known; what fails does not keep the rest from running. `--tiny` does as little as possible,
on a CPU too. Exit status 1 says that something failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts import check, decoding, stream, throughput
from benchmarks.gpu_parts.datasets import synthesize
from benchmarks.gpu_parts.outcome import GOOD, Outcome, OutOfTime, outcome_of, table
from benchmarks.gpu_parts.processes import ROOT, Command
from benchmarks.gpu_parts.scene import Scene, machine
from cluster.arguments import whole_number
from cluster.errors import run_command

Checks = Mapping[str, Callable[[Scene], str]]
PARTS: dict[str, Checks] = {
    "check": check.CHECKS,
    "throughput": throughput.MEASUREMENTS,
    "decode": {model: decoding.speed(model) for model in decoding.MEASURED},
    "stream": stream.MEASUREMENTS,
}
# With --tiny and no names: what runs in seconds on a CPU. The rest runs by name, and differs in its recognizer alone.
TINY: dict[str, tuple[str, ...]] = {
    "check": tuple(name for name in check.CHECKS if name not in ("compiling", "whole_run", "killed")),
    "throughput": ("satrn_small bf16",),
    "decode": ("satrn_small",),
    "stream": ("decoding",),
}
LIMITS_S = {"check": 280, "throughput": 460, "decode": 280, "stream": 400}


class Part:
    """A part that runs: outcomes are printed and written as soon as they are known. `ends`: when its time is up."""

    def __init__(self, name: str, scene: Scene, limit_s: int) -> None:
        self.name, self.scene = name, scene
        self.outcomes: list[Outcome] = []
        self.ends = time.monotonic() + limit_s

    def run(self, checks: Checks) -> None:
        """Run checks in this process, one after the other."""
        for name, run in checks.items():
            with _alarm(self.ends - time.monotonic()):
                self.add(outcome_of(name, lambda run=run: run(self.scene)))  # type: ignore[misc]
            self.scene.free()

    def add(self, outcome: Outcome) -> None:
        """Note an outcome."""
        self.outcomes.append(outcome)
        print(outcome.line(), flush=True)
        found = {
            "machine": machine(self.scene.device),
            "tiny": self.scene.tiny,
            "outcomes": [o.to_json() for o in self.outcomes],
        }
        (self.scene.out / f"{self.name}.json").write_text(json.dumps(found, indent=1))


class Beside:
    """A check that runs in a process of its own, with a folder of its own for its output."""

    def __init__(self, name: str, scene: Scene, arguments: list[str]) -> None:
        self._name, self._found = name, scene.out / name / "check.json"
        self._found.unlink(missing_ok=True)  # of an earlier run
        words = ["benchmarks.gpu", "check", name, "--out", str(scene.out / name), *arguments]
        # Its scratch lies in ours, which is removed however it ends.
        self._command = Command(words, scene.out / name / "log.txt", scene.scratch, {"TMPDIR": str(scene.scratch)})

    def outcome(self, ends: float) -> Outcome:
        """Its outcome; it is ended once the time is up."""
        self._command.wait(max(0.1, ends + 1 - time.monotonic()))
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            return Outcome(**json.loads(self._found.read_text())["outcomes"][0])
        if time.monotonic() >= ends:
            return Outcome(self._name, "OUT OF TIME", "", round(self._command.seconds, 1))
        lines = self._command.output.splitlines()
        return Outcome(self._name, "BROKEN", " ".join(lines[-2:])[-400:], round(self._command.seconds, 1))

    def kill(self) -> None:
        """End it, if it still runs."""
        self._command.kill()


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Inside, OutOfTime is raised once `seconds` have passed."""

    def out_of_time(number: int, frame: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("only", nargs="*", metavar="NAME", help="some of the part; without one, all of it")
    parser.add_argument(
        "--data", type=Path, default=ROOT / "data/gpu", help="folder of the datasets (default data/gpu of the checkout)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of all that comes out (default %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="as little as shows that the script runs")
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    parser.add_argument("--limit", type=whole_number(1), help="seconds of the whole part")
    args = parser.parse_intermixed_args(arguments)
    checks = PARTS[args.part]
    if unknown := [name for name in args.only if name not in checks]:
        parser.error(f"'{unknown[0]}' is not in {args.part}, which has: {', '.join(checks)}")
    out, data = args.out.resolve(), (args.data / "tiny" if args.tiny else args.data).resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(str(error))
    device = torch.device("cuda", 0) if torch.cuda.is_available() and not args.cpu else torch.device("cpu")
    print(machine(device), flush=True)
    synthesize(data, args.tiny)
    names = args.only or (TINY[args.part] if args.tiny else checks)
    flags = ["--data", str(args.data.resolve()), *(["--tiny"] if args.tiny else []), *(["--cpu"] if args.cpu else [])]
    with tempfile.TemporaryDirectory(prefix="inkray-gpu-") as scratch:
        scene = Scene(device, args.tiny, data, Path(scratch), out)
        part = Part(args.part, scene, args.limit or LIMITS_S[args.part])
        _run(part, {name: run for name, run in checks.items() if name in names}, flags)
    text = table(part.outcomes)
    (out / f"{args.part}.md").write_text(f"{machine(device)}\n\n{text}\n")
    print(f"\n{text}", flush=True)
    return 0 if all(outcome.status in GOOD for outcome in part.outcomes) else 1


def _run(part: Part, chosen: Checks, flags: list[str]) -> None:
    """Run what fills the memory first, then the rest, with what takes long in processes beside it."""
    alone = [name for name in chosen if part.name == "check" and name in check.ALONE]
    beside = [name for name in chosen if part.name == "check" and name in check.BESIDE and len(chosen) > 1]
    part.run({name: chosen[name] for name in alone})
    with contextlib.ExitStack() as stack:
        started = []
        for name in beside:
            limit = str(max(1, int(part.ends - time.monotonic())))
            started.append(Beside(name, part.scene, [*flags, "--limit", limit]))
            stack.callback(started[-1].kill)
        part.run({name: run for name, run in chosen.items() if name not in (*alone, *beside)})
        for process in started:
            part.add(process.outcome(part.ends))


if __name__ == "__main__":
    run_command(main)
