"""Benchmarks `python -m benchmarks.models [NAME ...]`: the recognizers against straightforward implementations.

Each time is a median over interleaved rounds; weights are random, images are noise.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.interleaved import medians
from benchmarks.machine import machine
from benchmarks.satrn_as_written import SatrnAsWritten
from models import Decoding, Memory, ModelOutput, Recognizer, build_model
from models.backbones.instance_norm import InstanceNorm
from models.presets import load_named
from models.summary.measure import random_images, random_targets, suppress_eos, total_loss


@dataclass(frozen=True)
class Result:
    """Median seconds by implementation, and their interpretation."""

    title: str
    seconds: dict[str, float]
    reading: str


def recognizer(name: str) -> Recognizer:
    """Recognizer of a named configuration with random weights that never emits EOS."""
    torch.manual_seed(0)
    named = load_named(name)
    return suppress_eos(build_model(named.config, named.reference.output_spec()).eval())


def images_for(model: Recognizer, name: str, batch: int) -> Tensor:
    """Noise images of the reference size of a configuration."""
    return random_images(model, load_named(name), batch)


@torch.inference_mode()
def rerun(model: Recognizer, memory: Memory, steps: int) -> Tensor:
    """Greedy decoding that runs the decoder on the whole prefix for each token."""
    prefix = torch.full((memory.tokens.shape[0], 1), model.output_spec.bos_id)
    for _ in range(steps):
        prefix = torch.cat([prefix, model.decoder(prefix, memory)[:, -1:].argmax(-1)], 1)
    return prefix


@torch.inference_mode()
def stepwise(model: Recognizer, memory: Memory, steps: int) -> Tensor:
    """Greedy decoding with the cache."""
    cache = model.decoder.start(memory, steps)
    tokens = torch.full((memory.tokens.shape[0],), model.output_spec.bos_id)
    seen = [tokens]
    for _ in range(steps):
        tokens = model.decoder.step(tokens, cache).argmax(-1)
        seen.append(tokens)
    return torch.stack(seen, 1)


def cached_decoding(rounds: int) -> Result:
    """Cached against uncached decoding: 231 greedy steps of the SATRN baseline, batch 4, 1,024 positions."""
    model = recognizer("satrn_baseline")
    with torch.inference_mode():
        memory = model.encode(images_for(model, "satrn_baseline", 4))
    if not torch.equal(rerun(model, memory, 8), stepwise(model, memory, 8)):
        raise RuntimeError("the two implementations decode different texts")
    ways: dict[str, Callable[[], object]] = {
        "cached": lambda: stepwise(model, memory, 231),
        "prefix re-run": lambda: rerun(model, memory, 231),
    }
    seconds = medians(ways, max(1, rounds // 2))
    ratio = seconds["prefix re-run"] / seconds["cached"]
    return Result("231 decoder steps, SATRN baseline, batch 4, 128x512", seconds, f"{ratio:.1f} times as fast as re-running")


def beam(rounds: int, name: str = "satrn_small") -> Result:
    """Beam search of 5 beams against greedy decoding at batch 16, with and without the encoder."""
    model = recognizer(name)
    images = images_for(model, name, 16)
    greedy, wide = Decoding(max_length=60), Decoding(method="beam", beam_size=5, max_length=60)
    ways: dict[str, Callable[[], object]] = {
        "encoder alone": lambda: encode(model, images),
        "greedy": lambda: model.generate(images, greedy),
        "beam 5": lambda: model.generate(images, wide),
    }
    seconds = medians(ways, rounds)
    whole = seconds["beam 5"] / seconds["greedy"]
    alone = (seconds["beam 5"] - seconds["encoder alone"]) / (seconds["greedy"] - seconds["encoder alone"])
    reading = f"beam costs {whole:.2f} times greedy (decoding alone {alone:.2f} times)"
    return Result(f"Beam 5, batch 16, 60 tokens, {name}", seconds, reading)


@torch.inference_mode()
def encode(model: Recognizer, images: Tensor) -> Memory:
    """Encodes images without gradients."""
    return model.encode(images)


class EndsAt(nn.Module):
    """Output head that emits EOS at a given step."""

    def __init__(self, head: nn.Module, eos_id: int, step: int) -> None:
        super().__init__()
        self.head, self.eos_id, self.step, self.calls = head, eos_id, step, 0

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits, with EOS the most probable token in that step."""
        self.calls += 1
        logits: Tensor = self.head(x)
        return logits.index_fill(-1, torch.tensor(self.eos_id), 1e4) if self.calls == self.step else logits


def early_stop(rounds: int) -> Result:
    """Early stop: texts of 20 tokens against texts at the limit of 231."""
    model = recognizer("satrn_baseline")
    images = images_for(model, "satrn_baseline", 4)
    inner, spec = model.decoder.head, model.output_spec
    assert isinstance(inner, nn.Module)

    def read(step: int, limit: int) -> int:
        head = EndsAt(inner, spec.eos_id, step)
        model.decoder.head = head
        model.generate(images, Decoding(max_length=limit))
        return head.calls

    steps = read(20, 231)
    ways: dict[str, Callable[[], object]] = {
        "encoder alone": lambda: encode(model, images),
        "texts of 20 tokens": lambda: read(20, 231),
        "texts of 231 tokens": lambda: read(232, 231),
    }
    return Result("Early stop, SATRN baseline, batch 4, limit 231", medians(ways, rounds), f"{steps} steps for 20 tokens")


def aster_projection(rounds: int) -> Result:
    """Attention of ASTER: the 903 positions of the map projected once, against in each step."""
    model = recognizer("aster")
    with torch.inference_mode():
        memory = model.encode(images_for(model, "aster", 4))
    calls = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal calls
        calls += inputs[0].shape[-1] == memory.tokens.shape[-1] and inputs[0].shape[-2] == memory.tokens.shape[-2]

    hooks = [m.register_forward_hook(count) for m in model.decoder.modules() if isinstance(m, nn.Linear)]
    stepwise(model, memory, 60)
    for hook in hooks:
        hook.remove()

    @torch.inference_mode()
    def project_each_step() -> None:
        for _ in range(60):
            model.decoder.start(memory, 60)
        stepwise(model, memory, 60)

    ways: dict[str, Callable[[], object]] = {
        "once": lambda: stepwise(model, memory, 60),
        "at each step": project_each_step,
    }
    return Result("60 decoder steps, ASTER, batch 4, 128x512", medians(ways, rounds), f"projections of the map: {calls}")


def instance_norm(rounds: int) -> Result:
    """Instance norm of the handwritten-line recognizers, forward and backward, against torch's."""
    shapes = [(8, 32, 64, 512), (8, 64, 32, 256), (8, 128, 16, 128), (8, 128, 8, 128), (8, 256, 4, 128), (8, 256, 2, 128)]
    maps = [torch.randn(shape, requires_grad=True) for shape in shapes]

    def run(norms: list[nn.Module]) -> None:
        for norm, x in zip(norms, maps, strict=True):
            norm(x).sum().backward()
            x.grad = None

    ours = [InstanceNorm(shape[1]) for shape in shapes]
    torchs = [nn.InstanceNorm2d(shape[1]) for shape in shapes]
    ways: dict[str, Callable[[], object]] = {"ours": lambda: run([*ours]), "nn.InstanceNorm2d": lambda: run([*torchs])}
    seconds = medians(ways, 3 * rounds)
    reading = f"{seconds['ours'] / seconds['nn.InstanceNorm2d']:.2f} times nn.InstanceNorm2d"
    return Result("Instance norm, the six maps of 8 64x512 images", seconds, reading)


def satrn_final(rounds: int) -> Result:
    """Training step and greedy decoding of the largest SATRN, against its source's implementation."""
    model = recognizer("satrn_final")
    plain = SatrnAsWritten(model)
    images, ids = images_for(model, "satrn_final", 4), random_targets(model, 4, 60)
    decoding = Decoding(max_length=60)
    if not torch.equal(plain.greedy(images, 60), model.generate(images, decoding).token_ids):
        raise RuntimeError("the two implementations decode different texts")
    with torch.inference_mode():
        memory = model.encode(images)

    def step(dtype: torch.dtype | None) -> None:
        model.train()
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            output = model(images, ids)
        total_loss(output, ids).backward()
        model.zero_grad()

    def plain_step() -> None:
        plain.model.train()
        total_loss(ModelOutput(plain.logits(ids, plain.encode(images))), ids).backward()
        plain.model.zero_grad()

    def read(dtype: torch.dtype | None) -> None:
        model.eval()
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            model.generate(images, decoding)

    def plain_read() -> None:
        plain.model.eval()
        plain.greedy(images, 60)

    def steps() -> None:
        model.eval()
        stepwise(model, memory, 60)

    def plain_steps() -> None:
        plain.model.eval()
        plain.decode(memory, 60)

    ways: dict[str, Callable[[], object]] = {
        "step as written": plain_step,
        "step": lambda: step(None),
        "step, bf16": lambda: step(torch.bfloat16),
        "greedy as written": plain_read,
        "greedy": lambda: read(None),
        "greedy, bf16": lambda: read(torch.bfloat16),
        "60 decoder steps as written": plain_steps,
        "60 decoder steps": steps,
    }
    seconds = medians(ways, rounds)

    def ratio(way: str, ours: str) -> str:
        return f"{seconds[way + ' as written'] / seconds[ours]:.2f}"

    reading = (
        f"step {ratio('step', 'step')} times as fast ({ratio('step', 'step, bf16')} in bf16), "
        f"greedy {ratio('greedy', 'greedy')} times ({ratio('greedy', 'greedy, bf16')}), "
        f"decoder steps {ratio('60 decoder steps', '60 decoder steps')} times"
    )
    return Result("SATRN final, batch 4, 128x512, 60 tokens", seconds, reading)


BENCHMARKS: dict[str, Callable[[int], Result]] = {
    "cached": cached_decoding,
    "beam": beam,
    "beam_baseline": lambda rounds: beam(rounds, "satrn_baseline"),
    "early_stop": early_stop,
    "aster": aster_projection,
    "norm": instance_norm,
    "final": satrn_final,
}


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; without one all of them")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="default %(default)s")
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; choose from {', '.join(BENCHMARKS)}")
    torch.set_num_threads(args.threads)
    print(f"{machine()}; {args.threads} threads, medians of interleaved rounds", flush=True)
    records = []
    for name in args.names or BENCHMARKS:
        result = BENCHMARKS[name](args.rounds)
        print(f"\n{result.title}\n" + "\n".join(f"  {way:32} {1e3 * s:9.1f} ms" for way, s in result.seconds.items()))
        print(f"  -> {result.reading}", flush=True)
        records.append({"name": name, "title": result.title, "seconds": result.seconds, "reading": result.reading})
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "threads": args.threads, "results": records}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
